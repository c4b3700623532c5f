"""``refine``, or a script, in processes of its own that can be sent signals: forks of one that has imported torch."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SERVER = """
import json, os, runpy, signal, sys
from refine.__main__ import main
from refine.inference.startup import lean_start
with lean_start():
    import refine.inference.pipeline
for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        signal.alarm(job["seconds"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        to = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(to, 1), os.dup2(to, 2)
        os.chdir(job["folder"])
        os.environ.clear(), os.environ.update(job["environment"])
        first, *_ = sys.argv = job["arguments"]
        if first.endswith(".py"):
            sys.path[0] = os.path.dirname(first)
            runpy.run_path(first, run_name="__main__")
            sys.exit()
        sys.exit(main(sys.argv))
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Process:
    """A command at work in ``folder``, in a session of its own; one that hangs is ended by SIGALRM.

    Attributes:
        pid: Process id.
        log: File of what it prints.
    """

    def __init__(self, server: subprocess.Popen, log: Path, folder: Path, arguments: list[str], seconds=600) -> None:
        self.log, self._server, self._status = log, server, None
        job = {"log": str(log), "folder": str(folder), "environment": dict(os.environ), "seconds": seconds}
        job["arguments"] = arguments
        server.stdin.write(json.dumps(job) + "\n")
        server.stdin.flush()
        self.pid = int(server.stdout.readline())

    def signal_when(self, number: int, ready: Callable[[], bool]) -> int:
        """Send a signal as soon as something is so; gives the exit status."""
        deadline = time.monotonic() + 240
        while not ready() and time.monotonic() < deadline:
            time.sleep(0.002)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
        return self.status()

    def status(self) -> int:
        """Wait for its end; minus the signal's number if one ended it."""
        if self._status is None:
            self._status = int(self._server.stdout.readline())
        return self._status

    def interrupt(self) -> None:
        """Ctrl-C, as a terminal does it: to all that it has started, too."""
        os.killpg(self.pid, signal.SIGINT)

    def is_gone(self) -> bool:
        """Nothing is at work any more that it has started; to be asked after its end."""
        for file in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # ended meanwhile
                state, _, _, session = file.read_text().rpartition(")")[2].split()[:4]
                if int(session) == self.pid and state != "Z":
                    return False
        return True

    def end(self) -> None:
        """Kill it if it is still at work, as a test that failed leaves it."""
        if self._status is None:
            self.signal_when(signal.SIGKILL, lambda: True)

    def said(self) -> str:
        """What it has printed."""
        return self.log.read_text()


@contextlib.contextmanager
def forks(folder: Path) -> Iterator[Callable[..., Process]]:
    """Gives a function that starts a command, or a script by its path, one at a time.

    Args:
        folder: Empty folder for the log, in which commands work if the function is not given ``folder=``.
    """
    started: list[Process] = []
    with subprocess.Popen([sys.executable, "-c", SERVER], stdin=-1, stdout=-1, text=True, cwd=folder) as server:

        def start(*arguments: object, folder: Path = folder) -> Process:
            if started:
                started.pop().end()
            started.append(Process(server, log, folder, [str(each) for each in arguments]))
            return started[0]

        log = folder / "log.txt"
        yield start
        server.stdin.close()
