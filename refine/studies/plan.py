"""Plan of a study on disk: settings and fingerprint of each run, and which runs are complete."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refine.config import ConfigError, PredictConfig
from refine.data.pairs import inputs_hash
from refine.inference.differences import different_inputs, different_settings
from refine.inference.fingerprint import RunFingerprints
from refine.inference.finished_run import read_decided_by, read_finished_rows, read_job, write_decided_by
from refine.io.files import hash_settings, write_atomic
from refine.studies.labels import without_loggers
from refine.studies.spec import FORMER, StudyRun

STUDY = ".study"  # in a study's output, for all that is no result
PLAN = "plan.json"


def with_fingerprints(runs: Sequence[StudyRun]) -> list[StudyRun]:
    """The runs, each with the fingerprint of all that decides its results, as it is now.

    A run that cannot be has one of its own, so that it is tried, and says why it fails.

    Args:
        runs: All runs of the study.

    Raises:
        ConfigError: If the settings of a run make no sense: better now than in the middle of the night.
    """
    fingerprints = RunFingerprints()
    decided = [(run, _decided_by(run, fingerprints)) for run in runs]
    return [dataclasses.replace(run, fingerprint=hash_settings(by), decided_by=by) for run, by in decided]


def _decided_by(run: StudyRun, fingerprints: RunFingerprints) -> dict[str, Any]:
    try:
        config = PredictConfig.compose(run.overrides)
    except ConfigError as error:
        raise ConfigError(f"arm {run.name}: {error}") from None
    try:
        return fingerprints(config)
    except Exception as error:  # adapters of users raise anything
        return {"overrides": without_loggers(run.overrides), "error": str(error)}


def write_plan(output: Path, runs: Sequence[StudyRun]) -> None:
    """Write down what every run has to do, for the process that does it, and beside its results what decides them.

    Args:
        output: Folder of the study's results.
        runs: All runs of the study, with fingerprints.
    """
    content = {}
    for run in runs:
        write_decided_by(run.folder, run.fingerprint, run.decided_by)
        planned = dataclasses.replace(run, decided_by={})
        content[run.name] = {**dataclasses.asdict(planned), "folder": str(run.folder)}
    folder = output / STUDY
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / PLAN, json.dumps(content, indent=1).encode(errors="surrogateescape"), folder)


def read_plan(output: Path) -> dict[str, StudyRun]:
    """The planned runs by name.

    Args:
        output: Folder of the study's results.

    Raises:
        ValueError: If there is no plan.
    """
    file = output / STUDY / PLAN
    try:
        content = json.loads(file.read_text(errors="surrogateescape"))
    except FileNotFoundError:
        raise ValueError(f"output={output}: no study was run there; there is no {file}.") from None
    return {name: _planned(settings) for name, settings in content.items()}


def _planned(settings: dict[str, Any]) -> StudyRun:
    arm = FORMER.get(settings["arm"], settings["arm"])
    folder, overrides = Path(settings["folder"]), tuple(settings["overrides"])
    return StudyRun(settings["group"], arm, folder, overrides, settings["fingerprint"])


def problem(run: StudyRun) -> str:
    """Why a run is not complete, in a sentence; empty if it is.

    Args:
        run: Planned run.
    """
    job = read_job(run.folder)
    if not job:
        return "not run, or not to its end"
    if job.get("fingerprint") != run.fingerprint:
        names = _differences(run, str(job.get("fingerprint")))
        return f"run with other settings or inputs{': ' if names else ''}{'; '.join(names)}"
    if job.get("status") != 0:
        return str(job.get("reason") or f"ended with status {job.get('status')}")
    rows = read_finished_rows(run.folder)
    if len(_without_others(run, rows)) < len(rows):
        return "results are of other settings, code or inputs: something was changed after the study had begun"
    return "" if all((run.folder / row["output"]).is_file() for row in rows) else "results were removed"


def _differences(run: StudyRun, fingerprint: str) -> list[str]:
    """In what a run differs from the one of this fingerprint; empty if one of them left no record."""
    old, new = read_decided_by(run.folder, fingerprint), read_decided_by(run.folder, run.fingerprint)
    if not ("settings" in old and "settings" in new):
        return []
    return different_settings(old["settings"], new["settings"]) + different_inputs(old["inputs"], new["inputs"])


def finished_rows(run: StudyRun) -> list[dict[str, Any]]:
    """Rows of the results of a run, without those of other settings or inputs than planned.

    Args:
        run: Planned run.
    """
    return _without_others(run, read_finished_rows(run.folder))


def _without_others(run: StudyRun, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    decided_by = read_decided_by(run.folder, run.fingerprint)
    if not decided_by:
        return rows
    inputs = {key: inputs_hash(contents) for key, contents in decided_by.get("inputs", {}).items()}
    configuration = decided_by.get("configuration")
    return [row for row in rows if row["configuration"] == configuration and row["inputs"] == inputs.get(row["key"])]


def machines(runs: Sequence[StudyRun]) -> list[str]:
    """The machines of the runs, without repetition.

    Args:
        runs: All runs of the study, finished or not.
    """
    return sorted({str(job.get("machine", "unknown")) for run in runs if (job := read_job(run.folder))})
