"""Rows of results: a line of JSON each while a run is at work, one table at its end."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Rows = dict[tuple[str, str], list[dict[str, Any]]]  # by name and SHA-256 (hex) of the result


def read_rows(folder: Path) -> Rows:
    """The rows of each result and hash over all processes, those of a process in the order of time."""
    rows: Rows = {}
    for file in sorted(folder.glob("rows-*.jsonl")):
        for line in file.read_text(errors="replace").splitlines():
            try:
                row = json.loads(line)
                if {"configuration", "inputs"} <= row.keys():
                    rows.setdefault((row["output"], row["sha256"]), []).append(row)
            except (ValueError, KeyError, AttributeError):
                continue  # cut short by a kill; its result never appeared
    return rows


def joined(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One row of several of one result: the latest, with what earlier ones of the same inputs know beyond it.

    Args:
        rows: Rows of the same file, at least one.
    """
    same = [row for row in rows if row["inputs"] == rows[-1]["inputs"]]
    return {name: value for row in same for name, value in row.items()}


def as_csv(rows: Sequence[Mapping[str, Any]], columns: list[str] | None = None) -> str:
    """A table; what is a list, such as a curve of losses, stays in the rows as they were written."""
    if columns is None:
        columns = list(dict.fromkeys(key for row in rows for key, value in row.items() if not isinstance(value, list)))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
