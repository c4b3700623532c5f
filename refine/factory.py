"""Configuration -> objects: the backbone, its refiner, and how masks are read or drawn."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from refine.config import ConfigError, PredictConfig, RefinerConfig, build, plain
from refine.core.backbone import FrontRear
from refine.core.devices import place
from refine.core.objective import Objective
from refine.core.refiner import Refiner
from refine.core.types import Features, Level
from refine.data.dataset import PairDataset
from refine.data.masks import KINDS, MaskGenerator
from refine.data.pairs import ImageMaskPair
from refine.io.mask import MaskOptions
from refine.weights.download import cached

_DTYPE = threading.RLock()  # the default dtype is that of all threads


def make_refiner(config: RefinerConfig) -> Refiner:
    """The refiner of a configuration, on its device.

    Args:
        config: Settings of the refiner and its parts.
    """
    with torch.inference_mode(False):  # weights made in that mode could never take part in differentiation
        parts = {
            "backbone": make_backbone(config.backbone),
            "pyramid": build(config.pyramid),
            "objective": _make_objective(config.objective),
        }
        return place(build(config.refiner, deterministic=config.deterministic, **parts), config.device)


def _make_objective(section: Mapping[str, Any]) -> Objective:
    objective = build(section)
    if not callable(getattr(objective, "prepare", None)):
        target = section["_target_"]
        raise ConfigError(f"objective._target_={target} has no method prepare(level, guide); see docs/method.md.")
    return cast(Objective, objective)


class _AnyBackbone(FrontRear):
    """Stands for a backbone whose layers are not known: it has those that are to be optimized."""

    multiple_of, native_size = 1, 1

    def __init__(self, layers: Sequence[str] | str | None) -> None:
        super().__init__()
        self.layers = ("z",) if layers is None else (layers,) if isinstance(layers, str) else tuple(layers)

    def front(self, level: Level) -> Features:
        raise NotImplementedError

    def rear(self, features: Features) -> Tensor:
        raise NotImplementedError


def check_refiner(config: RefinerConfig) -> None:
    """Hold the settings of pyramid, objective and refiner against what they build; no network is loaded.

    Args:
        config: Settings of the refiner and its parts.

    Raises:
        ValueError: If one makes no sense.
    """
    parts = {"pyramid": build(config.pyramid), "objective": _make_objective(config.objective)}
    build({**config.refiner, "compile": False}, backbone=_AnyBackbone(config.refiner.get("optimize")), **parts)


def make_backbone(section: Mapping[str, Any], tiny: bool = False) -> FrontRear:
    """The backbone of a configuration, on the CPU.

    Args:
        section: Section ``backbone`` of a configuration.
        tiny: Build the tiny network of its kind instead, with random weights, for tests.
    """
    settings = plain(section)
    name = str(settings.get("name", ""))
    if tiny:
        settings = plain(cast(DictConfig, OmegaConf.merge(settings, settings.get("tiny", {}))))
    elif "weights" in settings and settings["weights"] is None and (file := cached(name)):
        settings["weights"] = str(file)  # put there by `refine fetch`, or by hand
    with _weights_in_float32():
        # The card and the tiny network are about it, not for it.
        backbone: FrontRear = build({key: value for key, value in settings.items() if key not in ("card", "tiny")})
    backbone.name = name
    return backbone


@contextmanager
def _weights_in_float32() -> Iterator[None]:
    """Modules are made in torch's default dtype, which the calling program may have set to another; one at a time."""
    with _DTYPE:
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def mask_generator(config: PredictConfig) -> MaskGenerator | None:
    """The generator that ``masks=thin|medium|thick`` asks for; None for files.

    Args:
        config: Settings of a run.

    Raises:
        ConfigError: If settings of mask files, or a mask file, come with it.
    """
    if config.masks not in KINDS:
        return None
    if config.mask is not None:
        raise ConfigError(f"mask= and masks={config.masks} exclude each other; give one of them.")
    if config.mask_invert or config.mask_dilate:
        raise ConfigError(
            f"masks={config.masks} draws masks; mask_invert and mask_dilate are for files, leave them out."
        )
    return MaskGenerator(config.masks, config.mask_seed, config.mask_area)


def make_dataset(config: PredictConfig, pairs: Sequence[ImageMaskPair]) -> PairDataset:
    """Images and masks as a run reads them.

    Args:
        config: Settings of the run.
        pairs: Image and mask pairs.
    """
    options, data = MaskOptions(*config.mask_options), config.data
    return PairDataset(pairs, options, config.format, data.side, data.megapixels)
