"""Show every place where a backbone can be cut: what crosses, what it costs, how far it reaches.

    refine layers backbone=big_lama backbone.weights=big-lama.zip size=512
    refine layers backbone=aot_gan tiny=true size=64
    refine layers backbone=my_network.yaml json=true plot=layers.png

Behind a cut lie shares of FLOPs and parameters; an update takes live memory and seconds at that size. The effective
receptive field is the side in px of the smallest square around one central position of z that holds 90 % of
|d prediction / d z|. The paper (section 3) cuts far from the prediction for its reach. The number says little of random
weights.
"""

import dataclasses
import io
import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from refine.analysis.cuts import Cut, survey
from refine.config import ConfigError, compose, require_bool
from refine.core.devices import checked_device
from refine.factory import make_backbone
from refine.io.files import write_atomic

PLOTS = (".png", ".pdf", ".svg")
CAPTION = "z and context: what crosses the cut. FLOPs, parameters: share behind it."
WIDTH = 140  # of a table that goes into a file


def run(overrides: Sequence[str]) -> int:
    """Run the command.

    Args:
        overrides: Hydra's ``key=value``.

    Returns:
        Exit status: 0.

    Raises:
        ValueError: If the request makes no sense, or the backbone cannot be built or cut.
    """
    config = compose("layers", overrides)
    as_json = _check(config)
    backbone = make_backbone(config.backbone, tiny=require_bool(config, "tiny")).to(checked_device(config.device))
    name, errors = str(config.backbone.get("name", "backbone")), Console(stderr=True)
    found = survey(backbone, config.size, config.repeats)
    cuts = list(
        track(found, f"measuring {escape(name)}", console=errors, transient=True, disable=not errors.is_terminal)
    )
    if not cuts:
        raise ConfigError(f"backbone '{name}' has no feature map to cut at; choose one with layers.")
    if as_json:
        about = {"backbone": name, "size": config.size, "device": str(backbone.device)}
        print(json.dumps({**about, "cuts": [dataclasses.asdict(cut) for cut in cuts]}, indent=2))
    else:
        width = None if sys.stdout.isatty() else WIDTH
        Console(width=width).print(table(f"backbone {name} at {config.size} px on {backbone.device}", cuts))
    if config.plot is not None:
        _save(plot(name, config.size, cuts, Path(config.plot).suffix[1:]), Path(config.plot).expanduser())
    return 0


def _check(config: DictConfig) -> bool:
    for key in ("size", "repeats"):
        if not isinstance(config[key], int) or isinstance(config[key], bool) or config[key] < 1:
            raise ConfigError(f"{key}={config[key]}: expected a whole number, 1 or more.")
    if config.plot is not None:
        if Path(config.plot).suffix.lower() not in PLOTS:
            raise ConfigError(f"plot={config.plot}: expected a file ending in one of {' '.join(PLOTS)}.")
        if find_spec("matplotlib") is None:
            raise ConfigError("plot= needs matplotlib, which is not installed: pip install 'refine-inpainting[plots]'.")
    return require_bool(config, "json")


def table(title: str, cuts: Sequence[Cut]) -> Table:
    """The places to read.

    Args:
        title: Over the table.
        cuts: Cuts from :func:`refine.analysis.cuts.survey`.
    """
    made = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, caption=CAPTION, caption_justify="left")
    made.add_column("cut", overflow="fold")
    made.add_column("z", overflow="fold")
    for column in ("context MiB", "FLOPs", "parameters", "live MiB", "s/update", "receptive field px"):
        made.add_column(column, justify="right")
    for cut in cuts:
        context = f"{cut.context_mib:.3g}"
        numbers = (context, _percent(cut.flops), _percent(cut.parameters), f"{cut.live_mib:.3g}", f"{cut.seconds:.3g}")
        made.add_row(escape(cut.cut), escape(_crossing(cut)), *numbers, str(cut.receptive_field or "-"))
    return made


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _crossing(cut: Cut) -> str:
    """Names that repeat the cut's own tell nothing."""
    shapes = {name.removeprefix(cut.cut).strip("."): "x".join(map(str, shape)) for name, shape in cut.shapes.items()}
    return ", ".join(f"{name} {shape}".strip() for name, shape in shapes.items())


def plot(name: str, size: int, cuts: Sequence[Cut], format: str) -> bytes:
    """The places side by side, as an image file.

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
    made = io.BytesIO()
    figure.savefig(made, format=format.lower())
    return made.getvalue()


def _save(data: bytes, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, data, file.parent)
