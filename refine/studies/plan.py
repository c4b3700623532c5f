"""Plan of a study on disk: settings and fingerprint of each run, and which runs are complete."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refine.config import PredictConfig
from refine.inference.fingerprint import RunFingerprints
from refine.inference.finished_run import read_finished_rows, read_job
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
    """
    fingerprints = RunFingerprints()
    return [dataclasses.replace(run, fingerprint=_fingerprint(run, fingerprints)) for run in runs]


def _fingerprint(run: StudyRun, fingerprints: RunFingerprints) -> str:
    try:
        return fingerprints(PredictConfig.compose(without_loggers(run.overrides)))
    except Exception as error:  # adapters of users raise anything
        return hash_settings({"overrides": run.overrides, "error": str(error)})


def write_plan(output: Path, runs: Sequence[StudyRun]) -> None:
    """Write down what every run has to do, for the process that does it.

    Args:
        output: Folder of the study's results.
        runs: All runs of the study, with fingerprints.
    """
    content = {run.name: {**dataclasses.asdict(run), "folder": str(run.folder)} for run in runs}
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
        return "run with other settings or inputs"
    if job.get("status") != 0:
        return str(job.get("reason") or f"ended with status {job.get('status')}")
    results = (run.folder / row["output"] for row in read_finished_rows(run.folder))
    return "" if all(result.is_file() for result in results) else "results were removed"


def machines(runs: Sequence[StudyRun]) -> list[str]:
    """The machines of the runs, without repetition.

    Args:
        runs: All runs of the study, finished or not.
    """
    return sorted({str(job.get("machine", "unknown")) for run in runs if (job := read_job(run.folder))})
