"""From the rows of a run to its numbers: means with their errors, differences to the controls, scores of whole sets."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from refine.core.notices import THIN_TOO
from refine.data.masks import joint_hash
from refine.data.subset import list_hash

MASKS = {"unchanged": "unchanged, the mask has no hole at all", "all_hole": "the mask is all hole"}
CONTROLS = ("plain", "upscaled")
HEADLINES = ("psnr_hole_torchmetrics", "ssim_hole_refine", "sharpness_hole_refine")  # in the one line for the terminal


def summarize(rows: Sequence[Mapping[str, Any]], refines: bool = True) -> dict[str, Any]:
    """All a run has to say, as plain values.

    Args:
        rows: Rows of the run's results.
        refines: Whether the run has further levels than the first, where an image is large enough.

    Returns:
        ``images`` (number and hash of their list), ``masks_hash`` where masks were drawn, ``scores`` by name with
        ``mean``, ``error`` (standard error of the mean) and ``n``, ``gain`` over each control likewise, from the same
        images, ``nothing_refined`` (how many had levels and a hole but no pixel to compare), ``too_small`` (how many
        had one level alone), ``not_finite`` (how many had a level without a finite iterate), ``verdicts`` (how many are
        better, worse and unsure), ``masks`` (how many images have no hole and are unchanged, are all hole, or have a
        mask of an unusual kind), ``seconds`` and ``peak_memory_mib``.
    """
    names = [name for name in _scores(rows) if not name.startswith(tuple(f"{control}." for control in CONTROLS))]
    summary: dict[str, Any] = {
        "images": {"n": len(rows), "hash": list_hash(str(row["key"]) for row in rows)},
        "scores": {name: _mean(row.get(name) for row in rows) for name in _scores(rows)},
        "gain": {control: _gains(rows, names, control) for control in CONTROLS},
        "nothing_refined": sum(int(row.get("nothing_refined") or 0) for row in rows),
        "too_small": sum(row.get("levels") == 1 and row.get("hole_pixels") != 0 for row in rows) if refines else 0,
        "not_finite": sum(int(row.get("not_finite") or 0) > 0 for row in rows),
        "seconds": _mean(row.get("seconds") for row in rows),
        "peak_memory_mib": max((row.get("peak_memory_mib") or 0 for row in rows), default=0),
    }
    summary["gain"] = {control: gains for control, gains in summary["gain"].items() if gains}
    if masks := _masks(rows):
        summary["masks"] = masks
    if hashes := [row["mask_hash"] for row in rows if row.get("mask_hash")]:
        summary["masks_hash"] = joint_hash(hashes)
    if verdicts := [row["verdict"] for row in rows if row.get("verdict")]:
        summary["verdicts"] = {word: verdicts.count(word) for word in ("better", "worse", "unsure")}
    return summary


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """The most telling lines of a summary, for the terminal."""
    lines = []
    for name in (name for name in HEADLINES if name in summary["scores"]):
        line = f"{name} {_with_error(summary['scores'][name])}"
        gains = {control: gain[name] for control, gain in summary["gain"].items() if name in gain}
        lines.append(line + "".join(f", {control} {_with_error(gain, '+')}" for control, gain in gains.items()))
    if n := summary["nothing_refined"]:
        lines.append(
            f"nothing refined: {n} of {summary['images']['n']} images have holes too thin to be compared and keep the "
            f"plain prediction; {THIN_TOO} refines them too"
        )
    if n := summary["too_small"]:
        lines.append(f"too small: {n} of {summary['images']['n']} images have one level and keep the plain prediction")
    if n := summary["not_finite"]:
        lines.append(
            f"not finite: {n} of {summary['images']['n']} images have levels at which no prediction, or no loss, was "
            "finite; the result of the coarser level was enlarged there. The log names them"
        )
    if "verdicts" in summary:
        lines.append("refinement helped? " + ", ".join(f"{word} {n}" for word, n in summary["verdicts"].items()))
    for kind, n in summary.get("masks", {}).items():
        lines.append(f"{n} of {summary['images']['n']} images: {MASKS.get(kind, f'the mask is unusual ({kind})')}")
    return lines


def _masks(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Numbers of images with nothing or all to fill, and of masks by kind; rows of earlier runs may not know."""
    counts = Counter[str]()
    for row in rows:
        pixels, kind = row.get("hole_pixels"), row.get("mask_kind")
        constant = {0: "unchanged", row.get("width", 0) * row.get("height", 0): "all_hole"}.get(pixels)
        counts.update(name for name in (constant, kind) if name)
    return dict(counts)


def _scores(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of the scores: the columns that say who computes them."""
    ends = ("_torchmetrics", "_refine", "_lama", "_lpips")
    return list(dict.fromkeys(name for row in rows for name in row if name.endswith(ends)))


def _gains(rows: Sequence[Mapping[str, Any]], names: Iterable[str], control: str) -> dict[str, dict[str, float]]:
    gains = {name: _mean(_difference(row, name, control) for row in rows) for name in names}
    return {name: gain for name, gain in gains.items() if gain["n"]}


def _difference(row: Mapping[str, Any], name: str, control: str) -> float | None:
    values = row.get(name), row.get(f"{control}.{name}")
    return None if None in values else float(values[0]) - float(values[1])  # type: ignore[arg-type]


def _mean(values: Iterable[float | None]) -> dict[str, float]:
    """Mean, standard error and number of what is there and finite."""
    finite = [float(value) for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return {"mean": math.nan, "error": math.nan, "n": 0}
    mean = sum(finite) / len(finite)
    spread = sum((value - mean) ** 2 for value in finite) / (len(finite) - 1) if len(finite) > 1 else math.nan
    return {"mean": round(mean, 6), "error": round(math.sqrt(spread / len(finite)), 6), "n": len(finite)}


def _with_error(value: Mapping[str, float], sign: str = "") -> str:
    error = f" ± {value['error']:.2g}" if math.isfinite(value["error"]) else f" (n = {value['n']})"
    return f"{value['mean']:{sign}.4g}{error}"
