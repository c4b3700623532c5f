"""Train a small generator on procedural scenes and photos: how the bundled weights were made.

    python scripts/training/train_mini.py out=runs/mini photos=<folder>
    python scripts/training/train_mini.py name=mini_aot network.kind=aot_gan out=runs/mini_aot photos=<folder>

An epoch is ``interval`` steps; each ends with a validation, a row of ``curves.csv``, a checkpoint and the averaged
weights. The same command resumes after a kill, without a break in the curve: every batch follows from the seed and
its number, and the phase of the training from the step. With ``time=480`` the phase follows from the seconds spent, by
earlier runs too, and the training ends after them.
"""

import math
import sys
from pathlib import Path

import cv2
import hydra
import lightning
import torch
from lightning.pytorch.loggers import WandbLogger
from omegaconf import DictConfig, OmegaConf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from training.callbacks import SaveEpoch, replace_file
from training.data import read_all
from training.module import Training

CONFIGS = str(Path(__file__).resolve().parents[2] / "configs")


def train(config: DictConfig) -> None:
    """Train, or resume a training.

    Args:
        config: Settings, as in ``configs/train_mini.yaml``.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    cv2.setNumThreads(1)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    replace_file(out / "config.yaml", lambda path: OmegaConf.save(config, path))
    torch.manual_seed(config.seed)
    bank, validation = read_all(config)
    save = SaveEpoch(out, config.name, config.interval)
    trainer = lightning.Trainer(
        **config.trainer,
        devices=1,
        max_epochs=math.ceil(config.steps / config.interval) if config.time is None else -1,
        callbacks=[save],
        logger=_logger(config),
        default_root_dir=out,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    resume = str(save.last) if save.last.exists() else None
    module = Training(config, bank, list(validation))
    trainer.fit(module, range(config.interval), list(validation.values()), ckpt_path=resume)


def _logger(config: DictConfig) -> WandbLogger | bool:
    if config.wandb is None:
        return False
    try:
        return WandbLogger(project=config.wandb, name=config.name, id=config.name, save_dir=config.out, resume="allow")
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"wandb={config.wandb}: the package wandb is not installed. Install it, or set wandb to null: the curves "
            "are in curves.csv either way."
        ) from None


@hydra.main(version_base=None, config_path=CONFIGS, config_name="train_mini")
def main(config: DictConfig) -> None:
    """Train with the settings of the command line."""
    train(config)


if __name__ == "__main__":
    main()
