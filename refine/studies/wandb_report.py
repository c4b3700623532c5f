"""The answer of a study as one run at Weights & Biases, in the group of its arms' runs."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lightning.pytorch.loggers import Logger, WandbLogger

from refine.config import PredictConfig, build
from refine.inference.logging.console import logged
from refine.inference.logging.curves import table
from refine.inference.logging.loggers import Loggers
from refine.inference.logging.publish import artifact
from refine.io.files import kept_id
from refine.studies.labels import tags
from refine.studies.plan import STUDY
from refine.studies.report import COMPARISONS, MARKDOWN, PAGE, ROWS
from refine.studies.spec import Study, StudyRun
from refine.studies.statistics import StudyTables

ID, LOG = "run-id.txt", "log.txt"  # beside the plan


def tell(study: Study, runs: Sequence[StudyRun], tables: StudyTables, output: Path, status: int) -> None:
    """Log tables and page; the same study continues its run. What goes wrong is a warning.

    Args:
        study: Question with its arms.
        runs: Runs of the study that are told to W&B, at least one; their settings say how.
        tables: Tables of the report.
        output: Folder of the study's results, with its report.
        status: Exit status of the study.
    """
    loggers = Loggers()
    loggers.status = status
    with logged(output / STUDY / LOG):
        loggers.add("wandb", partial(_open, study, runs, output))
        loggers.each(partial(_tell, study=study, tables=tables, output=output))
        loggers.finish()


def _open(study: Study, runs: Sequence[StudyRun], output: Path) -> WandbLogger:
    """Open the logger as the arms do; its tags are those that all of them have."""
    node = PredictConfig.compose(runs[0].overrides).logger["wandb"]
    folder = output / STUDY
    changed = {
        "name": study.name,
        "job_type": "study",
        "tags": [tag for tag in tags(runs[0].overrides) if all(tag in tags(run.overrides) for run in runs)],
        "save_dir": node["save_dir"] or str(folder),
        "id": kept_id(folder / ID, os.environ.get("WANDB_RUN_ID"), folder),
    }
    logger: WandbLogger = build({**node, **changed})
    return logger


def _tell(logger: Logger, study: Study, tables: StudyTables, output: Path) -> None:
    import wandb

    assert isinstance(logger, WandbLogger)
    run = logger.experiment
    run.config.update(
        {"question": study.question, "arms": {arm: list(overrides) for arm, overrides in study.arms.items()}},
        allow_val_change=True,
    )
    shown = {}
    for name, frame in ((name, frame) for name, frame in tables._asdict().items() if len(frame)):
        columns, cells = table(list(frame.iter_rows(named=True)))
        shown[name] = wandb.Table(columns=[*columns], data=cells)
    run.log({**shown, "report": wandb.Html(str(output / PAGE), inject=False)})
    run.log_artifact(artifact(run, "report", [output / name for name in (PAGE, MARKDOWN, COMPARISONS, ROWS)]))
