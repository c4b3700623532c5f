"""ZITS (Dong et al. 2022): a transformer draws the structure, a LaMa with that structure as further input paints.

Four networks upstream (DQiaole/ZITS_inpainting at commit 6f4a47b): a detector of lines; a transformer that continues
edges and lines into the hole, at 256 px; a network that enlarges those maps; and the painter, a generator with an
encoder of structure. The first is not part of this package: lines come from files or from the caller, or are empty. The
painter sees ``cat([image * (1 - mask), mask])``, RGB in [0, 1], 1 = hole; ``cat([edge, line, mask])``; and the masked
positions. It answers through a tanh, mapped to [0, 1].

Conditions of a level, made once per image so that all levels have the same structure; a caller's own win:

- ``edge``, ``line``: ``(B, 1, h, w)`` in [0, 1]. Of any other size they are brought to that of the level.
- ``rel_pos``: ``(B, h, w)``, 0 to 127, and ``direct``: ``(B, h, w, 4)``, {0, 1}; made of the level's mask if left out.

The cut lies before a block of the trunk, as with LaMa, whose layers these are: two tensors cross it, ``local`` and
``global``, and nothing else, because all structure has been added before the trunk. A cut further up is not offered:
before ``conv4`` the map has twice as many numbers and one convolution more behind it, but what lies behind sees no
further, since every block of the trunk sees the whole picture.
"""

import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import cv2
import torch
from torch import Tensor, nn

from refine.backbones.build import sized_network
from refine.backbones.lama.fold import fold as fold_norms
from refine.backbones.lama.fourier import Pair
from refine.backbones.sequential import SequentialBackbone, checked_cuts
from refine.backbones.zits.generator import STRIDE
from refine.backbones.zits.maps import MapFiles, find_edges, resized
from refine.backbones.zits.networks import Networks, ZITSConfig, load
from refine.backbones.zits.positions import masked_positions
from refine.backbones.zits.transformer import TransformerConfig, complete
from refine.core.pyramid import pad
from refine.core.types import Level, Sample
from refine.weights.checkpoint import hash_state

STRUCTURES = ("completed", "given")


