"""Try refinement in the browser: load a photo, paint a hole, watch it being filled, compare, download.

    refine app
    refine app backbone=big_lama backbone.weights=big-lama.zip preset=paper port=8000

The page is served to this machine alone. Needs the extra [app]. Settings of the backbone hold for the backbone that is
named here, all others for every choice of the page. Ctrl-C ends it; no picture is left.
"""

import threading
from collections.abc import Sequence
from importlib.util import find_spec

from refine.cli.backbones import entries
from refine.config import AppConfig, ConfigError, names_in
from refine.inference.signals import stoppable

READY = ("none", "bundled", "cached")  # weights that are there


def run(overrides: Sequence[str]) -> int:
    """Run the command.

    Args:
        overrides: Hydra's ``key=value``.

    Returns:
        Exit status: 130 after Ctrl-C, 143 after SIGTERM; nothing else ends it.

    Raises:
        ValueError: If the request makes no sense.
    """
    config = AppConfig.compose(overrides)
    if find_spec("gradio") is None:
        raise ConfigError("refine app needs gradio, which is not installed: pip install 'refine-inpainting[app]'.")
    if config.backbones:
        check(config.backbones, overrides)
    offered = config.backbones or ready(overrides)
    from refine.app.server import serving  # seconds, which a misspelled setting should not take

    with stoppable(), serving(overrides, offered) as address:
        print(f"refine app: {address} (Ctrl-C ends it)", flush=True)
        try:
            threading.Event().wait()
        except SystemExit:
            return 143
    return 0


def ready(overrides: Sequence[str]) -> list[str]:
    """Names of the backbones whose weights are there.

    Args:
        overrides: Hydra's ``key=value``.
    """
    own = _folders(overrides)
    return [
        row["name"]
        for row in entries(names_in("backbone", own), own)
        if "error" not in row and row["weights"]["state"] in READY
    ]


def check(backbones: Sequence[str], overrides: Sequence[str]) -> None:
    """Read the configuration of each backbone, so that a wrong name is told at the start.

    Args:
        backbones: Names of the backbones that the page shall offer.
        overrides: Hydra's ``key=value``.

    Raises:
        ConfigError: If one cannot be read.
    """
    for row in entries(backbones, _folders(overrides)):
        if "error" in row:
            raise ConfigError(f"backbones=[{','.join(backbones)}]: {row['error']}")


def _folders(overrides: Sequence[str]) -> list[str]:
    """The overrides that say where own configurations are."""
    return [override for override in overrides if override.startswith("config_dir=")]
