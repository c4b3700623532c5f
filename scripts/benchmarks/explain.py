"""Analysis of the gain: on which images refinement helped, and what the gain correlates with.

    python scripts/benchmarks/explain.py rows=runs/bundled_backbones/512_mini/default/.refine/rows.csv

Reads the rows of a run with truth (``refine predict ... masks=thick``, or an arm of a study), and prints, for PSNR and
SSIM in the hole: the gain where the enlarged coarse result is better than the plain one and where it is not, and the
correlation of the gain with that advantage of the coarse result, with the hole's share of the image, with the share of
the hole that is guided at the last level, and with the plain result's own score. Gain and advantage both have the plain
score taken off, so part of their correlation, and of that with the plain score, is by construction.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from options import read

SCORES = ("psnr_hole_torchmetrics", "ssim_hole_refine")


def explain(rows: Sequence[dict[str, str]], score: str) -> str:
    """Lines of text about one score.

    Args:
        rows: Rows of a run's ``rows.csv``, by column.
        score: Name of the score's column.
    """

    def column(name: str) -> np.ndarray:
        return np.array([float((row[name] or "nan").split()[-1]) for row in rows])

    plain, coarse = column(f"plain.{score}"), column(f"upscaled.{score}")
    values = {
        "advantage of the coarse result": coarse - plain,
        "hole": column("hole"),
        "guided": column("guided"),
        "plain": plain,
    }
    gain = column(score) - plain
    lines = [f"{score}: gain {_mean(gain)}"]
    for name, selected in (("better", coarse > plain), ("not better", coarse <= plain)):
        lines.append(f"  where the coarse result is {name} than the plain one: {_mean(gain[selected])}")
    for name, value in values.items():
        finite = np.isfinite(gain) & np.isfinite(value)
        varied = finite.sum() > 2 and value[finite].std() > 0 and gain[finite].std() > 0
        correlation = f"{np.corrcoef(gain[finite], value[finite])[0, 1]:+.2f}" if varied else "-"
        lines.append(f"  correlation with {name}: {correlation}")
    return "\n".join(lines)


def _mean(values: np.ndarray) -> str:
    """Mean and its standard error."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return f"{len(values)} images"
    return f"{values.mean():+.4f} +- {values.std(ddof=1) / len(values) ** 0.5:.4f} (n = {len(values)})"


def main(arguments: Sequence[str]) -> None:
    """Print the analysis of a run's rows.

    Args:
        arguments: Command line, ``rows=<file>``.
    """
    file = read({"rows": ""}, arguments, {"rows": "a run's .refine/rows.csv"})["rows"]
    if not Path(file).is_file():
        raise SystemExit(f"rows={file}: no such file.")
    with Path(file).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or f"upscaled.{SCORES[0]}" not in rows[0]:
        raise SystemExit(f"{file}: no scores of refined results and controls; run with a truth, such as masks=thick.")
    print("\n".join(explain(rows, score) for score in SCORES))


if __name__ == "__main__":
    main(sys.argv[1:])
