"""Write a folder of procedural scenes that no bundled network has seen.

Files that exist already are kept. Command, with the defaults of ``count`` and ``side`` (px)::

    python scripts/training/make_scenes.py output=scenes count=100 side=1024
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2

from refine.io.files import write_atomic

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from options import read
from training.scenes import render

UNSEEN = 10**9 + 1000  # training draws scenes of lower numbers, validation the thousand before


def main(arguments: Sequence[str]) -> None:
    """Write scenes as PNG files; existing ones are kept.

    Args:
        arguments: Command line: ``output=<folder>``, and optionally ``count=<scenes>`` and ``side=<px>``.
    """
    options = read({"output": "", "count": 100, "side": 1024}, arguments, {"output": "a folder"})
    folder = Path(options["output"])
    folder.mkdir(parents=True, exist_ok=True)
    side = int(options["side"])
    for i in range(int(options["count"])):
        path = folder / f"scene_{i:04}.png"  # masks are drawn by name: the same at any size
        if path.exists():
            existing = cv2.imread(str(path))
            if existing is None or existing.shape[:2] != (side, side):
                raise SystemExit(f"{path} is there already and is no scene of {side} px; choose another output.")
            continue
        encoded = cv2.imencode(".png", render([0, UNSEEN + i], side)[..., ::-1])[1]
        write_atomic(path, encoded.tobytes(), folder)


if __name__ == "__main__":
    main(sys.argv[1:])
