"""All that only a GPU can answer, in one run that ends by itself: right, repeatable, fast, small?

    make gpu                                                    # 8 minutes at most; writes gpu/gpu.json and gpu/gpu.md
    python scripts/benchmarks/gpu.py output=gpu minutes=8
    python scripts/benchmarks/gpu.py output=gpu device=cpu toy=true    # the same rows at toy size, to try them

Rows run in order of worth, each in a process of its own, so that one that crashes or hangs does not end the rest; what
a row has measured until then is kept, and written at once. Speed is the median of runs after a first in the same
process, memory the peak of tensors on the card.

Options, with their defaults:
    output=gpu             folder of the results
    minutes=8              after which no row begins, and the one at work is stopped
    device=cuda            or cpu
    toy=false              true for tiny sizes
    rows=                  names of rows to run, comma-separated; empty for all
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(ROOT := Path(__file__).resolve().parents[2]))  # a bare machine lacks this project itself
sys.path.insert(0, str(ROOT / "scripts"))
from benchmarks.gpu_rows import ROWS
from options import read

DEFAULTS: dict[str, Any] = {"output": "gpu", "minutes": "8", "device": "cuda", "toy": "false", "rows": ""}
LONGEST = 150  # seconds of one row


def main(arguments: Sequence[str]) -> int:
    """Run the rows.

    Args:
        arguments: Options, ``key=value`` each.

    Returns:
        Exit status: 0, also where there is no GPU and nothing to do.

    Raises:
        SystemExit: For an option or a row that does not exist.
    """
    options = read(DEFAULTS, arguments)
    names = [name for name in options["rows"].split(",") if name] or list(ROWS)
    if unknown := set(names) - set(ROWS):
        raise SystemExit(f"no row is called {', '.join(sorted(unknown))}; there are: {', '.join(ROWS)}.")
    if options["device"] == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured (device=cpu toy=true tries the rows on the CPU).")
        return 0
    output, end = Path(options["output"]), time.monotonic() + 60 * float(options["minutes"])
    output.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    for name in names:
        results.append({"row": name, **measure(name, options, min(LONGEST, end - time.monotonic()))})
        (output / "gpu.json").write_text(json.dumps(results, indent=1))
        (output / "gpu.md").write_text(table(results))
        print(results[-1], flush=True)
    return 0


def measure(name: str, options: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Measure one row in a process of its own.

    Args:
        name: Name of the row.
        options: Options of the command line.
        seconds: Time it may take; it does not begin with less than one.

    Returns:
        What it measured until it ended; with ``failed``, the reason, where that was not its own end.
    """
    if seconds < 1:
        return {"failed": "no time was left"}
    command = [sys.executable, __file__, "--row", name, options["device"], options["toy"]]
    start, failed = time.monotonic(), ""
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as wrong:
        row = subprocess.Popen(command, stdout=said, stderr=wrong, cwd=ROOT, start_new_session=True)
        try:
            row.wait(seconds)
        except subprocess.TimeoutExpired:
            failed = f"stopped after {seconds:.0f} s"
        finally:  # also after Ctrl-C
            with contextlib.suppress(ProcessLookupError):
                os.killpg(row.pid, signal.SIGKILL)  # with what it has started
            row.wait()
        for stream in (said, wrong):
            stream.seek(0)
        measured = [json.loads(line) for line in said if line.startswith("{") and line.endswith("}\n")]
        if row.returncode and not failed:
            failed = (wrong.read().strip().splitlines() or [f"exit status {row.returncode}"])[-1]
    found = {key: value for part in measured for key, value in part.items()}
    return {**found, **({"failed": failed} if failed else {}), "row_seconds": round(time.monotonic() - start, 1)}


def table(results: Sequence[dict[str, Any]]) -> str:
    """The results in Markdown, a line for each measured value.

    Args:
        results: Results by row.
    """
    lines = ["| row | what | value |", "|---|---|---:|"]
    for result in results:
        values = {key: value for key, value in result.items() if key not in ("row", "row_seconds")}
        lines += [f"| {result['row']} | {key} | {_shown(value)} |" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--row"]:
        row, device, toy = sys.argv[2:]
        for values in ROWS[row](torch.device(device), toy == "true"):
            print(json.dumps(values), flush=True)
    else:
        sys.exit(main(sys.argv[1:]))
