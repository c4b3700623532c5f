"""One study: plan its runs, launch those that are not complete, compare what is there."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from refine.config import CONFIGS, ConfigError, PredictConfig, StudyConfig
from refine.studies.launch import launch
from refine.studies.plan import problem, read_plan, with_fingerprints, write_plan
from refine.studies.spec import Study, StudyRun, make_runs, read_study

EXTRAS = {
    "study": ("polars", "scipy", "matplotlib", "jinja2"),
    "joblib": ("hydra_plugins.hydra_joblib_launcher",),
    "submitit": ("hydra_plugins.hydra_submitit_launcher",),
}  # packages that must be there


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
    _check_installed("refine study", "study", "study")
    _check_launcher(launcher[0].partition("=")[2])
    study, output = read_study(Path(config.study).expanduser()), Path(config.output).expanduser().resolve()
    if config.report_only:
        return conclude(study, list(read_plan(output).values()), output, config, command)
    controls = None if config.controls is None else Path(config.controls).expanduser().resolve()
    runs = with_fingerprints(make_runs(study, output, common, controls))
    unfinished = _unfinished(runs)
    for arm_run in unfinished:
        _check_run(arm_run)
    write_plan(output, runs)
    print(f"refine study: {len(runs)} jobs, {len(runs) - len(unfinished)} complete", file=sys.stderr)
    stopped = launch(unfinished, output, launcher)
    return stopped or conclude(study, runs, output, config, command)


def conclude(study: Study, runs: Sequence[StudyRun], output: Path, config: StudyConfig, command: Sequence[str]) -> int:
    """Compare the complete runs, write the report, and say which runs are not complete.

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
    report.write(study, runs, problems, output, page_mib=config.page_mib)
    if config.publish:
        report.publish(Path(config.study).expanduser(), output, command)
    print((output / report.MARKDOWN).read_text(), end="")
    for name, reason in problems.items():
        print(f"refine study: incomplete: {name}: {reason}", file=sys.stderr)
    print(f"refine study: {len(runs) - len(problems)} of {len(runs)} jobs complete -> {output}", file=sys.stderr)
    return int(bool(problems))


def _check_launcher(launcher: str) -> None:
    names = sorted(file.stem for file in (CONFIGS / "launcher").glob("*.yaml"))
    if launcher not in names:
        raise ConfigError(f"launcher={launcher}: expected one of {', '.join(names)}.")
    _check_installed(f"launcher={launcher}", launcher.partition("_")[0], "launchers")


def _check_installed(what: str, needs: str, extra: str) -> None:
    for package in EXTRAS.get(needs, ()):
        try:
            spec = find_spec(package)
        except ModuleNotFoundError:  # the package around it is missing
            spec = None
        if spec is None:
            name = package.rpartition(".")[2].replace("_", "-")
            raise ConfigError(f"{what} needs {name}, which is not installed: pip install 'refine-inpainting[{extra}]'.")


def _check_run(run: StudyRun) -> None:
    """Find a misspelled setting before the first arm runs, not in the middle of the night."""
    try:
        PredictConfig.compose(run.overrides)
    except ConfigError as error:
        raise ConfigError(f"arm {run.name}: {error}") from None


def _unfinished(runs: Sequence[StudyRun]) -> list[StudyRun]:
    """The runs that are not complete, one per folder: studies share the runs of their controls."""
    return list({run.folder: run for run in runs if problem(run)}.values())
