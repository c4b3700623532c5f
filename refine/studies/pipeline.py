"""One study: plan its runs, launch those that are not complete, compare what is there."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from refine.config import ConfigError, StudyConfig
from refine.config.verbosity import is_quiet, say
from refine.inference.launch import Job, check_launcher, launch, say_interrupted
from refine.studies.labels import uses_wandb
from refine.studies.plan import STUDY, finished_rows, problem, read_plan, with_fingerprints, write_plan
from refine.studies.record import how_it_is_run
from refine.studies.shipped import find_study
from refine.studies.spec import Study, StudyRun, make_runs, read_study

NEEDED = ("polars", "scipy", "matplotlib", "jinja2")  # the extra [study]


def run(config: StudyConfig, common: Sequence[str], launcher: Sequence[str], command: Sequence[str]) -> int:
    """Run the arms of a study on the same images and masks, and compare them.

    Args:
        config: Settings of the study.
        common: Overrides for the ``refine predict`` of every arm.
        launcher: Override ``launcher=<name>``, then Hydra's own ``hydra.<key>=<value>``.
        command: All overrides of ``refine study``, to be told in a published report.

    Returns:
        Exit status: 0 if every arm is complete, 1 if one is not, 130 after Ctrl-C.

    Raises:
        ValueError: If the request makes no sense; nothing was run then.
    """
    _check_installed()
    study, output = read_study(find_study(config.study)), Path(config.output).expanduser().resolve()
    if config.report_only:
        return conclude(study, list(read_plan(output).values()), output, config, command)
    check_launcher(launcher[0].partition("=")[2])
    controls = None if config.controls is None else Path(config.controls).expanduser().resolve()
    runs = with_fingerprints(make_runs(study, output, common, controls))
    unfinished = _unfinished(runs)
    write_plan(output, runs)
    say(f"refine study: {len(runs)} jobs, {len(runs) - len(unfinished)} complete")
    about = how_it_is_run(command) if unfinished else {}
    jobs = [
        Job(arm.name, arm.overrides, arm.folder, about={**about, "fingerprint": arm.fingerprint}) for arm in unfinished
    ]
    if stopped := launch(jobs, output / STUDY / "jobs", launcher):
        say_interrupted("study", sum(not problem(arm_run) for arm_run in runs), len(runs), "jobs complete")
        return stopped
    return conclude(study, runs, output, config, command)


def conclude(study: Study, runs: Sequence[StudyRun], output: Path, config: StudyConfig, command: Sequence[str]) -> int:
    """Compare the complete runs, write the report, and say which runs are not complete.

    Where there is nothing to compare, the report of an earlier run stays: it may be hours of work.

    Args:
        study: Question with its arms.
        runs: All runs of the study, finished or not.
        output: Folder of the study's results.
        config: Settings of the study.
        command: All overrides of ``refine study``.

    Returns:
        Exit status: 0 if every run is complete, else 1.
    """
    from refine.studies import report  # polars, scipy and matplotlib, which belong to an extra

    problems = {run.name: reason for run in runs if (reason := problem(run))}
    markdown = output / report.MARKDOWN
    keeps_report = len(problems) == len(runs) and markdown.is_file() and not any(map(finished_rows, runs))
    if not keeps_report:
        tables = report.write(study, runs, problems, output, page_mib=config.page_mib)
        if config.publish:
            report.publish(find_study(config.study), output, command)
        if not is_quiet():
            print(markdown.read_text(), end="")
    for name, reason in problems.items():
        print(f"refine study: incomplete: {name}: {reason}", file=sys.stderr)
    say(f"refine study: {len(runs) - len(problems)} of {len(runs)} jobs complete -> {output}")
    if keeps_report:
        print(
            f"refine study: no job is complete; the report of an earlier run is left as it is: {markdown}",
            file=sys.stderr,
        )
        return 1
    if told := [run for run in runs if uses_wandb(run.overrides)]:
        from refine.studies import wandb_report  # Lightning, which takes seconds

        wandb_report.tell(study, told, tables, output, status=int(bool(problems)))
    return int(bool(problems))


def _check_installed() -> None:
    for package in NEEDED:
        if find_spec(package) is None:
            raise ConfigError(
                f"refine study needs {package}, which is not installed: pip install 'refine-inpainting[study]'."
            )


def _unfinished(runs: Sequence[StudyRun]) -> list[StudyRun]:
    """The runs that are not complete or are to be made again, one per folder: studies share the runs of controls."""
    return list({run.folder: run for run in runs if problem(run) or _overwrites(run)}.values())


def _overwrites(run: StudyRun) -> bool:
    return "overwrite=true" in (override.lower() for override in run.overrides)
