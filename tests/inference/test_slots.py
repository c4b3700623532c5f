"""Jobs beside each other take GPUs of their own."""

import os
import subprocess
import sys

import pytest

from refine.inference import slots
from refine.inference.slots import VISIBLE, own_device


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """A process that has not taken a GPU yet."""
    monkeypatch.setattr(slots, "_taken", [])


@pytest.mark.parametrize(("visible", "device"), [("3,5", "3"), ("GPU-ab", "GPU-ab"), (None, "0")])
def test_a_job_sees_one_of_the_gpus_it_may_use(tmp_path, monkeypatch, visible, device):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv(VISIBLE, visible or "")  # so that it is taken back, which the job does not
    if visible is None:
        monkeypatch.delenv(VISIBLE)
    with own_device(tmp_path) as own:
        assert own == device == os.environ[VISIBLE]


def test_without_gpus_nothing_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    for visible in (None, ""):
        monkeypatch.delenv(VISIBLE, raising=False)
        if visible is not None:
            monkeypatch.setenv(VISIBLE, visible)
        with own_device(tmp_path) as own:
            assert own is None and os.environ.get(VISIBLE) == visible
    assert list(tmp_path.iterdir()) == []


def test_a_process_keeps_to_its_first_gpu_whatever_it_reads_later(tmp_path, monkeypatch):
    monkeypatch.setenv(VISIBLE, "1,0")
    for _ in range(2):
        with own_device(tmp_path) as own:
            assert own == "1"
        monkeypatch.setenv(VISIBLE, "0")


OTHER = """
import sys, time
from pathlib import Path
from refine.inference.slots import own_device
with own_device(Path(sys.argv[1]), poll=0.01) as own:
    print(own, flush=True)
    sys.stdin.read()
"""


def test_no_two_jobs_have_one_gpu_and_a_third_waits_until_one_ends_however_it_ends(tmp_path):
    environment = {**os.environ, VISIBLE: "0,1"}

    def job() -> subprocess.Popen:
        command = [sys.executable, "-c", OTHER, str(tmp_path)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    first, second = job(), job()
    assert {first.stdout.readline().strip(), second.stdout.readline().strip()} == {"0", "1"}
    third = job()
    with pytest.raises(subprocess.TimeoutExpired):
        third.wait(1)
    first.kill()
    free = third.stdout.readline().strip()
    assert free in ("0", "1")
    for process in (second, third):
        process.communicate("")
    first.wait()
