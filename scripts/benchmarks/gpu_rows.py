"""The rows of ``gpu.py``: each measures one thing on a device and gives plain values, as it finds them."""

import csv
import functools
import importlib.util
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import refine
from benchmarks.subjects import BUNDLED, scene
from refine.analysis.peak_memory import MIB, peak, restart_peak
from refine.core.memory import release
from refine.core.refiner import Refiner
from training.scenes import render

Found = Iterator[dict[str, Any]]
Row = Callable[[torch.device, bool], Found]
CONTROL = ("refiner.frozen=false", "backbone.fold=false")
ARMS: dict[str, tuple[str, ...]] = {
    "default": (),
    "control": CONTROL,
    "graph": ("refiner.graph=auto",),
    "graph bf16": ("refiner.graph=auto", "refiner.precision=bf16"),
    "bf16": ("refiner.precision=bf16",),
    "tf32": ("refiner.tf32=true",),
    "checkpointing": ("refiner.gradient_checkpointing=true",),
}
ON_A_GPU = "tests/core/test_on_a_gpu.py"
DRAWN = 256  # px; what is larger is enlarged, since to draw a scene takes longer than to refine it


@functools.cache
def photo(index: int, side: int) -> tuple[Tensor, Tensor]:
    """A generated scene and its hole, as :func:`benchmarks.subjects.scene`, drawn small and enlarged."""
    image, mask = scene(index, min(side, DRAWN))
    if side <= DRAWN:
        return image, mask
    return F.interpolate(image, (side, side), mode="bicubic").clamp(0, 1), F.interpolate(mask, (side, side))


def about(device: torch.device, toy: bool) -> Found:
    """The machine."""
    card = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    yield {
        "device": card.name if card else "CPU",
        "memory_GiB": card.total_memory / 2**30 if card else 0.0,
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version() if card else None,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
    }


