"""What is random in MAT: shapes, and one draw per image for all levels of its pyramid.

The network draws at test time too: a latent, two masks of dropout, and noise. Here all of it comes from a generator
seeded by the sample's key. What decides the content of a fill, latent and masks of dropout, is drawn once per image:
a finer level has the coarsest one's masks, enlarged by nearest neighbor at the scale of the image, so that a place of
the image keeps or drops the same at each level. Noise makes texture, pixel by pixel, and the network knows it as white;
enlarged it would be none, so that each level has its own. At the training resolution it is the stored one, as upstream.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from refine.backbones.mat.sizes import COARSEST, MATConfig, noise_names
from refine.core.randomness import seeded_by
from refine.core.types import Level


def shapes(sizes: MATConfig, height: int, width: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the conditions of a level, without the batch.

    Args:
        sizes: Architecture of the network.
        height: Height of the padded level, px.
        width: Width of the padded level, px.

    Returns:
        ``z``; ``dropout_1`` and ``dropout_2``; ``noise_0``, ``noise_1`` ... in the network's order.
    """
    finest = sizes.resolutions[-1]
    rows, columns = height // sizes.token_side, width // sizes.token_side
    noise = {name: r for r, names in noise_names(sizes.resolutions).items() for name in names}
    return {
        "z": (sizes.latent,),
        "dropout_1": (rows * columns, sizes.dim),
        "dropout_2": (sizes.channels[0], height * COARSEST // finest, width * COARSEST // finest),
        **{name: (1, height * r // finest, width * r // finest) for name, r in noise.items()},
    }


def drawn(
    sizes: MATConfig, seed: int, key: str, levels: Sequence[Level], stored: Mapping[str, Tensor]
) -> list[Mapping[str, Tensor]]:
    """The conditions of all levels of an image; those of a batch are the same for each of its images.

    Args:
        sizes: Architecture of the network.
        seed: Seed of the draws, beside the key.
        key: Name of the image.
        levels: The padded levels, coarse to fine.
        stored: Noise for the training resolution, by name, ``(1, h, w)``.

    Returns:
        Tensors by name as in :func:`shapes`, with the batch in front.
    """
    generator = seeded_by(seed, key)
    first = torch.randn(sizes.latent, generator=generator)
    masks_1 = _kept(levels, sizes.token_side, sizes.dim, generator)
    masks_2 = _kept(levels, sizes.resolutions[-1] // COARSEST, sizes.channels[0], generator)
    conditions: list[Mapping[str, Tensor]] = []
    for level, mask_1, mask_2 in zip(levels, masks_1, masks_2, strict=True):
        batch, _, height, width = level.image.shape
        own = {"z": first, "dropout_1": mask_1.flatten(1).T, "dropout_2": mask_2}
        for name, shape in shapes(sizes, height, width).items():
            if name in stored:
                fits = stored[name].shape == shape
                own[name] = stored[name] if fits else torch.randn(shape, generator=generator)
        conditions.append({name: x.to(level.image).expand(batch, *x.shape) for name, x in own.items()})
    return conditions


def _kept(levels: Sequence[Level], side: int, channels: int, generator: torch.Generator) -> list[Tensor]:
    """A mask of dropout for each level, ``(channels, h / side, w / side)``: 1 = keep and 0 = drop, half of each."""
    places = []
    for level in levels:
        scales = [coarse / fine for coarse, fine in zip(levels[0].size, level.size, strict=True)]
        padded = level.image.shape[-2:]
        places.append([((torch.arange(n // side) + 0.5) * s).long() for n, s in zip(padded, scales, strict=True)])
    rows, columns = (max(int(place[axis].max()) for place in places) + 1 for axis in range(2))
    field = (torch.rand(channels, rows, columns, generator=generator) < 0.5).float()
    return [field[:, row[:, None], column] for row, column in places]
