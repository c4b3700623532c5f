"""Reads an offline run of W&B back from its file: what a server would have been told."""

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wandb
from wandb.proto import wandb_internal_pb2

LITTLE = {"WANDB_X_SAVE_REQUIREMENTS": "false", "WANDB_DISABLE_GIT": "true"}
"""What spares every run the list of all installed packages and a look at the repository: half of its seconds."""

BLOCK, HEADER = 32768, 7  # bytes; of a LevelDB log, whose records are cut at the blocks' ends


@dataclass
class OfflineRun:
    """What was said about a run."""

    folder: Path
    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)  # name -> its axis
    artifacts: list[Any] = field(default_factory=list)
    exit_code: int | None = None

    def series(self, name: str, axis: str) -> dict[int, float]:
        return {row[axis]: row[name] for row in self.history if name in row}


def records(path: Path):
    """The records of a ``.wandb`` file: 7 bytes of identity, then blocks of [crc, length, kind, data]."""
    data, position, whole = path.read_bytes(), HEADER, b""
    while position < len(data):
        if BLOCK - position % BLOCK < HEADER:
            position += BLOCK - position % BLOCK  # too little was left for a header
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + HEADER])
        whole = (b"" if kind in (1, 2) else whole) + data[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (1, 4):  # a whole record, or the last piece of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record


def read(path: Path) -> OfflineRun:
    found = OfflineRun(path.parent)
    for record in records(path):
        kind = record.WhichOneof("record_type")
        message = getattr(record, kind) if kind else None
        if kind == "run":
            found.run = message
            found.config |= items(message.config.update)
        elif kind == "config":
            found.config |= items(message.update)
        elif kind == "history":
            found.history.append(items(message.item))
        elif kind == "summary":
            found.summary |= items(message.update)
        elif kind == "metric":
            found.metrics[message.name] = message.step_metric
        elif kind == "artifact":
            found.artifacts.append(message)
        elif kind == "exit":
            found.exit_code = message.exit_code
    return found


def items(entries) -> dict[str, Any]:
    """Entries of a message; what is nested comes in pieces."""
    found: dict[str, Any] = {}
    for entry in entries:
        *outer, name = entry.nested_key or [entry.key]
        place = found
        for key in outer:
            place = place.setdefault(key, {})
        place[name] = json.loads(entry.value_json)
    return found


def runs(output: Path, folder: str = ".refine") -> list[OfflineRun]:
    """All offline runs of an output folder, in the order in which they began; those of a study lie in ``.study``."""
    wandb.teardown()  # its service writes on for a moment after a run is finished
    files = (output / folder / "wandb").glob("offline-run-*/run-*.wandb")
    return [read(path) for path in sorted(files, key=lambda path: path.stat().st_mtime_ns)]
