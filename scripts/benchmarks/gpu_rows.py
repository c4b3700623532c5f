"""The rows of ``gpu.py``: each measures one thing on a device and returns it as plain values."""

import csv
import functools
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import refine
from benchmarks.subjects import BUNDLED, scene
from refine.analysis.peak_memory import MIB, peak, restart_peak
from refine.core.refiner import Refiner
from training.scenes import render

Row = Callable[[torch.device, bool], dict[str, Any]]
CONTROL = ("refiner.frozen=false", "backbone.fold=false")
ARMS: dict[str, tuple[str, ...]] = {
    "control": CONTROL,
    "default": (),
    "graph": ("refiner.graph=auto",),
    "graph bf16": ("refiner.graph=auto", "refiner.precision=bf16"),
    "bf16": ("refiner.precision=bf16",),
    "tf32": ("refiner.tf32=true",),
    "checkpointing": ("refiner.gradient_checkpointing=true",),
}


def about(device: torch.device, toy: bool) -> dict[str, Any]:
    """The machine."""
    card = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return {
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


def parity(device: torch.device, toy: bool) -> dict[str, float]:
    """Largest and mean difference to the CPU after all updates, of each bundled network and option."""
    image, mask = scene(0, 64 if toy else 384)
    found = {}
    for backbone in BUNDLED[1:2] if toy else BUNDLED:
        base = (f"backbone={backbone}", *(("pyramid.smallest_side=32",) if toy else ()))
        expected = load(torch.device("cpu"), *base)(image, mask).image
        for arm, settings in {"default": (), "bf16": ARMS["bf16"], "autograd": CONTROL[:1]}.items():
            result = load(device, *base, *settings)(image, mask).image
            difference = (result - expected).abs()
            found[f"{backbone} {arm} max"] = float(difference.max())
            found[f"{backbone} {arm} mean"] = float(difference.mean())
    return found


def twice(device: torch.device, toy: bool) -> dict[str, float]:
    """Largest difference between two runs of the same, of each bundled network; 0 where bytes repeat."""
    image, mask = scene(0, 64 if toy else 512)
    found = {}
    for backbone in BUNDLED[1:2] if toy else BUNDLED:
        refiner = load(device, f"backbone={backbone}", *(("pyramid.smallest_side=32",) if toy else ()))
        first, second = (refiner(image, mask).image for _ in range(2))
        found[backbone] = float((first - second).abs().max())
    return found


def speed(side: int, arm: str, device: torch.device, toy: bool) -> dict[str, float]:
    """Seconds of the first refinement in a process and of further ones, and memory at the peak."""
    refiner = load(device, *large(toy), *ARMS[arm])
    image, mask = scene(0, side // 16 if toy else side)
    times = timed(refiner, image, mask, 2 if side > 1024 or toy else 4)
    return {"first_s": times[0], "seconds": statistics.median(times[1:]), **memory(device)}


def timed(refiner: Refiner, image: torch.Tensor, mask: torch.Tensor, repeats: int) -> list[float]:
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


def graph(device: torch.device, toy: bool) -> dict[str, float]:
    """Updates as CUDA graphs and one by one: seconds, and the largest difference. A second image of the size too."""
    scenes = [scene(index, 64 if toy else 1024) for index in range(2)]
    found, images = {}, {}
    for name, setting in {"graph": "auto", "no graph": "false"}.items():
        refiner = load(device, *large(toy), f"refiner.graph={setting}")
        times = [timed(refiner, *photo, 2 if toy else 3)[-1] for photo in scenes]
        images[name] = torch.cat([refiner(*photo).image for photo in scenes])
        found[f"{name} s"] = statistics.mean(times)
    return found | {"max difference": float((images["graph"] - images["no graph"]).abs().max())}


def batch(device: torch.device, toy: bool) -> dict[str, float]:
    """Four images one by one and together: images per second, and the largest difference."""
    scenes = [scene(index, 64 if toy else 512) for index in range(4)]
    image, mask = (torch.cat(tensors) for tensors in zip(*scenes, strict=True))
    refiner = load(device, *large(toy))
    repeats = 2 if toy else 3
    single = sum(min(timed(refiner, *photo, repeats)) for photo in scenes)
    alone = torch.cat([refiner(*photo).image for photo in scenes])
    together = min(timed(refiner, image, mask, repeats))
    return {
        "single images_per_s": 4 / single,
        "batch images_per_s": 4 / together,
        "max difference": float((refiner(image, mask).image - alone).abs().max()),
        **memory(device),
    }


def deterministic(device: torch.device, toy: bool) -> dict[str, float]:
    """Largest difference between two runs with ``deterministic=true``, 0 where bytes repeat; and its price in time."""
    image, mask = scene(0, 64 if toy else 1024)
    found = {}
    for name, settings in {"default": (), "deterministic": ("deterministic=true",)}.items():
        refiner = load(device, *large(toy), *settings)
        found[f"{name} s"] = timed(refiner, image, mask, 2 if toy else 3)[-1]
        first, second = (refiner(image, mask).image for _ in range(2))
        found[f"{name} twice"] = float((first - second).abs().max())
    return found


def window(device: torch.device, toy: bool) -> dict[str, float]:
    """A large scene with a small hole: whole, and in a window."""
    side = 256 if toy else 3072
    image, mask = scene(0, side)[0], torch.zeros(1, 1, side, side)
    mask[..., side // 2 : side // 2 + side // 8, side // 2 : side // 2 + side // 8] = 1
    found = {}
    for name, settings in {"whole": (), "window": ("refiner.window=auto", f"refiner.context={side // 12}")}.items():
        refiner = load(device, *large(toy), *settings)
        for _ in range(2):
            restart_peak(device)
            start = time.perf_counter()
            refiner(image, mask)
            found |= {f"{name} s": time.perf_counter() - start, f"{name} peak_MiB": peak(device)}
    return found


def folder(device: torch.device, toy: bool) -> dict[str, float]:
    """``refine predict`` over a folder: seconds from start to end, and the share in which images were refined."""
    count, side = (2, 64) if toy else (32, 512)
    with tempfile.TemporaryDirectory() as place:
        photos = Path(place, "photos")
        photos.mkdir()
        for index in range(count):
            cv2.imwrite(str(photos / f"{index:02}.png"), np.ascontiguousarray(render(index, side)[..., ::-1]))
        command = [sys.executable, "-m", "refine", "predict", f"data={photos}", "masks=thick", f"output={place}/out"]
        command += [f"device={device}", "backbone=mini", *(("pyramid.smallest_side=32",) if toy else ())]
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - start
        with Path(place, "out", ".refine", "rows.csv").open(newline="") as table:
            refined = sum(float(row["seconds"]) for row in csv.DictReader(table))
    return {"images": count, "seconds": seconds, "images_per_s": count / seconds, "refining_share": refined / seconds}


def suite(device: torch.device, toy: bool) -> dict[str, Any]:
    """The tests that take no process of their own, on this machine: what passed, failed and was skipped."""
    files = ["tests/core"] if toy else ["tests/core", "tests/autograd", "tests/backbones", "tests/metrics", "tests/io"]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x" if toy else "--maxfail=40",
        "-m",
        "not slow",
        "-p",
        "no:xdist",
    ]
    done = subprocess.run([*command, *files], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    failed = [line for line in lines if line.startswith("FAILED")]
    return {"summary": lines[-1] if lines else done.stderr[-200:], "failed_tests": failed}


SPEED = [(1024, "default"), (1024, "control"), (1024, "bf16"), (512, "default"), (2048, "default"), (2048, "bf16")]
SPEED += [(1024, "graph"), (1024, "graph bf16"), (1024, "tf32"), (1024, "checkpointing"), (4096, "bf16")]
ROWS: dict[str, Row] = {
    "about": about,
    "parity": parity,
    "twice": twice,
    "graph": graph,
    "batch": batch,
    "deterministic": deterministic,
    **{f"speed {side} {arm}": functools.partial(speed, side, arm) for side, arm in SPEED},
    "window": window,
    "folder": folder,
    "suite": suite,
}
"""Rows in order of worth, by name."""
