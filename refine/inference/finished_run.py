"""What a run left in its folder, for whoever comes after it: studies and reports.

The names of the files are those of :mod:`refine.inference.run_folder`.
"""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from refine.config import PredictConfig
from refine.inference.rows import read_rows
from refine.inference.run_folder import IDENTITY, JOB, TABLE
from refine.io.files import RUN_FOLDER, write_atomic

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's takes a seventh of the time, for each run of a study


def read_finished_rows(output: Path) -> list[dict[str, Any]]:
    """The rows of the last run that ended, with all that the table leaves out, such as ``losses``.

    Args:
        output: Folder of the results.

    Returns:
        A row per result, with numbers, texts and lists; empty if no run ended there.
    """
    file = output / RUN_FOLDER / TABLE
    if not file.is_file():
        return []
    complete_rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in (row for rows in read_rows(file.parent).values() for row in rows):
        complete_rows.setdefault(tuple(record[name] for name in IDENTITY), {}).update(record)
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        return [complete_rows.get(tuple(map(row.get, IDENTITY)), row) for row in csv.DictReader(stream)]


def read_config(output: Path) -> PredictConfig:
    """The settings of the last run.

    Args:
        output: Folder of the results.

    Raises:
        OSError: If there are none.
        ValueError: If they are not such settings.
    """
    text = (output / RUN_FOLDER / "config.yaml").read_text("utf-8")
    return PredictConfig.model_validate(yaml.load(text, LOADER))


def read_job(output: Path) -> dict[str, Any]:
    """How the study's run ended that wrote this folder; empty if none did.

    Args:
        output: Folder of the results.
    """
    try:
        content = json.loads((output / RUN_FOLDER / JOB).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_job(output: Path, content: Mapping[str, Any], name: str = JOB) -> None:
    """Note how a job ended, beside its results.

    Args:
        output: Folder of the results.
        content: Plain values.
        name: Name of the note's file.
    """
    folder = output / RUN_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / name, json.dumps(content, default=str).encode(), folder)


def read_decided_by(output: Path, fingerprint: str) -> dict[str, Any]:
    """What decided the results of a study's run; empty if it left no such note.

    Args:
        output: Folder of the results.
        fingerprint: SHA-256 (hex) of what :class:`refine.inference.fingerprint.RunFingerprints` gave.
    """
    try:
        content = json.loads((output / RUN_FOLDER / _decided_by(fingerprint)).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_decided_by(output: Path, fingerprint: str, content: Mapping[str, Any]) -> None:
    """Note what decides the results of a study's run, so that a later one can say what differs.

    Args:
        output: Folder of the results.
        fingerprint: SHA-256 (hex) of the content.
        content: Plain values.
    """
    if not (output / RUN_FOLDER / _decided_by(fingerprint)).is_file():
        write_job(output, content, _decided_by(fingerprint))


def _decided_by(fingerprint: str) -> str:
    return f"study-{fingerprint[:12]}.json"
