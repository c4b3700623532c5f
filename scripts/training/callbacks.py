"""Files of a training after each epoch: ``curves.csv``, the averaged weights, the checkpoint to resume from."""

import csv
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from training.module import Training
from training.networks import save_weights


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file so that a kill leaves either the old one or the complete new one."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    write(temporary)
    os.replace(temporary, path)


class SaveEpoch(Callback):
    """Write the files of a training after each epoch.

    Args:
        out: Folder of the training.
        name: Name of the weights: ``<out>/<name>.safetensors``.
        interval: Steps of an epoch.
    """

    def __init__(self, out: Path, name: str, interval: int) -> None:
        self.curves, self.weights, self.last = out / "curves.csv", out / f"{name}.safetensors", out / "last.ckpt"
        self.interval = interval
        self.started = time.perf_counter()

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Write all files; the checkpoint last, since a resumed run relies on the others."""
        assert isinstance(module, Training)
        step, before = module.step, trainer.current_epoch * self.interval
        values = {name: f"{value:.6g}" for name, value in sorted(trainer.callback_metrics.items())}
        seconds = time.perf_counter() - self.started
        speed = {"seconds": f"{seconds:.1f}", "steps_per_s": f"{(step - before) / seconds:.3g}"}
        row = {"step": str(step)} | speed | {"rate": f"{module.schedule.rate(step):.4g}"} | values
        rows = [earlier for earlier in read_curves(self.curves) if int(earlier["step"]) < step]
        replace_file(self.curves, lambda path: _write_curves(path, [*rows, row]))
        replace_file(self.weights, lambda path: save_weights(module.average, path))
        replace_file(self.last, trainer.save_checkpoint)
        print("  ".join(f"{name}={value}" for name, value in row.items()), flush=True)


def read_curves(path: Path) -> list[dict[str, str]]:
    """Rows of ``curves.csv``; none if the file does not exist."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _write_curves(path: Path, rows: list[dict[str, str]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
