"""Lightning's loggers, opened and closed so that none of them can hurt a run."""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger

from refine.config import build, first_line
from refine.inference.logging.console import log
from refine.inference.logging.curves import Point
from refine.inference.run_folder import RunFolder
from refine.io.files import new_id


class Loggers:
    """The loggers of one run. One that fails is told once and left out from then on.

    Attributes:
        status: Exit status of the run, for loggers that show it.
    """

    def __init__(self) -> None:
        self.status = 0
        self._open: dict[str, Logger] = {}

    def __bool__(self) -> bool:
        """Whether there is anyone to tell."""
        return bool(self._open)

    def add(self, name: str, make: Callable[[], Logger]) -> None:
        """Open one more.

        Args:
            name: Name of the logger in the configuration.
            make: Opens it.
        """
        with _spared(name):
            self._open[name] = make()

    def each(self, tell: Callable[[Logger], None]) -> None:
        """Tell all of them something."""
        for name, logger in list(self._open.items()):
            left_out = True
            with _spared(name):
                tell(logger)
                left_out = False
            if left_out:
                with contextlib.suppress(Exception):
                    _finish(self._open.pop(name), 1)

    def finish(self) -> None:
        """Close them, so that the next job of this process begins new ones."""
        self.each(lambda logger: _finish(logger, self.status))
        self._open.clear()


@contextlib.contextmanager
def opened(
    loggers: Loggers, config: Mapping[str, Any], run_folder: RunFolder, settings: Mapping[str, Any]
) -> Iterator[Loggers]:
    """Open the loggers of a configuration; they are closed at the end whatever happens.

    Args:
        loggers: Loggers of the run, none of them open yet.
        config: The group ``logger``: entries with ``_target_``, or one of its own; other keys are what they refer to.
        run_folder: Run folder to which they write unless configured otherwise, and which keeps the id of the run.
        settings: Everything that was configured, as plain nested values; told first.
    """
    nodes = {"logger": config} if "_target_" in config else config
    for name, node in nodes.items():
        if isinstance(node, dict) and "_target_" in node:
            loggers.add(str(name), partial(_build, node, run_folder))
    loggers.each(lambda logger: logger.log_hyperparams(dict(settings)))
    try:
        yield loggers
    except BaseException:
        loggers.status = 1
        raise
    finally:
        loggers.finish()


def _build(node: Mapping[str, Any], run_folder: RunFolder) -> Any:
    place = {"save_dir": str(run_folder.folder)} if node.get("save_dir", "") is None else {}
    given = None if node.get("id") is None else str(node["id"])
    identity = {"id": run_folder.run_id(given)} if "id" in node else {}
    return build({**node, **place, **identity})


def log_point(logger: Logger, point: Point) -> None:
    """Log values at one place of their axis.

    Args:
        logger: Logger of one kind.
        point: Values, the name of their axis, and the place on it.
    """
    if isinstance(logger, WandbLogger):
        logger.experiment.log({point.axis: point.index, **point.values})
    else:
        logger.log_metrics(dict(point.values), point.index)


def wandb_logger(
    save_dir: str, offline: bool = True, name: str | None = None, settings: Mapping[str, Any] | None = None, **init: Any
) -> WandbLogger:
    """A run at Weights & Biases: a new one, the one of this ``id``, or the one that the agent of a sweep began.

    Lightning's own way to begin one takes over a run that happens to be open, and its ``offline`` stays on for all
    later jobs of the process.

    Args:
        save_dir: Folder of its local files.
        offline: Upload nothing.
        name: Name of the run; None for that of the folder ``save_dir`` lies in.
        settings: Arguments of ``wandb.Settings``.
        **init: Further arguments of ``wandb.init``.

    Raises:
        ImportError: W&B is not installed.
        Exception: Whatever W&B raises when it cannot even write locally.
    """
    import wandb

    if os.environ.get("WANDB_SWEEP_ID"):  # then W&B takes these from the agent alone, and warns of any other
        init = {key: value for key, value in init.items() if key not in ("project", "entity", "id")}

    init |= {"dir": save_dir, "name": name or Path(save_dir).resolve().parent.name, "reinit": "create_new"}
    init["settings"] = wandb.Settings(**(settings or {}))
    run = wandb.init(**init, mode="offline") if offline else _online(init)
    return WandbLogger(experiment=run, save_dir=save_dir)


def _online(init: Mapping[str, Any]) -> Any:
    """A run that uploads; one that is kept offline where that cannot be."""
    import wandb

    try:
        if not (wandb.login(prompt=False, verify=False) or "WANDB_MODE" in os.environ):
            raise LookupError("no API key; use `wandb login` or WANDB_API_KEY")
        run = wandb.init(**init)
        log.info("W&B run %s: %s", run.name, run.url)
        return run
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        advice = f" `wandb sync --id {init['id']} <folder>` makes it part of that run." if init.get("id") else ""
        warnings.warn(f"W&B cannot be used online ({reason}); going on offline, nothing is lost.{advice}", stacklevel=3)
        # W&B does not let go of the id of a run that could not begin.
        return wandb.init(**{**init, "id": new_id()}, mode="offline")


def _finish(logger: Logger, status: int) -> None:
    if not isinstance(logger, WandbLogger):
        logger.save()
        logger.finalize("failed" if status else "success")
        return
    run = logger.experiment
    run.finish(exit_code=status)
    if run.offline:
        log.info("W&B run %s is kept offline; upload it with: wandb sync %s", run.name, Path(run.dir).parent)


@contextlib.contextmanager
def _spared(name: str) -> Iterator[None]:
    """Whatever goes wrong inside is a warning with what to do."""
    try:
        yield
    except ImportError as error:
        advice = f"pip install 'refine-inpainting[{name}]', or leave logger={name} out"
        warnings.warn(
            f"logger {name} is not installed ({first_line(error)}): {advice}. Going on without.", stacklevel=3
        )
    except Exception as error:
        log.debug("logger %s", name, exc_info=True)
        reason = f"{type(error).__name__}: {first_line(error)}"
        advice = "results and rows.csv are complete without it; run the same command again to tell it"
        warnings.warn(f"logger {name} failed ({reason}); {advice}.", stacklevel=3)
