"""Predict what ``refine predict`` would take: levels, windows, memory and seconds of each image.

    refine plan input=photos masks=holes backbone=big_lama backbone.weights=big-lama.zip
    refine plan input=photo.jpg mask=hole.png memory=8GiB refiner.window=auto json=true

The first plan on a machine measures the network at 256 and 768 px; that is kept in the cache. Memory is that of the
process on a CPU and of tensors on a GPU; seconds are of the refinement, without reading and writing files.
"""

import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import import_module
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from refine.analysis.calibration_cache import calibrated_ways
from refine.analysis.memory_limit import MemoryLimit
from refine.analysis.peak_memory import resident
from refine.cli.tables import show
from refine.config import PlanConfig
from refine.core.memory import OutOfMemory
from refine.data.pairs import Failure
from refine.factory import make_dataset, make_refiner
from refine.inference.discover import discover
from refine.inference.startup import lean_start
from refine.weights.download import cache_folder


def run(overrides: Sequence[str]) -> int:
    """Run the command.

    Args:
        overrides: Hydra's ``key=value``.

    Returns:
        Exit status: 0, or 1 if an image cannot be refined so.

    Raises:
        ValueError: If the request makes no sense.
    """
    config = PlanConfig.compose(overrides)
    request = discover(config.model_copy(update={"output": str(cache_folder() / "plan")}))
    refiner = make_refiner(config)
    torch.set_num_threads(config.threads)
    with lean_start():
        import_module("refine.inference.pipeline")  # what a run has loaded takes memory too
    before = resident(refiner.backbone.device)
    ways = calibrated_ways(refiner, config, config.calibrate, say=lambda text: print(text, file=sys.stderr))
    limit = MemoryLimit(math.inf if config.memory is None else config.memory, ways, before)
    rows = [{"image": failure.key, "problem": failure.reason} for failure in request.failures]
    rows += _rows(config, request.pairs, limit)
    if config.json_:
        print(json.dumps({"machine_calibration": [name or "as it is" for name, *_ in ways], "images": rows}, indent=2))
    else:
        show(table(rows))
    return int(any("problem" in row for row in rows))


def _rows(config: PlanConfig, pairs: Sequence[Any], limit: MemoryLimit) -> Iterator[dict[str, Any]]:
    dataset = make_dataset(config, pairs)
    for index in range(len(dataset)):
        sample = dataset[index]
        if isinstance(sample, Failure):
            yield {"image": sample.key, "problem": sample.reason}
            continue
        size = (sample.image.shape[-2], sample.image.shape[-1])
        row = {"image": sample.key, "size": list(size)}
        try:
            plan = limit.choose(size, sample.network_mask)
        except OutOfMemory as error:
            yield {**row, "problem": str(error)}
            continue
        levels = [asdict(level) for level in plan.levels]
        yield {**row, "levels": levels, "mib": round(plan.mib), "seconds": round(plan.seconds, 1), "how": plan.setting}


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """The plan as a table for a terminal.

    Args:
        rows: Images, with what they take or the problem.
    """
    seconds = sum(row.get("seconds", 0) for row in rows)
    largest = max((row.get("mib", 0) for row in rows), default=0)
    caption = f"{len(rows)} images: {seconds:.0f} s of refinement, {largest} MiB at the peak"
    result = Table(box=SIMPLE_HEAD, caption=caption, caption_justify="left")
    for column in ("image", "levels, px: width x height"):
        result.add_column(column, overflow="fold")
    for column in ("MiB", "s"):
        result.add_column(column, justify="right")
    result.add_column("with", overflow="fold")
    for row in rows:
        if "problem" in row:
            result.add_row(escape(row["image"]), "-", "-", "-", escape(row["problem"]))
        else:
            levels = ", ".join(_level(level) for level in row["levels"])
            result.add_row(escape(row["image"]), levels, str(row["mib"]), f"{row['seconds']:.1f}", row["how"])
    return result


def _level(level: dict[str, Any]) -> str:
    height, width = level["size"]
    windows = level["parts"]
    whole = len(windows) == 1 and windows[0][0] >= height and windows[0][1] >= width
    text = f"{width}x{height}"
    return text if whole else f"{text} in {len(windows)} window{'s' * (len(windows) != 1)}"