def load(device: torch.device, *overrides: str) -> Refiner:
    """A refiner on the device; large networks get random weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return refine.load(*overrides, device=str(device))


def large(toy: bool) -> tuple[str, ...]:
    """Big-LaMa as the published code refines it; the bundled network at toy size."""
    if toy:
        return ("backbone=mini", "preset=reference", "refiner.steps=1", "pyramid.smallest_side=32")
    return ("backbone=big_lama", "backbone.weights=random", "preset=reference")


def bundled(toy: bool) -> Sequence[str]:
    """Networks whose weights come along."""
    return BUNDLED[1:2] if toy else BUNDLED


def small(backbone: str, toy: bool) -> tuple[str, ...]:
    """A bundled network; at toy size with a pyramid of such small images."""
    return (f"backbone={backbone}", *(("pyramid.smallest_side=32",) if toy else ()))


def parity(device: torch.device, toy: bool) -> Found:
    """Largest and mean difference to the CPU after all updates, of each bundled network and option."""
    image, mask = photo(0, 64 if toy else 384)
    for backbone in bundled(toy):
        base = small(backbone, toy)
        expected = load(torch.device("cpu"), *base)(image, mask).image
        arms = {"default": (), "graph": ARMS["graph"], "bf16": ARMS["bf16"], "autograd": CONTROL[:1]}
        for arm, settings in arms.items():
            difference = (load(device, *base, *settings)(image, mask).image - expected).abs()
            yield {
                f"{backbone} {arm} max": float(difference.max()),
                f"{backbone} {arm} mean": float(difference.mean()),
            }


def twice(device: torch.device, toy: bool) -> Found:
    """Largest difference between two runs of the same, of each bundled network; 0 where bytes repeat."""
    image, mask = photo(0, 64 if toy else 512)
    for backbone in bundled(toy):
        refiner = load(device, *small(backbone, toy))
        first, second = (refiner(image, mask).image for _ in range(2))
        yield {backbone: float((first - second).abs().max())}


def speed(side: int, arms: Sequence[str], device: torch.device, toy: bool) -> Found:
    """Seconds of the first refinement of each arm and of further ones, and memory at the peak."""
    image, mask = photo(0, side // 16 if toy else side)
    for arm in arms:
        refiner = load(device, *large(toy), *ARMS[arm])
        try:
            times = timed(refiner, image, mask, 2 if side > 1024 or toy else 3)
            measured = {"first_s": times[0], "seconds": statistics.median(times[1:]), **memory(device)}
            yield {f"{arm} {name}": value for name, value in measured.items()}
        except RuntimeError as error:  # out of memory, as a rule
            yield {f"{arm} failed": str(error).splitlines()[0]}
        release(refiner)


def timed(refiner: Refiner, image: Tensor, mask: Tensor, repeats: int) -> list[float]:
    """Seconds of each of several refinements of the same."""
    times = []
    for _ in range(repeats):
        restart_peak(refiner.backbone.device)
        start = time.perf_counter()
        refiner(image, mask)
        times.append(time.perf_counter() - start)
    return times


def memory(device: torch.device) -> dict[str, float]:
    """Peak of tensors, and on CUDA of all that torch took from the card: what a graph works on is in that alone."""
    reserved = {"reserved_MiB": torch.cuda.max_memory_reserved(device) / MIB} if device.type == "cuda" else {}
    return {"peak_MiB": peak(device), **reserved}


def graph(device: torch.device, toy: bool) -> Found:
    """Updates as CUDA graphs and one by one: seconds, and the largest difference. A second image of the size too."""
    photos = [photo(index, 64 if toy else 1024) for index in range(2)]
    images = {}
    for name, setting in {"graph": "auto", "no graph": "false"}.items():
        refiner = load(device, *large(toy), f"refiner.graph={setting}")
        times = [timed(refiner, *one, 2)[-1] for one in photos]
        images[name] = torch.cat([refiner(*one).image for one in photos])
        release(refiner)
        yield {f"{name} s": statistics.mean(times)}
    yield {"max difference": float((images["graph"] - images["no graph"]).abs().max())}


def batch(device: torch.device, toy: bool) -> Found:
    """Four images one by one and together: images per second, and the largest difference."""
    photos = [photo(index, 64 if toy else 512) for index in range(4)]
    image, mask = (torch.cat(tensors) for tensors in zip(*photos, strict=True))
    refiner = load(device, *large(toy))
    single = sum(min(timed(refiner, *one, 2)) for one in photos)
    alone = torch.cat([refiner(*one).image for one in photos])
    yield {"single images_per_s": 4 / single}
    together = min(timed(refiner, image, mask, 2))
    difference = (refiner(image, mask).image - alone).abs().max()
    yield {"batch images_per_s": 4 / together, "max difference": float(difference), **memory(device)}


def deterministic(device: torch.device, toy: bool) -> Found:
    """Largest difference between two runs with ``deterministic=true``, 0 where bytes repeat; and its price in time."""
    image, mask = photo(0, 64 if toy else 1024)
    for name, settings in {"deterministic": ("deterministic=true",), "default": ()}.items():
        refiner = load(device, *large(toy), *settings)
        seconds = timed(refiner, image, mask, 2)[-1]
        first, second = (refiner(image, mask).image for _ in range(2))
        yield {f"{name} s": seconds, f"{name} twice": float((first - second).abs().max())}


def window(device: torch.device, toy: bool) -> Found:
    """A large scene with a small hole: in a window, and whole."""
    side = 256 if toy else 3072
    image, mask = photo(0, side)[0], torch.zeros(1, 1, side, side)
    mask[..., side // 2 : side // 2 + side // 8, side // 2 : side // 2 + side // 8] = 1
    for name, settings in {"window": ("refiner.window=auto", f"refiner.context={side // 12}"), "whole": ()}.items():
        refiner = load(device, *large(toy), *settings)
        seconds = timed(refiner, image, mask, 2)[-1]
        yield {f"{name} s": seconds, f"{name} peak_MiB": peak(device)}


def folder(device: torch.device, toy: bool) -> Found:
    """``refine predict`` over a folder: seconds from start to end, and the share in which images were refined."""
    count, side = (2, 64) if toy else (32, 512)
    with tempfile.TemporaryDirectory() as place:
        photos = Path(place, "photos")
        photos.mkdir()
        for index in range(count):
            pixels = cv2.resize(render(index, min(side, 128)), (side, side), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(photos / f"{index:02}.png"), np.ascontiguousarray(pixels[..., ::-1]))
        command = [sys.executable, "-m", "refine", "predict", f"data={photos}", "masks=thick", f"output={place}/out"]
        command += [f"device={device}", "backbone=mini", *(("pyramid.smallest_side=32",) if toy else ())]
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - start
        with Path(place, "out", ".refine", "rows.csv").open(newline="") as rows:
            refined = sum(float(row["seconds"]) for row in csv.DictReader(rows))
    yield {"images": count, "seconds": seconds, "images_per_s": count / seconds, "refining_share": refined / seconds}


def suite(files: Sequence[str], options: Sequence[str], device: torch.device, toy: bool) -> Found:
    """Tests on this machine: what passed, failed and was skipped."""
    command = [sys.executable, "-m", "pytest", "-q", "--maxfail=40", "-m", "not slow and not thorough", *options]
    if importlib.util.find_spec("xdist"):
        command += ["-n", str(max(1, (os.cpu_count() or 1) // 2)), "--dist", "loadfile"]
    done = subprocess.run([*command, *(files[:1] if toy else files)], capture_output=True, text=True)
    lines = done.stdout.splitlines() or done.stderr.splitlines()[-1:] or ["nothing was said"]
    failed = [re.sub(r" - .*", "", line) for line in lines if line.startswith(("FAILED", "ERROR"))]
    yield {"summary": lines[-1].strip("= "), "failed_tests": failed}


ROWS: dict[str, Row] = {
    "about": about,
    "on the card": functools.partial(suite, [ON_A_GPU], []),
    "parity": parity,
    "speed 1024": functools.partial(speed, 1024, list(ARMS)),
    "graph": graph,
    "batch": batch,
    "twice": twice,
    "deterministic": deterministic,
    "speed 2048": functools.partial(speed, 2048, ["default", "bf16"]),
    "speed 4096": functools.partial(speed, 4096, ["bf16"]),
    "folder": folder,
    "suite": functools.partial(
        suite,
        ["tests/core", "tests/autograd", "tests/backbones", "tests/metrics", "tests/io", "tests/test_api.py"],
        [f"--ignore={ON_A_GPU}"],
    ),
    "window": window,
    "speed 512": functools.partial(speed, 512, ["default", "control", "graph"]),
}
"""Rows in order of worth, by name."""
