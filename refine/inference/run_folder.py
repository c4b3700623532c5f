"""The folder ``<output>/.refine/``: what a run has finished and what failed, safe against being killed at any moment.

Nobody else knows what lies there. A row is on disk *before* its result appears under its name, and it
holds the result's hash; so after a kill a result is finished exactly if its file has the hash of one of its rows.

    settings-<hash>.json     everything that changes pixels, of one configuration
    config.yaml              the whole configuration of the latest run
    rows-<part>.jsonl        rows as they were written, of all runs; a part is a rank, or a shard and a rank
    failures-<part>.json     what a process of the latest run could not do
    rows.csv, failures.csv   table of the latest run: one row per result that is there; what failed and why
    summary.json, log.txt    means, gains and verdicts; everything that was said
    panels/<image>/          pictures of chosen images
    run-id-<hash>.txt        what loggers call the run of one configuration, however often it is continued
    job.json, job-<n>.json   how the study's run, or the shards, ended that wrote here; shards/ is their launcher's
    study-<hash>.json        settings, code and inputs of the study's run, by its fingerprint
    lock, unfinished/        who writes here now, and files that are not complete yet
"""

import contextlib
import functools
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from refine.config import PredictConfig
from refine.data.pairs import Failure
from refine.inference.differences import different_inputs, different_settings
from refine.inference.rows import Rows, append_row, as_csv, joined, read_rows, without_nan
from refine.io.files import RUN_FOLDER, Lock, hash_file, hash_settings, kept_id, new_id, write_atomic

TABLE, JOB = "rows.csv", "job.json"
IDENTITY = ("output", "configuration", "inputs", "sha256")  # columns that name a result
Note = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
RECORDS = ("config.yaml", "rows.csv", "failures.csv", "summary.json", "settings-*.json", "rows-*.jsonl")


