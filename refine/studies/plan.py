"""The jobs of a study on disk: what is to do, and what is done."""

import csv
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from refine.io.files import RUN_FOLDER, write_atomic
from refine.studies.spec import StudyRun

STUDY = ".study"  # in a study's output, for all that is no result
PLAN = "plan.json"
DONE = "job.json"


def write_plan(output: Path, jobs: Sequence[StudyRun]) -> list[StudyRun]:
    """Write down what every job has to do, for whoever runs one.

    Args:
        output: Of the study.
        jobs: All of them.

    Returns:
        The jobs with their fingerprints.
    """
    planned = [dataclasses.replace(job, fingerprint=fingerprint(job.overrides)) for job in jobs]
    content = {job.name: {**dataclasses.asdict(job), "folder": str(job.folder)} for job in planned}
    folder = output / STUDY
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / PLAN, json.dumps(content, indent=1).encode(errors="surrogateescape"), folder)
    return planned


def read_plan(output: Path) -> dict[str, StudyRun]:
    """The jobs that were planned, by name.

    Args:
        output: Of the study.

    Raises:
        ValueError: If there is no plan.
    """
    file = output / STUDY / PLAN
    try:
        content = json.loads(file.read_text(errors="surrogateescape"))
    except FileNotFoundError:
        raise ValueError(f"output={output}: no study was run there; there is no {file}.") from None
    return {
        name: StudyRun(**{**job, "folder": Path(job["folder"]), "overrides": tuple(job["overrides"])})
        for name, job in content.items()
    }


def fingerprint(overrides: Sequence[str]) -> str:
    """SHA-256 (hex) of a job and of names, sizes and times of the files it reads, its output left out.

    Args:
        overrides: Of the job.
    """
    texts = sorted(override for override in overrides if not override.startswith("output="))
    for override in texts.copy():
        key, _, value = override.partition("=")
        if key in ("input", "mask", "masks", "truth", "backbone.weights"):
            texts += map(repr, _stamps(Path(value).expanduser()))
    return hashlib.sha256("\n".join(texts).encode(errors="surrogateescape")).hexdigest()


def _stamps(path: Path) -> list[tuple[str, int, int]]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    stats = [(file, file.stat()) for file in files if file.is_file()]
    return [(str(file.relative_to(path)), stat.st_size, stat.st_mtime_ns) for file, stat in stats]


def finish(job: StudyRun, status: int, reason: str, machine: str) -> None:
    """Note how a job ended, beside its results.

    Args:
        job: Planned.
        status: Exit status.
        reason: In a sentence, if it is not 0.
        machine: On which it ran.
    """
    file = job.folder / RUN_FOLDER / DONE
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"fingerprint": job.fingerprint, "status": status, "reason": reason, "machine": machine}
    write_atomic(file, json.dumps(content).encode(), file.parent)


def problem(job: StudyRun) -> str:
    """Why a job is not complete, in a sentence; empty if it is.

    Args:
        job: Planned.
    """
    records = job.folder / RUN_FOLDER
    try:
        done = json.loads((records / DONE).read_text())
    except (OSError, ValueError):
        return "not run, or not to its end"
    if done.get("fingerprint") != job.fingerprint:
        return "run with other settings or inputs"
    if done.get("status") != 0:
        return str(done.get("reason") or f"ended with status {done.get('status')}")
    with (records / "rows.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        results = [row["output"] for row in csv.DictReader(stream)]
    return "" if all((job.folder / name).is_file() for name in results) else "results were removed"


def machines(jobs: Sequence[StudyRun]) -> list[str]:
    """On what jobs ran, each machine once.

    Args:
        jobs: Run, or not.
    """
    files = [file for job in jobs if (file := job.folder / RUN_FOLDER / DONE).is_file()]
    return sorted({str(json.loads(file.read_text()).get("machine", "unknown")) for file in files})
