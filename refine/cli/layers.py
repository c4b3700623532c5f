"""Show every place where a backbone can be cut: what crosses, what it costs, how far it reaches.

    refine layers backbone=big_lama backbone.weights=big-lama.zip size=512
    refine layers backbone=aot_gan tiny=true size=64
    refine layers backbone=my_network.yaml json=true plot=layers.png
    refine layers backbone=mini backbone.cut=[0,2]      # the last row: both at once

Behind a cut lie shares of FLOPs and parameters; an update takes live memory and seconds at that size. The effective
receptive field is the side in px of the smallest square around one central position of z that holds 90 % of
|d prediction / d z|. The paper (section 3) cuts far from the prediction for its reach. The number says little of random
weights.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from refine.analysis.cuts import Cut, survey
from refine.analysis.plots import check_plot, plot
from refine.cli.tables import show
from refine.config import ConfigError, LayersConfig
from refine.config.verbosity import is_quiet
from refine.core.devices import checked_device
from refine.factory import make_backbone
from refine.io.files import write_atomic

CAPTION = "z and context: what crosses the cut. FLOPs, parameters: share behind it."


def run(overrides: Sequence[str]) -> int:
    """Run the command.

    Args:
        overrides: Hydra's ``key=value``.

    Returns:
        Exit status: 0.

    Raises:
        ValueError: If the request makes no sense, or the backbone cannot be built or cut.
    """
    config = LayersConfig.compose(overrides)
    if config.plot is not None:
        check_plot(config.plot)
    backbone = make_backbone(config.backbone, tiny=config.tiny).to(checked_device(config.device))
    name, errors = str(config.backbone.get("name", "backbone")), Console(stderr=True)
    measured = survey(backbone, config.size, config.repeats)
    title, silent = f"measuring {escape(name)}", is_quiet() or not errors.is_terminal
    cuts = list(track(measured, title, console=errors, transient=True, disable=silent))
    if not cuts:
        raise ConfigError(f"backbone '{name}' has no feature map to cut at; choose one with layers.")
    if config.json_:
        about = {"backbone": name, "size": config.size, "device": str(backbone.device)}
        print(json.dumps({**about, "cuts": [dataclasses.asdict(cut) for cut in cuts]}, indent=2))
    else:
        show(table(f"backbone {name} at {config.size} px on {backbone.device}", cuts))
    if config.plot is not None:
        file = Path(config.plot).expanduser()
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, plot(name, config.size, cuts, file.suffix[1:]), file.parent)
    return 0


def table(title: str, cuts: Sequence[Cut]) -> Table:
    """The cuts as a table for a terminal.

    Args:
        title: Over the table.
        cuts: Cuts from :func:`refine.analysis.cuts.survey`.
    """
    result = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, caption=CAPTION, caption_justify="left")
    result.add_column("cut", overflow="fold")
    result.add_column("z", overflow="fold")
    for column in ("context MiB", "FLOPs", "parameters", "live MiB", "s/update", "receptive field px"):
        result.add_column(column, justify="right")
    for cut in cuts:
        context = f"{cut.context_mib:.3g}"
        numbers = (context, _percent(cut.flops), _percent(cut.parameters), f"{cut.live_mib:.3g}", f"{cut.seconds:.3g}")
        result.add_row(escape(cut.cut), escape(_crossing(cut)), *numbers, str(cut.receptive_field or "-"))
    return result


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _crossing(cut: Cut) -> str:
    """Name, as ``refiner.optimize`` wants it, and shape of each tensor; a name that is the cut's own tells nothing."""
    shapes = {name: "x".join(map(str, shape)) for name, shape in cut.shapes.items()}
    return ", ".join(shape if name == cut.cut else f"{name} {shape}" for name, shape in shapes.items())
