"""How the runs of a study came about: what is noted beside each result, and what a report says of it."""

import datetime
import platform
import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import refine
from refine.inference.finished_run import read_config, read_job
from refine.studies.labels import without_loggers
from refine.studies.spec import StudyRun

PACKAGES = ("torch", "lightning", "numpy", "scipy")  # what can change a number
UNKNOWN = "not recorded"  # by runs of an earlier version
SECONDS = 10  # a network drive may let git wait forever


def how_it_is_run(command: Sequence[str]) -> dict[str, Any]:
    """What is noted beside the results of every job that starts now.

    Args:
        command: All overrides of ``refine study``.

    Returns:
        Plain values: ``command`` as it may be shown, ``day``, ``versions`` by package, and ``code``, the state of git.
    """
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"command": shown_command(command), "day": day, "versions": _versions(), "code": _git_state()}


def shown_command(command: Sequence[str]) -> str:
    """A command of ``refine study`` for others to read: without what asks for the report alone.

    Args:
        command: All overrides of ``refine study``; of absolute paths only the last part is shown.
    """
    words = [word for word in command if word.partition("=")[0] not in ("report_only", "publish")]
    return " ".join(["refine study", *(shlex.quote(shown(word)) for word in words)])


def shown(word: str) -> str:
    """An override without the folders above what it names: they say nothing to others, or too much.

    Args:
        word: Override ``key=value``, or a path.
    """
    key, equals, value = word.rpartition("=")
    return f"{key}{equals}{Path(value).name}" if Path(value).is_absolute() else word


def what_was_run(runs: Sequence[StudyRun]) -> dict[str, str]:
    """How the runs came about, each fact once; where runs differ, all that was noted stands side by side.

    Args:
        runs: All runs of the study, finished or not.

    Returns:
        Texts by title, for a table of two columns.
    """
    jobs = [job for run in runs if (job := read_job(run.folder))]
    versions = [", ".join(f"{name} {text}" for name, text in job.get("versions", {}).items()) for job in jobs]
    facts = {
        "Command": _joined(job.get("command") for job in jobs),
        "Day": _joined(job.get("day") for job in jobs),
        "Versions": _joined(versions),
        "Code": _joined(job.get("code") for job in jobs),
        "Machine": _joined(job.get("machine") for job in jobs),
        "Jobs at once": _joined(job.get("jobs_at_once", UNKNOWN) or "as many as the launcher starts" for job in jobs),
        "Seeds": _joined(_seeds(run) for run in runs if read_job(run.folder)),
        "In every arm": " ".join(in_every_run(runs)) or "nothing",
    }
    return facts if jobs else {"In every arm": facts["In every arm"]}


def in_every_run(runs: Sequence[StudyRun]) -> list[str]:
    """The overrides that all runs share, as they may be shown.

    Args:
        runs: All runs of the study.
    """
    first, *rest = [_overrides(run) for run in runs] or [[]]
    return [shown(override) for override in first if all(override in others for others in rest)]


def own_overrides(run: StudyRun, shared: Sequence[str]) -> list[str]:
    """What a run sets beside the overrides that all share.

    Args:
        run: Planned run.
        shared: Overrides of :func:`in_every_run`.
    """
    return [text for text in map(shown, _overrides(run)) if text not in shared]


def _overrides(run: StudyRun) -> list[str]:
    return [override for override in without_loggers(run.overrides) if not override.startswith("output=")]


def _joined(values: Iterable[Any]) -> str:
    return "; ".join(dict.fromkeys(UNKNOWN if value in (None, "") else str(value) for value in values))


def _seeds(run: StudyRun) -> str:
    try:
        settings = read_config(run.folder).model_dump()
    except (OSError, ValueError):
        return ""
    return ", ".join(f"{key}={value}" for key, value in _seed_settings(settings))


def _seed_settings(settings: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, Any]]:
    """Every setting named ``seed``, or that ends so, with its dotted key."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _seed_settings(value, f"{above}{key}.")
        elif key.endswith("seed"):
            yield f"{above}{key}", value


def _versions() -> dict[str, str]:
    versions = {"refine": refine.__version__, "Python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # an extra that is not installed
            continue
    return versions


def _git_state() -> str:
    """Commit of the checkout that the package lies in, and whether files were changed since."""
    folder = Path(refine.__file__).parent
    try:
        # A package that is installed may lie in somebody's repository, which says nothing of it: is it tracked there?
        _git(folder, "ls-files", "--error-unmatch", "__init__.py")
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
    except (OSError, subprocess.SubprocessError):
        return "installed package, no git"
    count = len(changed.splitlines())
    since = f"{count} file{'s' if count > 1 else ''} changed since" if count else "unchanged"
    return f"git {commit}, {since}"


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS).stdout.strip()
