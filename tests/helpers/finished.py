"""Folders of finished runs, written by hand."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refine.studies.spec import StudyRun


def write_rows(output: Path, rows: Sequence[Mapping[str, Any]], configuration="now") -> None:
    """The records of a run: a line per result, and the table; lines of earlier runs stay."""
    folder = output / ".refine"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"configuration": configuration, "inputs": "same", "sha256": "0", **row} for row in rows]
    with (folder / "rows-0.jsonl").open("a") as stream:
        stream.writelines(f"\n{json.dumps(row)}" for row in rows)
    columns = dict.fromkeys(name for row in rows for name, value in row.items() if not isinstance(value, list))
    with (folder / "rows.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, columns, restval="", extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)


def planted(folder: Path, values: Mapping[str, Mapping[str, Any]], seconds=1.0) -> StudyRun:
    """A study's run with rows by hand: image -> its score, or score and hash of inputs."""
    common = {"psnr": 0, "seconds": seconds, "peak_memory_mib": 5}
    write_rows(folder, [{"output": f"{key}.png", "key": key, **common, **row} for key, row in values.items()])
    return StudyRun("", folder.name, folder, ())


def write_study(folder: Path, text: str) -> Path:
    """The folder of a study of this YAML."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(text)
    return folder