class ZITS(SequentialBackbone):
    """The networks of ZITS, their sizes read from the weights.

    Args:
        weights: Folder of ``InpaintingModel_best_gen.pth``, with ``StructureUpsampling.pth`` and
            ``best_transformer_places2.pth`` in it or in the folder above, as upstream; or ``random`` for seeded random
            weights of the sizes given.
        cut: The painter is opened before this residual block, 0 <= cut <= blocks; a list opens it before several.
        native_size: Short side in px at which the pyramid starts.
        structure: Name of what edges and lines come to in the hole. ``completed``: the transformer draws them there.
            ``given``: they stay as they are; the transformer is not needed.
        edges: Folder of edge maps named as the images are, or one file; None for Canny's edges of the known pixels.
        lines: Folder of line maps, or one file; None for no lines.
        sizes: Used with ``weights=random`` alone.
        seed: Seed of random weights; nothing else is random.
        name: Name of the backbone in messages.
        fold: Fold the trunk's batch norm into its convolutions: less time, the same prediction up to rounding.
        channels_last: Feature maps in channels-last format on a CPU, and on CUDA in half precision: less time, the same
            prediction up to rounding.

    Raises:
        UnusableWeights: If a file of the set is missing or another network's.
        ValueError: If ``cut``, ``structure``, ``edges`` or ``lines`` makes no sense.
    """

    first_block = 1  # the first module divides the channels
    output_settings = (*SequentialBackbone.output_settings, "fold", "structure", "maps")

    def __init__(
        self,
        weights: str | PathLike[str] | None,
        cut: int | Sequence[int] = 0,
        native_size: int = 512,
        structure: str = "completed",
        edges: str | Path | None = None,
        lines: str | Path | None = None,
        sizes: ZITSConfig | None = None,
        seed: int = 0,
        name: str = "zits",
        fold: bool = True,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        if structure not in STRUCTURES:
            raise ValueError(f"backbone.structure={structure}: expected {' or '.join(STRUCTURES)}.")
        self.structure = structure
        self.fills_parts = edges is None and lines is None
        given = {"edge": ("backbone.edges", edges), "line": ("backbone.lines", lines)}
        self.files = {kind: MapFiles(setting, path) for kind, (setting, path) in given.items() if path is not None}
        self.maps = {kind: files.fingerprint() for kind, files in self.files.items()}
        self.sizes, self.networks = sized_network(
            weights,
            lambda folder: load(folder, completes=structure == "completed"),
            Networks,
            sizes or ZITSConfig(),
            seed,
            name,
            "the folder of InpaintingModel_best_gen.pth",
        )
        self.weights_hash = hash_state(self.networks.state_dict())
        self.fold = fold
        if fold:
            fold_norms(self.networks.generator.middle)
        self.channels_last = channels_last
        self.cuts = checked_cuts(cut, self.sizes.blocks)
        self.layers = self._layers("local", "global")
        self.native_size = native_size
        self.multiple_of = STRIDE
        self.minimum_side = 3 * STRIDE  # the encoder's dilated convolutions pad by reflection, which takes 3 px
        self._warned = False
        self.freeze()

    def conditions(self, sample: Sample, levels: Sequence[Level]) -> list[Mapping[str, Tensor]]:
        """See :class:`FrontRear`; here they are not random."""
        pairs = zip(sample.image[:, None], sample.network_mask[:, None], strict=True)
        structures = [self._structure(sample.key, image, mask) for image, mask in pairs]
        made: list[Mapping[str, Tensor]] = []
        for level in levels:
            maps = {kind: [self._fitted(maps[kind], level) for maps in structures] for kind in ("edge", "line")}
            made.append({kind: torch.cat(images) for kind, images in maps.items()} | _positions(level))
        return made

    def _structure(self, key: str, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Edges and lines of one image, ``(1, 1, h, w)`` each of its own size."""
        transformer = self.networks.transformer if self.structure == "completed" else None
        side = (TransformerConfig() if transformer is None else transformer.sizes).side
        image, mask = _squared(image * (1 - mask), side), _squared(mask, side).gt(0).to(mask)
        maps = {kind: files.read(key).to(image) for kind, files in self.files.items()}
        maps.setdefault("edge", find_edges(image, mask))
        maps.setdefault("line", torch.zeros_like(mask))
        if transformer is not None and mask.any():
            inputs = (image, _squared(maps["edge"], side), _squared(maps["line"], side), mask)
            image, edge, line, mask = (tensor.to(self.dtype) for tensor in inputs)
            maps["edge"], maps["line"] = complete(transformer, image, edge, line, mask)
        self._say_that_there_are_no_lines()
        return maps

    def _say_that_there_are_no_lines(self) -> None:
        if "line" not in self.files and not self._warned:
            self._warned = True
            warnings.warn(
                f"backbone '{self.name or 'zits'}' has no lines: the detector they come from upstream (LSM-HAWP) is no "
                "part of this package. Set backbone.lines to a folder of line maps where buildings or rooms matter.",
                stacklevel=4,
            )

    def _fitted(self, soft: Tensor, level: Level) -> Tensor:
        """A map at the padded size of a level."""
        if soft.shape[-2:] == level.image.shape[-2:]:
            return soft.to(level.image)
        height, width = level.image.shape[-2:]
        fitted = resized(soft.to(level.image.device, self.dtype), level.size, self.networks.upsampler)
        return pad(fitted.to(level.image), (height, width))

    @property
    def sequence(self) -> nn.Sequential:
        """See :class:`SequentialBackbone`."""
        return self.networks.generator.sequence

    def enter(self, level: Level) -> Tensor:
        """See :class:`SequentialBackbone`; here what enters the trunk, since no cut lies before it."""
        given = level.conditions
        if not {"edge", "line"} <= set(given):
            raise ValueError(
                f"a level of backbone '{self.name or 'zits'}' needs the conditions edge and line, each (B,1,h,w) in "
                f"[0,1]; got {', '.join(given) or 'none'}. Give both, or leave conditions out: the backbone makes them."
            )
        if not {"rel_pos", "direct"} <= set(given):
            given = {**_positions(level), **given}
        image, mask = level.image, level.mask
        seen = torch.cat([image * (1 - mask), mask], dim=1)
        maps = (self._fitted(given[kind], level) for kind in ("edge", "line"))
        structure = self.networks.str_encoder(torch.cat([*maps, mask], dim=1))
        rel_pos, direct = given["rel_pos"].to(image.device, torch.long), given["direct"].to(image)
        positions = self.networks.str_encoder.positions(rel_pos, direct)
        return self.networks.generator.stem(seen, positions, structure)

    def leave(self, output: Tensor) -> Tensor:
        """See :class:`SequentialBackbone`."""
        return (output + 1) / 2

    def parts(self, x: Pair) -> dict[str, Tensor]:
        """See :class:`SequentialBackbone`."""
        assert x.rest is not None
        return {"local": x.local, "global": x.rest}

    def join(self, parts: Mapping[str, Tensor]) -> Pair:
        """See :class:`SequentialBackbone`."""
        return Pair(parts["local"], parts["global"])


def _positions(level: Level) -> dict[str, Tensor]:
    """The masked positions of a level: those of the picture, padded as it is."""
    made = [masked_positions(mask) for mask in level.crop(level.mask)[:, 0]]
    planes = torch.cat([torch.cat([rel_pos[..., None].to(direct), direct], dim=-1)[None] for rel_pos, direct in made])
    height, width = level.mask.shape[-2:]
    planes = pad(planes.permute(0, 3, 1, 2), (height, width)).permute(0, 2, 3, 1)
    return {"rel_pos": planes[..., 0].long(), "direct": planes[..., 1:]}


def _squared(x: Tensor, side: int) -> Tensor:
    """``(1, C, h, w)`` -> ``(1, C, side, side)``, by OpenCV's means over areas where that is smaller, as upstream."""
    planes = x[0].permute(1, 2, 0).float().cpu().numpy()
    smaller = min(planes.shape[:2]) > side
    planes = cv2.resize(planes, (side, side), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    return torch.from_numpy(planes.reshape(side, side, -1)).permute(2, 0, 1)[None].to(x)