class RunFolder:
    """What one process of a run knows and keeps of an output folder.

    Args:
        output: Folder of the results.
        settings: Everything that changes pixels, as plain nested values.
        part: Name of this process among those that share the work, which writes rows of its own: its rank, or its
            shard and rank.

    Attributes:
        folder: Path of ``<output>/.refine``.
        configuration: SHA-256 (hex) of the settings.
        failures: Images that this process could not do.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any], part: str = "0") -> None:
        self.output = output
        self.folder = output / RUN_FOLDER
        self.settings = dict(settings)
        self.configuration = hash_settings(settings)
        self.part = part
        self.failures: list[Failure] = []
        self._notes: dict[str, list[Note]] = {}  # of rows that are still to be written, by key
        self._failing = threading.Lock()
        self._lock: Lock | None = None

    def open(self) -> None:
        """Make the folder, remove what a dead run left half done, and note the settings.

        Raises:
            Busy: If a living run of other settings writes there.
            OSError: If the output cannot be written.
        """
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._lock = Lock(self.folder / "lock", self.configuration, self._remove_leftovers)
        self.write(f"settings-{self.configuration[:12]}.json", json.dumps(self.settings, indent=1, default=str))

    def write(self, name: str, text: str) -> None:
        """Write a file of the run's own beside the rows."""
        write_atomic(self.folder / name, text.encode(errors="surrogateescape"), self._scratch)

    def write_panel(self, key: str, inputs: str, name: str, data: bytes) -> None:
        """Write one picture of an image into its :meth:`panel_folder`."""
        folder = self.panel_folder(key, inputs)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / name, data, self._scratch)

    def write_configuration(self, config: PredictConfig) -> None:
        """Write the whole configuration of this run."""
        self.write("config.yaml", yaml.safe_dump(config.model_dump(), allow_unicode=True, sort_keys=False))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write means, gains and verdicts."""
        self.write("summary.json", json.dumps(without_nan(summary), indent=1, allow_nan=False))

    def run_id(self, given: str | None = None) -> str:
        """Id of this configuration's run for loggers that can continue one.

        A second process that works here meanwhile gets an id of its own: no logger takes one run from two sides.

        Args:
            given: Id that somebody else chose, such as the agent of a sweep; it is kept.

        Raises:
            OSError: If the id cannot be kept.
        """
        if self._lock and not self._lock.first:
            return given or new_id()
        return kept_id(self.folder / f"run-id-{self.configuration[:12]}.txt", given, self._scratch)

    @property
    def log(self) -> Path:
        """File to which everything that is said is added."""
        return self.folder / "log.txt"

    @property
    def record_files(self) -> list[Path]:
        """The tables and settings that are there, all but pictures and log."""
        return sorted(file for pattern in RECORDS for file in self.folder.glob(pattern))

    def panel_folder(self, key: str, inputs: str, configuration: str | None = None) -> Path:
        """Folder of an image's pictures: another configuration or other inputs have another.

        Args:
            key: Name of the image within the run.
            inputs: SHA-256 (hex) of the files the result is made from.
            configuration: SHA-256 (hex) of the settings; this run's if None.
        """
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", key)[-60:]
        text = f"{configuration or self.configuration}/{inputs}/{key}".encode(errors="surrogateescape")
        return self.folder / "panels" / f"{name}-{hashlib.sha256(text).hexdigest()[:12]}"

    def note(self, key: str, columns: Note) -> None:
        """Keep columns for the row of an image whose result is still to be written.

        Args:
            key: Name of the image within the run.
            columns: Plain values by name, or a function that works them out when the row is written.
        """
        self._notes.setdefault(key, []).append(columns)

    def take_notes(self, key: str) -> list[Note]:
        """What was noted of an image, which is forgotten here."""
        return self._notes.pop(key, [])

    def state(self, name: str, inputs: str) -> str:
        """Where the result of this name stands.

        Args:
            name: Path of the result, relative to the output folder.
            inputs: SHA-256 (hex) of the files it is made from.

        Returns:
            ``missing``, ``finished``, or why it is neither: ``of another configuration``, ``of other input files``,
            or ``not made by refine, or changed since``.
        """
        file = self.output / name
        if not os.path.lexists(file):
            return "missing"
        rows = self._rows_of(name)
        if not rows:
            return "not made by refine, or changed since"
        current = [row for row in rows if self._is_current(row)]
        if not current:
            return "of another configuration"
        same_inputs = any(row["inputs"] == inputs for row in current)
        return "finished" if same_inputs else "of other input files"

    def differences(self, name: str, contents: Mapping[str, str]) -> list[str]:
        """In what a result differs from the one that this run would make; empty if its records do not tell.

        Args:
            name: Path of the result, relative to the output folder.
            contents: What it would be made from, :meth:`refine.data.pairs.ImageMaskPair.contents`.
        """
        rows = self._rows_of(name)
        row = ([row for row in rows if self._is_current(row)] or rows or [{}])[-1]
        files, key = dict(row.get("contents", ())), str(row.get("key", name))
        found = different_inputs({key: files}, {key: contents}) if files and contents else []
        try:
            text = (self.folder / f"settings-{row.get('configuration', '')[:12]}.json").read_text()
        except OSError:
            return found
        return different_settings(json.loads(text), json.loads(json.dumps(self.settings, default=str))) + found

    def finish(self, name: str, inputs: str, data: bytes, row: Mapping[str, Any]) -> None:
        """Write a result, its row first. A file that holds it already is left alone: another run was faster.

        Args:
            name: Path of the result, relative to the output folder.
            inputs: SHA-256 (hex) of the files it is made from.
            data: Bytes of the result's file.
            row: Further columns of its row, plain values.

        Raises:
            OSError: If it cannot be written; nothing half written stays.
        """
        (self.output / name).parent.mkdir(parents=True, exist_ok=True)
        sha256 = hashlib.sha256(data).hexdigest()
        self._append({"output": name, "configuration": self.configuration, "inputs": inputs, "sha256": sha256, **row})
        file = self.output / name
        if not (file.is_file() and hash_file(file) == sha256):
            write_atomic(file, data, self._scratch)

    def add(self, row: Mapping[str, Any], columns: Mapping[str, Any]) -> None:
        """Add columns to the row of a result that is there.

        Args:
            row: Its row, one of :meth:`rows`.
            columns: Plain values by name.

        Raises:
            OSError: If they cannot be written.
        """
        self._append({**{name: row[name] for name in IDENTITY}, **columns})

    def fail(self, failure: Failure) -> None:
        """Note an image that could not be done, from any thread; the notes of all processes are read at the end."""
        with self._failing:
            self.failures.append(failure)
            notes = [{"key": failure.key, "reason": failure.reason} for failure in self.failures]
            content = {"configuration": self.configuration, "failures": notes}
            with contextlib.suppress(OSError):  # a full disk; this process still knows
                self.write(f"failures-{self.part}.json", json.dumps(content))

    def forget_failures(self, part: str) -> None:
        """Remove what was noted by an earlier run.

        Args:
            part: Pattern of the processes' names: those that start again now.
        """
        for file in self.folder.glob(f"failures-{part}.json"):
            file.unlink(missing_ok=True)

    def read_failures(self) -> list[Failure]:
        """What the processes of this configuration could not do, as each of them noted last."""
        files = set(self.folder.glob("failures-*.json")) - {self.folder / f"failures-{self.part}.json"}
        noted = [json.loads(file.read_text()) for file in sorted(files)]
        notes = [note for part in noted if part["configuration"] == self.configuration for note in part["failures"]]
        return self.failures + [Failure(note["key"], note["reason"]) for note in notes]

    def rows(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The row of each of these results that is there as this configuration makes it, from whichever process."""
        self.__dict__.pop("_rows", None)  # other processes wrote since
        candidates = {name: [row for row in self._rows_of(name) if self._is_current(row)] for name in names}
        return {name: joined(rows) for name, rows in candidates.items() if rows}

    def of_other_settings(self, names: Iterable[str]) -> list[str]:
        """Those of these results that are there and that no process of this configuration has made."""
        rows = read_rows(self.folder)
        made = {name for (name, _), same in rows.items() if any(map(self._is_current, same))}
        others = {name for name, _ in rows} - made
        return [name for name in names if name in others and os.path.lexists(self.output / name)]

    def close(self, rows: Sequence[Mapping[str, Any]], failures: Sequence[Failure]) -> None:
        """Write ``rows.csv`` and ``failures.csv``, and :meth:`release` the folder.

        Args:
            rows: Rows of all results that are there.
            failures: Images without a result, and why.
        """
        try:
            self.write(TABLE, as_csv(rows))
            reasons = [{"key": failure.key, "reason": failure.reason} for failure in failures]
            self.write("failures.csv", as_csv(reasons, ["key", "reason"]))
        finally:
            self.release()

    def release(self) -> None:
        """Let other runs in."""
        if self._lock:
            self._lock.release()

    def _remove_leftovers(self) -> None:
        for leftover in self._scratch.iterdir():
            leftover.unlink(missing_ok=True)

    @property
    def _scratch(self) -> Path:
        return self.folder / "unfinished"

    def _rows_of(self, name: str) -> list[dict[str, Any]]:
        """The rows of a result as its file is now."""
        file = self.output / name
        return self._rows.get((name, hash_file(file)), []) if os.path.isfile(file) else []

    def _is_current(self, row: Mapping[str, Any]) -> bool:
        """Whether a row was written with the configuration of this run."""
        return bool(row["configuration"] == self.configuration)

    @functools.cached_property
    def _rows(self) -> Rows:
        return read_rows(self.folder)

    def _append(self, row: Mapping[str, Any]) -> None:
        append_row(self.folder / f"rows-{self.part}.jsonl", row)
