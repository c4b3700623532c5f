"""The shell lines of a page, as bash itself takes them apart: quotes, braces, variables, comments."""

import os
import re
import shutil
import subprocess
from pathlib import Path

# Programs that a page may name. They note what they were given; those that start others let these do so.
PRELUDE = """
note() { printf '%s\\0' "$@" >&3; printf '\\n\\0' >&3; }
for name in refine make pip python wandb sbatch; do eval "$name() { note $name \\"\\$@\\"; }"; done
srun() { "$@"; }
torchrun() { while [ "$1" != -m ]; do shift; done; shift; "$@"; }
set -eu; PATH=
"""


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str, folder: Path) -> list[list[str]]:
    """The commands of a page's bash blocks, in order, word by word; none is run.

    Args:
        text: The page.
        folder: An empty folder to be in.
    """
    script, notes = PRELUDE + "\n".join(blocks(text, "bash")), folder / "notes"
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "3"}
    with notes.open("wb") as file:
        subprocess.run(
            [shutil.which("bash"), "-c", f"exec 3>&{file.fileno()}\n{script}"],
            cwd=folder,
            env=environment,
            pass_fds=[file.fileno()],
            check=True,
            timeout=60,
        )
    found: list[list[str]] = [[]]
    for word in notes.read_bytes().decode().split("\0")[:-1]:
        if word == "\n":
            found.append([])
        else:
            found[-1].append(word)
    notes.unlink()
    return found[:-1]
