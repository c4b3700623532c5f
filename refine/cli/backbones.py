"""List all backbones, and where their weights are.

    refine backbones
    refine backbones config_dir=my_configs json=true
    refine backbones backbone=my_network.yaml

Weights are: bundled with the package; cached at a path (where `refine fetch` or you have put them); fetchable; or
needed, to be given as backbone.weights=<file>.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from refine.config import CONFIGS, ConfigError, compose, plain, require_bool
from refine.weights.download import weights_state

WIDTH = 140  # of a table that goes into a file
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
    as_json = require_bool(compose("backbones", overrides), "json")
    chosen = [override for override in overrides if override.startswith("backbone=")]
    others = [override for override in overrides if override not in chosen]
    rows = [entry(one, others) for one in chosen or [f"backbone={name}" for name in names(overrides)]]
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        Console(width=None if sys.stdout.isatty() else WIDTH).print(table(rows))
    return int(any("error" in row for row in rows))


def names(overrides: Sequence[str]) -> list[str]:
    """Of all backbones, also those in the folder of ``config_dir=``.

    Args:
        overrides: Hydra's ``key=value``.
    """
    given = [Path(o.partition("=")[2]).expanduser() for o in overrides if o.startswith("config_dir=")]
    return sorted({file.stem for folder in (CONFIGS, *given) for file in (folder / "backbone").glob("*.yaml")})


def entry(choice: str, overrides: Sequence[str]) -> dict[str, Any]:
    """One row: what a backbone's configuration says of it.

    Args:
        choice: ``backbone=<name>``.
        overrides: Further ones.
    """
    try:
        backbone = plain(compose("backbones", [choice, *overrides]).backbone)
    except ConfigError as error:
        return {"name": choice.partition("=")[2], "error": str(error)}
    card, found = backbone.get("card") or {}, weights_state(backbone)
    known = {key: card.get(key) for key in ("paper", "code", "parameters", "license", "url", "sha256", "manual")}
    weights = {"state": found.state, "path": found.path, "text": str(found)}
    return {"name": backbone.get("name"), **known, "native_size": backbone.get("native_size"), "weights": weights}


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows to read.

    Args:
        rows: Of :func:`entry`.
    """
    made = Table(box=SIMPLE_HEAD)
    for title in COLUMNS.values():
        made.add_column(title, overflow="fold")
    for row in rows:
        if "error" in row:
            made.add_row(escape(str(row["name"])), f"[red]{escape(row['error'])}")
            continue
        cells = {**row, "weights": row["weights"]["text"]}
        made.add_row(*(escape(str("" if cells[key] is None else cells[key])) for key in COLUMNS))
    return made
