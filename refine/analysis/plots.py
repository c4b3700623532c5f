"""Plot of a backbone's cuts."""

import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from refine.analysis.cuts import Cut

SUFFIXES = (".png", ".pdf", ".svg")


def check_plot(file: str) -> None:
    """Check, before anything is measured, that a plot can be written.

    Args:
        file: Path of the plot.

    Raises:
        ValueError: If its suffix is none of :data:`SUFFIXES`, or matplotlib is not installed.
    """
    if Path(file).suffix.lower() not in SUFFIXES:
        raise ValueError(f"plot={file}: expected a file ending in one of {' '.join(SUFFIXES)}.")
    if find_spec("matplotlib") is None:
        raise ValueError("plot= needs matplotlib, which is not installed: pip install 'refine-inpainting[plots]'.")


def plot(name: str, size: int, cuts: Sequence[Cut], format: str) -> bytes:
    """Plot of the cuts side by side, as the bytes of an image file.

    Args:
        name: Name of the backbone.
        size: Side of the image that was measured, px.
        cuts: Cuts from :func:`refine.analysis.cuts.survey`.
        format: ``png``, ``pdf`` or ``svg``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(8, 0.3 * len(cuts)), 8), layout="constrained")
    figure.suptitle(f"{name} at {size} px, by backbone.cut")
    panels: dict[str, dict[str, Any]] = {
        "effective receptive field, px": {"receptive_field": [cut.receptive_field for cut in cuts]},
        "share behind": {"FLOPs": [cut.flops for cut in cuts], "parameters": [cut.parameters for cut in cuts]},
        "live memory, MiB": {"live": [cut.live_mib for cut in cuts]},
        "seconds per update": {"seconds": [cut.seconds for cut in cuts]},
    }
    for axes, (title, lines) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
        for label, values in lines.items():
            axes.plot(range(len(cuts)), [float("nan") if v is None else v for v in values], "o-", label=label)
        axes.set(title=title, ylim=(0, None))
        axes.set_xticks(range(len(cuts)), [cut.cut for cut in cuts], rotation=90 if len(cuts) > 9 else 0)
        if len(lines) > 1:
            axes.legend()
    image = io.BytesIO()
    figure.savefig(image, format=format.lower())
    return image.getvalue()
