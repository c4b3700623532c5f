"""What the loggers are told once all processes are done: curves, a row per image, pictures, summary.

Nothing but progress is logged where it happens: only one process has loggers, and what the others did, or an earlier
run that was killed, is in the rows and pictures on disk. From there all loggers get the same numbers.
"""

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from refine.inference.logging.curves import Point, Row, flat, printable, series, table
from refine.inference.logging.loggers import Loggers, log_point
from refine.inference.panels import Frame, Panel, find
from refine.inference.run_folder import RunFolder


@dataclass(frozen=True)
class Report:
    """All there is to tell of a run.

    Attributes:
        run_folder: Run folder with the records of the run.
        rows: Rows of the run's results, with ``losses``.
        summary: Nested plain values.
        panels: Pictures of the chosen images.
    """

    run_folder: RunFolder
    rows: Sequence[Row]
    summary: Mapping[str, Any]
    panels: Sequence[Panel]


def publish(
    loggers: Loggers, run_folder: RunFolder, selected: Collection[str], rows: Sequence[Row], summary: Mapping[str, Any]
) -> None:
    """Tell everything to all loggers.

    Args:
        loggers: Loggers that are open.
        run_folder: Run folder with the records of the run.
        selected: Keys of the images with pictures and curves of their own.
        rows: Rows of all results, from whichever process or earlier run.
        summary: Their means and errors, nested plain values.
    """
    panels = {
        row["key"]: find(run_folder.panel_folder(row["key"], row["inputs"], row["configuration"]), row["key"])
        for row in rows
        if row["key"] in selected
    }
    report = Report(run_folder, rows, summary, list(panels.values()))
    loggers.each(lambda logger: _tell(logger, report))


def _tell(logger: Logger, report: Report) -> None:
    points = list(series(report.rows, [panel.key for panel in report.panels]))
    summary = flat(report.summary)
    if isinstance(logger, WandbLogger):
        _define(logger.experiment, points, report.panels)
    for point in points:
        log_point(logger, point)
    if isinstance(logger, WandbLogger):
        _tell_wandb(logger, report, summary)
        return
    numbers = {name: value for name, value in summary.items() if isinstance(value, int | float)}
    if numbers:
        log_point(logger, Point("summary", 0, numbers))
    if isinstance(logger, TensorBoardLogger):
        _show_tensorboard(logger, report.panels)
    logger.save()


def _define(run: Any, points: Sequence[Point], panels: Sequence[Panel]) -> None:
    """Draw every curve over its own axis; the last image's scores are no summary of a run."""
    for name, axis in {name: point.axis for point in points for name in point.values}.items():
        run.define_metric(name, step_metric=axis, summary="none" if axis == "image" else None)
    for panel in panels:
        run.define_metric(f"evolution/{printable(panel.key)}", step_metric="frame")


def _tell_wandb(logger: WandbLogger, report: Report, summary: Mapping[str, Any]) -> None:
    """Pictures, table, summary and artifact."""
    import wandb

    run, losses = logger.experiment, {row["key"]: row.get("losses") or [] for row in report.rows}
    panel_images = {
        f"panels/{printable(panel.key)}": [wandb.Image(str(path), caption=name) for name, path in panel.parts]
        for panel in report.panels
        if panel.parts
    }
    if panel_images:
        run.log(panel_images)
    for index in range(max((len(panel.frames) for panel in report.panels), default=0)):
        frames = {panel.key: panel.frames[index] for panel in report.panels if index < len(panel.frames)}
        pictures = {
            f"evolution/{printable(key)}": wandb.Image(str(frame.path), caption=_caption(frame, losses[key]))
            for key, frame in frames.items()
        }
        run.log({"frame": index, **pictures})
    columns, cells = table(report.rows)
    run.log({"images": wandb.Table(columns=[*columns], data=cells)})
    run.summary.update(dict(summary))
    run.log_artifact(artifact(run, "results", report.run_folder.record_files))


def artifact(run: Any, kind: str, files: Sequence[Path]) -> Any:
    """Files of a run at W&B, copied into its own folder: what lies elsewhere may change before an upload.

    Args:
        run: Run of ``wandb.init``.
        kind: Type of the artifact, with which its name begins.
        files: Paths of the files, each with a name of its own.
    """
    import wandb

    made = wandb.Artifact(f"{kind}-{run.id}", type=kind)
    copies = Path(run.dir).parent / "artifact"
    copies.mkdir(exist_ok=True)
    for file in files:
        made.add_file(str(shutil.copy(file, copies)), name=file.name, policy="immutable")
    return made


def _show_tensorboard(logger: TensorBoardLogger, panels: Sequence[Panel]) -> None:
    for panel in panels:
        key = printable(panel.key)
        for name, path in panel.parts:
            logger.experiment.add_image(f"panels/{key}/{name}", _read(path), dataformats="HWC")
        for index, frame in enumerate(panel.frames):
            logger.experiment.add_image(f"evolution/{key}", _read(frame.path), index, dataformats="HWC")


def _read(path: Path) -> Any:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def _caption(frame: Frame, losses: Sequence[Sequence[float]]) -> str:
    if frame.level == 0:
        return "level 0, plain"
    has_loss = frame.level <= len(losses) and frame.update < len(losses[frame.level - 1])
    loss = f", loss {losses[frame.level - 1][frame.update]:.4g}" if has_loss else ""
    return f"level {frame.level}, update {frame.update}{loss}"
