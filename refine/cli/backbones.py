"""List all backbones, and where their weights are.

    refine backbones
    refine backbones config_dir=my_configs json=true
    refine backbones backbone=my_network.yaml

Weights are: bundled with the package; cached at a path (where `refine fetch` or you have put them); fetchable; or
needed, to be given as backbone.weights=<file>.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from omegaconf import OmegaConf
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from refine.cli.tables import show
from refine.config import BackbonesConfig, ConfigError, compose, names_in, plain
from refine.weights.download import weights_state

COLUMNS = {
    "name": "backbone=",
    "paper": "network",
    "parameters": "parameters",
    "native_size": "native px",
    "license": "license",
    "weights": "weights",
}


def run(overrides: Sequence[str]) -> int:
    """Run the command.

    Args:
        overrides: Hydra's ``key=value``.

    Returns:
        Exit status: 0, or 1 if a configuration cannot be read.

    Raises:
        ValueError: If the request makes no sense.
    """
    config = BackbonesConfig.compose(overrides)
    selected = [override for override in overrides if override.startswith("backbone=")]
    others = [override for override in overrides if override not in selected]
    rows = [entry(override, others) for override in selected] or entries(names_in("backbone", overrides), others)
    if config.json_:
        print(json.dumps(rows, indent=2))
    else:
        show(table(rows))
    return int(any("error" in row for row in rows))


def entries(backbones: Sequence[str], overrides: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each backbone.

    They are composed together, which takes a fifth of the time; one by one if one of them cannot be read, or depends
    on where it stands in the configuration.

    Args:
        backbones: Names of the backbones.
        overrides: Further overrides, Hydra's ``key=value``.
    """
    together = [f"+backbone@all.n{number}={name}" for number, name in enumerate(backbones)]
    if not any(override.startswith("backbone.") for override in overrides):
        with suppress(ConfigError):
            sections = compose("backbones", [*together, *overrides])["all"]
            if "${" not in OmegaConf.to_yaml(sections):
                return [_row(plain(section)) for section in sections.values()]
    return [entry(f"backbone={name}", overrides) for name in backbones]


def entry(backbone: str, overrides: Sequence[str]) -> dict[str, Any]:
    """One row: what the configuration of a backbone says of it, or the error that it cannot be read.

    Args:
        backbone: Override ``backbone=<name>``.
        overrides: Further overrides, Hydra's ``key=value``.
    """
    try:
        return _row(plain(compose("backbones", [backbone, *overrides]).backbone))
    except ConfigError as error:
        return {"name": backbone.partition("=")[2], "error": str(error)}


def _row(backbone: Mapping[str, Any]) -> dict[str, Any]:
    card, state = backbone.get("card") or {}, weights_state(backbone)
    facts = {key: card.get(key) for key in ("paper", "code", "parameters", "license", "url", "sha256", "manual")}
    weights = {"state": state.state, "path": state.path, "text": str(state)}
    return {"name": backbone.get("name"), **facts, "native_size": backbone.get("native_size"), "weights": weights}


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows as a table for a terminal.

    Args:
        rows: Entries, one for each backbone, as :func:`entry` returns them.
    """
    result = Table(box=SIMPLE_HEAD)
    for title in COLUMNS.values():
        result.add_column(title, overflow="fold")
    for row in rows:
        if "error" in row:
            result.add_row(escape(str(row["name"])), f"[red]{escape(row['error'])}")
            continue
        cells = {**row, "weights": row["weights"]["text"]}
        result.add_row(*(escape(str("" if cells[key] is None else cells[key])) for key in COLUMNS))
    return result
