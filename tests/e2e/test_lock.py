"""The lock of an output folder between processes."""

import subprocess
import sys

import pytest

from refine.io.files import Busy, Lock


def test_a_killed_process_frees_the_lock(tmp_path):
    code = "import sys; from pathlib import Path; from refine.io.files import Lock\n"
    code += "lock = Lock(Path(sys.argv[1]), 'a', lambda: None); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(Busy):
            Lock(tmp_path / "lock", "b", lambda: None)
        process.kill()
    Lock(tmp_path / "lock", "b", lambda: None).release()
