"""Answer a question: run the arms of a study on the same images and masks, and compare them.

    refine study experiments/which_layers input=photos output=runs/which_layers
    refine study experiments/steps_lr input=photos output=runs/steps_lr launcher=submitit_slurm device=cuda
    refine study experiments/steps_lr output=runs/steps_lr report_only=true

Settings that are not listed below go to every arm's `refine predict`. The same command continues after any kill.
"""

import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from refine.config import CONFIGS, PATHS, ConfigError, compose, literal, require_bool
from refine.data.masks import KINDS
from refine.studies.plan import STUDY, problem, read_plan, with_fingerprints, write_plan
from refine.studies.spec import Study, StudyRun, make_runs, read_study

# Values that are no paths, even beside a folder of that name.
WORDS: dict[str, tuple[str, ...]] = {"masks": KINDS, "truth": ("input",), "backbone.weights": ("random",)}
NEEDED = {"joblib": "hydra_joblib_launcher", "submitit": "hydra_submitit_launcher"}


def run(overrides: Sequence[str]) -> int:
    """Run the command.

    Args:
        overrides: Folder of the study, and settings in Hydra's form ``key=value``.

    Returns:
        Exit status: 0 if every arm is complete, 1 if one is not, 130 after Ctrl-C.

    Raises:
        ValueError: If the request makes no sense; nothing was run then.
    """
    own, launcher, common = _split(overrides)
    config = compose("study", own)
    _check_launcher(launcher[0])
    study, output = _check(config), Path(config.output).expanduser().resolve()
    if require_bool(config, "report_only"):
        return _conclude(study, list(read_plan(output).values()), output, config, overrides)
    controls = None if config.controls is None else Path(config.controls).expanduser().resolve()
    runs = with_fingerprints(make_runs(study, output, [absolute(override) for override in common], controls))
    unfinished = _unfinished(runs)
    for run in unfinished:
        _check_run(run)
    write_plan(output, runs)
    print(f"refine study: {len(runs)} jobs, {len(runs) - len(unfinished)} complete", file=sys.stderr)
    stopped = _launch(unfinished, output, launcher)
    return stopped or _conclude(study, runs, output, config, overrides)


def _split(overrides: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """What is for the study, for the launcher, and for every arm."""
    known = set(OmegaConf.load(CONFIGS / "study.yaml")) - {"defaults"}
    own: list[str] = []
    launcher, common = ["launcher=basic"], list[str]()
    for number, override in enumerate(overrides):
        key, equals, _ = override.partition("=")
        if not equals and number == 0:
            own.append(f"study={override}")
        elif key == "launcher":
            launcher[0] = override
        elif key.lstrip("+").startswith("hydra."):
            launcher.append(override)
        else:
            (own if key in known else common).append(override)
    return own, launcher, common


def _check(config: DictConfig) -> Study:
    for key, example in (("study", "experiments/which_layers"), ("output", "output=runs/which_layers")):
        if OmegaConf.is_missing(config, key) or config[key] is None:
            raise ConfigError(f"study needs {key}=, for example {example}.")
    for package in ("polars", "scipy", "matplotlib", "jinja2"):
        if find_spec(package) is None:
            raise ConfigError(
                f"refine study needs {package}, which is not installed: pip install 'refine-inpainting[study]'."
            )
    return read_study(Path(config.study).expanduser())


def _check_launcher(override: str) -> None:
    launcher = override.partition("=")[2]
    names = sorted(file.stem for file in (CONFIGS / "launcher").glob("*.yaml"))
    if launcher not in names:
        raise ConfigError(f"launcher={launcher}: expected one of {', '.join(names)}.")
    plugin = NEEDED.get(launcher.partition("_")[0])
    if plugin and find_spec(f"hydra_plugins.{plugin}") is None:
        raise ConfigError(
            f"launcher={launcher} needs {plugin.replace('_', '-')}, which is not installed: "
            "pip install 'refine-inpainting[launchers]'."
        )


def absolute(override: str) -> str:
    """A path as it is seen from anywhere, if it is one.

    Args:
        override: Setting in Hydra's form ``key=value``.
    """
    key, _, value = override.partition("=")
    path = Path(value).expanduser()
    if key == "backbone":
        given = path.suffix in (".yaml", ".yml")
    else:
        given = key in (*PATHS, "config_dir") and value not in WORDS.get(key, ())
    return f"{key}={path.absolute()}" if given and path.exists() else override


def _check_run(run: StudyRun) -> None:
    """Find a misspelled setting before the first arm runs, not in the middle of the night."""
    try:
        compose("predict", run.overrides)
    except ConfigError as error:
        raise ConfigError(f"arm {run.name}: {error}") from None


def _unfinished(runs: Sequence[StudyRun]) -> list[StudyRun]:
    """The runs that are not complete, one per folder: studies share the runs of their controls."""
    return list({run.folder: run for run in runs if problem(run)}.values())


def _launch(runs: Sequence[StudyRun], output: Path, launcher: Sequence[str]) -> int:
    """Do runs to their ends, in a process of its own; 130 after Ctrl-C, else 0: how each ended is on disk."""
    if not runs:
        return 0
    arguments = {
        "study": _quoted(str(output)),
        "job": ",".join(_quoted(run.name) for run in runs),
        "hydra.sweep.dir": _quoted(str(output / STUDY / "jobs")),
    }
    command = [sys.executable, "-m", "refine.studies.launch", "--multirun", *(f"{k}={v}" for k, v in arguments.items())]
    process = subprocess.Popen([*command, *launcher], stdin=subprocess.PIPE)  # closed when we end, however
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.wait()
        return 130
    return status if status in (130, 143) else 0


def _quoted(text: str) -> str:
    return str(QuotedString(literal(text), Quote.single).with_quotes())


def _conclude(study: Study, runs: Sequence[StudyRun], output: Path, config: DictConfig, command: Sequence[str]) -> int:
    """Compare what is there and say what is not."""
    from refine.studies import report

    problems = {run.name: reason for run in runs if (reason := problem(run))}
    report.write(study, runs, problems, output, page_mib=config.page_mib)
    if require_bool(config, "publish"):
        report.publish(Path(config.study).expanduser(), output, command)
    print((output / report.MARKDOWN).read_text(), end="")
    for name, reason in problems.items():
        print(f"refine study: incomplete: {name}: {reason}", file=sys.stderr)
    print(f"refine study: {len(runs) - len(problems)} of {len(runs)} jobs complete -> {output}", file=sys.stderr)
    return int(bool(problems))
