"""Specification of a study: ``study.yaml`` -> arms -> runs of ``refine predict``.

    question: How many steps, at which learning rate?
    base: [backbone=mini, masks=thick]          # in every run
    each: {masks: [thin, thick]}                # optional: everything again for each of these, compared within
    arms: {paper: [preset=paper]}               # name -> overrides
    grid: {refiner.steps: [5, 15]}              # and one arm per combination
    reference: paper                            # optional: compared with this arm too
    scores: [psnr_hole_torchmetrics]            # optional: the first is the one that decides
    axis: refiner.steps                         # optional: the numbers to plot against; else the first of the grid
    n: 24                                       # optional: data.limit, so many images drawn by seed

Two arms come by themselves, the controls ``plain`` and ``upscaled``.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from yaml import YAMLError

from refine.studies.labels import labeled, without_loggers

FILE = "study.yaml"
# Whatever the base says of steps or levels, a control stays what it is.
CONTROLS: dict[str, tuple[str, ...]] = {
    "plain": ("preset=plain", "pyramid=single", "pyramid.max_levels=1", "refiner=default", "refiner.steps=0"),
    "upscaled": ("preset=upscaled", "refiner=upscaled", "refiner.steps=0"),
}
SCORES = ("psnr_hole_torchmetrics", "ssim_hole_refine")
BASE = "plain"  # the control that images, effects and groups are compared with
FORMER = {"off": BASE}  # earlier names of controls, in plans on disk
NAME = re.compile(r"[\w.+-]+", re.ASCII)  # of an arm, which is a folder too


@dataclass(frozen=True)
class Study:
    """A question and the arms that answer it.

    Attributes:
        name: Name of the study's folder.
        question: Question in one sentence.
        groups: Overrides by name of the group; arms are compared within a group. One without a name where there
            is no ``each``.
        arms: Overrides by name of the arm, controls first.
        references: Names of the arms that the others are compared with.
        scores: Columns of the rows; the first one decides.
        axis: Setting whose numbers the scores are plotted against.
        each: What sets a group apart, ``key=value`` each, by its name; empty where there is no ``each``.
        grid: Overrides of the arms of the grid by name; empty where there is none.
    """

    name: str
    question: str
    groups: Mapping[str, tuple[str, ...]]
    arms: Mapping[str, tuple[str, ...]]
    references: tuple[str, ...]
    scores: tuple[str, ...]
    axis: str | None
    each: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    grid: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def place(self, arm: str) -> float | None:
        """The number of an arm on the axis."""
        values = dict(override.split("=", 1) for override in self.arms[arm])
        try:
            return float(values[self.axis]) if self.axis else None
        except (KeyError, ValueError):
            return None


@dataclass(frozen=True)
class StudyRun:
    """One run of ``refine predict``.

    Attributes:
        group: Name of the group that the run is compared within; empty if there is one alone.
        arm: Name of the arm.
        folder: Folder of the results.
        overrides: Settings of ``refine predict``, ``key=value`` each.
        fingerprint: SHA-256 (hex) of what decides the results, once the run is planned.
        decided_by: Settings, code and inputs, as plain values; empty for a plan that was read from disk.
    """

    group: str
    arm: str
    folder: Path
    overrides: tuple[str, ...]
    fingerprint: str = ""
    decided_by: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        """Unique within the study."""
        return f"{self.group}/{self.arm}" if self.group else self.arm


def read_study(folder: Path) -> Study:
    """Read a study.

    Args:
        folder: Folder with ``study.yaml``, or that file.

    Raises:
        ValueError: If there is none, or it makes no sense.
    """
    file = folder if folder.is_file() else folder / FILE
    content = _read(file)
    base = _overrides(file, "base", content.get("base", []))
    named = {name: _overrides(file, f"arms.{name}", values) for name, values in content.get("arms", {}).items()}
    grid = dict(_combinations(content.get("grid", {}), "{key}-{value}"))
    each = dict(_combinations(content.get("each", {}), "{value}"))
    _check_names(file, [*CONTROLS, *FORMER, *named, *grid], each)
    limit = [f"data.limit={content['n']}"] if content.get("n") else []
    reference = content.get("reference")
    if reference is not None and reference not in {*named, *grid}:
        raise ValueError(f"{file}: reference: {reference} is no arm; there are: {', '.join([*named, *grid])}.")
    return Study(
        name=file.resolve().parent.name,
        question=str(content["question"]),
        groups={name: (*base, *limit, *overrides) for name, overrides in (each or {"": ()}).items()},
        arms={**CONTROLS, **named, **grid},
        references=(*CONTROLS, *([reference] if reference else [])),
        scores=tuple(content.get("scores", SCORES)),
        axis=content.get("axis") or _first_numbers(content.get("grid", {})),
        each=each,
        grid=grid,
    )


def make_runs(study: Study, output: Path, common: Sequence[str], controls: Path | None = None) -> list[StudyRun]:
    """The runs of a study, controls first.

    Args:
        study: Question with its arms.
        output: Folder of the study's results.
        common: Overrides of every run; what an arm sets itself wins.
        controls: Folder where studies share the runs of ``plain`` and ``upscaled``; None for the study's own.
    """
    runs = []
    for group, group_overrides in study.groups.items():
        for arm, arm_overrides in study.arms.items():
            merged = _merged([*group_overrides, *common, *arm_overrides])
            folder = output / group / arm
            if controls is not None and arm in CONTROLS:
                text = json.dumps(without_loggers(merged))
                folder = controls / f"{arm}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
            settings = labeled(merged, study.name, group, arm)
            runs.append(StudyRun(group, arm, folder, (*settings, f"output={folder}")))
    return runs


def _merged(overrides: Sequence[str]) -> list[str]:
    """The last of each key, in the order of the keys: the same run has the same text."""
    return sorted({override.partition("=")[0].lstrip("+"): override for override in overrides}.values())


def _read(file: Path) -> dict[str, Any]:
    allowed_keys = {"question", "base", "each", "arms", "grid", "reference", "scores", "axis", "n"}
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(file))
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror}); a study is a folder with {FILE}.") from None
    except YAMLError as error:
        raise ValueError(f"{file}: no valid YAML ({str(error).splitlines()[0]}).") from None
    if not isinstance(content, dict) or not content.get("question"):
        raise ValueError(f"{file}: expected a mapping with a question; see docs/ablation.md.")
    if unknown := sorted(set(content) - allowed_keys):
        raise ValueError(
            f"{file}: there is no key {', '.join(unknown)}; expected some of {', '.join(sorted(allowed_keys))}."
        )
    if not content.get("arms") and not content.get("grid"):
        raise ValueError(f"{file}: has neither arms nor a grid; there is nothing to compare.")
    for key in ("arms", "grid", "each"):
        if not isinstance(content.get(key, {}), dict):
            raise ValueError(f"{file}: {key}: expected a mapping, got {content[key]!r}.")
    n = content.get("n")
    if n is not None and (not isinstance(n, int) or isinstance(n, bool) or n < 2):
        raise ValueError(f"{file}: n: expected a number of images, 2 or more; got {n!r}.")
    return {str(key): value for key, value in content.items()}


def _overrides(file: Path, key: str, values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) and "=" in value for value in values):
        raise ValueError(f"{file}: {key}: expected a list of overrides such as [refiner.steps=30]; got {values!r}.")
    return tuple(values)


def _combinations(grid: Mapping[str, Any], pattern: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every combination of the values: its name and its overrides."""
    if not grid:
        return
    choices = [[(str(key), value) for value in (v if isinstance(v, list) else [v])] for key, v in grid.items()]
    for combination in itertools.product(*choices):
        parts = [pattern.format(key=key.rpartition(".")[2], value=_text(value)) for key, value in combination]
        yield re.sub(r"[^\w.+-]+", "-", "_".join(parts)).strip("-"), tuple(f"{k}={_text(v)}" for k, v in combination)


def _text(value: Any) -> str:
    """A value of YAML in Hydra's grammar."""
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _first_numbers(grid: Mapping[str, Any]) -> str | None:
    for key, values in grid.items():
        if isinstance(values, list) and len(values) > 1 and all(map(_number, values)):
            return str(key)
    return None


def _check_names(file: Path, arms: Sequence[str], groups: Mapping[str, Any]) -> None:
    for name in (*arms, *filter(None, groups)):
        if not isinstance(name, str) or not NAME.fullmatch(name) or set(name) <= {"."}:
            raise ValueError(
                f"{file}: {name!r} is a folder's name: give a text of letters, digits and . + - _ alone, in quotes "
                "where YAML takes it for something else, as it does with yes and no."
            )
    if twice := sorted({name for name in arms if list(arms).count(name) > 1}):
        raise ValueError(f"{file}: {', '.join(twice)}: there twice; plain (or off) and upscaled come by themselves.")
