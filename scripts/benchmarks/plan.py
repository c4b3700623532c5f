r"""What `refine plan` predicts against what `refine predict` takes: memory of the process and seconds of refinement.

    python scripts/benchmarks/plan.py out=runs/plan
    python scripts/benchmarks/plan.py out=runs/plan backbones=mini sizes=96x64 updates=1       # a smoke test

Every combination of a backbone, a size and a way is planned and refined, each in a process of its own, on a generated
scene with one hole. A run that was interrupted goes on where it was. Measure on an idle machine: the calibration and
the runs must find the same one.

Options, with their defaults:
    out=                   folder, needed
    backbones=mini,small,mini_aot,big_lama        weights are random where none are bundled
    sizes=640x480,1024x1024,1600x1200             width x height, px
    updates=3              of each refined level
    threads=1              of the CPU
"""

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.subjects import BUNDLED
from benchmarks.tables import markdown
from options import read
from refine.config import InpaintConfig
from training.scenes import hole, render

DEFAULTS: dict[str, Any] = {
    "out": "",
    "backbones": "mini,small,mini_aot,big_lama",
    "sizes": "640x480,1024x1024,1600x1200",
    "updates": 3,
    "threads": 1,
}
WAYS = ("", "refiner.gradient_checkpointing=true", "refiner.window=auto")
STRIPS = "refiner.gradient_checkpointing=true backbone.strips=true"  # of the networks that can
COLUMNS = ("backbone", "size", "way", "mib", "mib_planned", "seconds", "seconds_planned")


def make_pair(folder: Path, size: str) -> tuple[Path, Path]:
    """Write a scene and its hole, cut from squares.

    Args:
        folder: Folder for both files.
        size: ``<width>x<height>``, px.
    """
    width, height = map(int, size.split("x"))
    side = max(width, height)
    image, mask = folder / f"{size}.png", folder / f"{size}_mask.png"
    cv2.imwrite(str(image), render(0, side)[:height, :width, ::-1])
    small = hole(0, side // 3)  # a third of the side, so that windows have something to save
    canvas = cv2.copyMakeBorder(small * 255, 0, side, 0, side, cv2.BORDER_CONSTANT)
    cv2.imwrite(str(mask), canvas[:height, :width])
    return image, mask


def measure(folder: Path, overrides: Sequence[str]) -> dict[str, float]:
    """Plan and refine one image.

    Args:
        folder: Output folder of the run.
        overrides: Settings of both commands.

    Returns:
        MiB and seconds, planned and taken.
    """
    command = [sys.executable, "-m", "refine"]
    planned = subprocess.run([*command, "plan", *overrides, "json=true"], stdout=subprocess.PIPE, check=True)
    (plan,) = json.loads(planned.stdout)["images"]
    run = subprocess.Popen(
        [*command, "predict", *overrides, f"output={folder}", "overwrite=true"], stdout=subprocess.PIPE
    )
    assert run.stdout is not None
    run.stdout.read()
    _, status, usage = os.wait4(run.pid, 0)
    if status:
        raise SystemExit(f"refine predict {' '.join(overrides)} failed.")
    row = json.loads((folder / ".refine" / "rows-0.jsonl").read_text().split("\n")[1])
    return {
        "mib": usage.ru_maxrss / 1024,
        "mib_planned": plan["mib"],
        "seconds": row["seconds"],
        "seconds_planned": plan["seconds"],
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The combinations in Markdown, and how far the plan was from the truth.

    Args:
        rows: Combinations with what :func:`measure` found.
    """
    lines = [markdown(rows, COLUMNS)]
    for what in ("mib", "seconds"):
        ratios = sorted(row[f"{what}_planned"] / row[what] for row in rows)
        near = [sum(abs(ratio - 1) <= limit for ratio in ratios) for limit in (0.15, 0.3)]
        lines.append(
            f"{what}: planned / taken {ratios[0]:.2f} to {ratios[-1]:.2f}, median {statistics.median(ratios):.2f}; "
            f"{near[0]} of {len(ratios)} within 15 %, {near[1]} within 30 %"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """Measure what is not measured yet, and print the table.

    Args:
        arguments: Command line, ``key=value`` each.
    """
    options = read(DEFAULTS, arguments, {"out": "folder of the measurements"})
    out = Path(options["out"]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    file = out / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {(row["backbone"], row["size"], row["way"]) for row in rows}
    os.environ["OMP_NUM_THREADS"] = str(options["threads"])
    for backbone in options["backbones"].split(","):
        ways = [*WAYS, *([STRIPS] if "strips" in InpaintConfig.compose([f"backbone={backbone}"]).backbone else [])]
        for size in options["sizes"].split(","):
            # Apart: what this process has at its peak would count as the peak of all that it starts, too.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                image, mask = pool.submit(make_pair, out, size).result()
            for number, way in enumerate(ways):
                if (backbone, size, way) in done:
                    continue
                overrides = [
                    f"input={image}",
                    f"mask={mask}",
                    f"backbone={backbone}",
                    f"refiner.steps={options['updates']}",
                ]
                overrides += ["device=cpu", "evaluate=false", *way.split()]
                overrides += [] if backbone in BUNDLED else ["backbone.weights=random"]
                found = measure(out / f"{backbone}_{size}_{number}", overrides)
                rows.append({"backbone": backbone, "size": size, "way": way, **found})
                with file.open("a") as stream:
                    stream.write(json.dumps(rows[-1]) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
