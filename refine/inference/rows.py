"""Rows of results: a line of JSON each while a run is at work, one table at its end."""

import csv
import errno
import io
import json
import math
import os
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


def append_row(file: Path, row: Mapping[str, Any]) -> None:
    """Add a row as one line, safe on the disk when this returns.

    Args:
        file: File of the rows of one process.
        row: Plain values by name.

    Raises:
        OSError: If the disk is full.
    """
    with file.open("ab", buffering=0) as stream:
        # The line break comes first: a line that a kill cut short must not swallow this one. Written at once, so that
        # the lines of two runs do not mix.
        line = f"\n{json.dumps(row)}".encode()
        if stream.write(line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(stream.fileno())


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


def without_nan(value: Any) -> Any:
    """Plain values with None for numbers that are not finite, which JSON does not know.

    Args:
        value: Numbers and texts, in mappings and lists of any depth.
    """
    if isinstance(value, Mapping):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
