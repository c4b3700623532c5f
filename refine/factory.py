"""Configuration -> objects: the backbone, its refiner, and how masks are read or drawn."""

from typing import cast

import torch
from omegaconf import DictConfig, OmegaConf

from refine.config import ConfigError, build, plain, require_bool
from refine.core.backbone import FrontRear
from refine.core.devices import place
from refine.core.refiner import Refiner
from refine.data.masks import KINDS, MaskGenerator
from refine.weights.download import cached


def make_refiner(config: DictConfig) -> Refiner:
    """The refiner of a composed configuration, on its device.

    Args:
        config: Composed configuration of ``refine predict``.
    """
    with torch.inference_mode(False):  # weights made in that mode could never take part in differentiation
        parts = {
            "backbone": make_backbone(config.backbone),
            "pyramid": build(config.pyramid),
            "objective": build(config.objective),
        }
        return place(build(config.refiner, **parts), config.device)


def make_backbone(section: DictConfig, tiny: bool = False) -> FrontRear:
    """The backbone of a composed configuration, on the CPU.

    Args:
        section: Section ``backbone`` of a composed configuration.
        tiny: Build the tiny network of its kind instead, with random weights, for tests.
    """
    if tiny:
        section = cast(DictConfig, OmegaConf.merge(section, section.get("tiny", {})))
    given = plain(section)
    if not tiny and "weights" in given and given["weights"] is None and (file := cached(str(given.get("name", "")))):
        given["weights"] = str(file)  # put there by `refine fetch`, or by hand
    # The card and the tiny network are about it, not for it.
    backbone: FrontRear = build({key: value for key, value in given.items() if key not in ("card", "tiny")})
    backbone.name = str(given.get("name", ""))
    return backbone


def mask_options(config: DictConfig) -> tuple[float, bool, int]:
    """``mask_threshold``, ``mask_invert`` and ``mask_dilate``.

    Raises:
        ConfigError: If one of them is out of range.
    """
    threshold, dilate = config.mask_threshold, config.mask_dilate
    if not (isinstance(threshold, int | float) and 0 < threshold <= 1):
        raise ConfigError(f"mask_threshold={threshold}: expected a share of white in (0, 1].")
    if not (isinstance(dilate, int) and dilate >= 0):
        raise ConfigError(f"mask_dilate={dilate}: expected a number of px, 0 or more.")
    return threshold, require_bool(config, "mask_invert"), dilate


def mask_generator(config: DictConfig) -> MaskGenerator | None:
    """The suite that ``masks=thin|medium|thick`` asks for; None for files.

    Raises:
        ConfigError: If settings of mask files, or others that a suite leaves no room for, come with it.
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
