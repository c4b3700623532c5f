"""The two networks of latent diffusion, as the library diffusers has them, and its schedule.

An autoencoder with a codebook (VQ) between pixels and latents, and a U-Net that tells the noise in a latent. Facts
follow CompVis/latent-diffusion at commit a506df5, configuration ``inpainting_big``.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

LATENT = 3  # channels of a latent, and of its codes
CONDITION = LATENT + 1  # of what the U-Net sees beside the noisy latent: the encoded known pixels and the mask


@dataclass(frozen=True)
class LDMConfig:
    """All that tells one pair of networks from another.

    Attributes:
        channels: Channels of the U-Net's levels, fine to coarse; all but the first have attention.
        layers: Residual blocks of each of its levels on the way down; one more on the way up.
        vq_channels: Channels of the autoencoder's levels, fine to coarse; each halves the resolution of the last.
        vq_layers: Residual blocks of each of its levels in the encoder; one more in the decoder.
        codes: Entries of its codebook.
        groups: Groups of all norms.
    """

    channels: tuple[int, ...] = (256, 512, 768, 1024)
    layers: int = 2
    vq_channels: tuple[int, ...] = (128, 256, 512)
    vq_layers: int = 2
    codes: int = 8192
    groups: int = 32

    @property
    def stride(self) -> int:
        """Px of the image per element of a latent."""
        return int(2 ** (len(self.vq_channels) - 1))

    @property
    def coarsest(self) -> int:
        """Elements of a latent per element of the U-Net's coarsest features."""
        return int(2 ** (len(self.channels) - 1))


class Networks(nn.Module):
    """U-Net and autoencoder.

    Args:
        unet: ``diffusers.UNet2DModel`` of 7 channels to 3.
        vq: ``diffusers.VQModel`` of latents with 3 channels.
        heads: Heads of attention at each level of the U-Net; no weight depends on them, and the library has instead
            one width of a head for all levels.

    Raises:
        ValueError: If they do not divide the channels of a level.
    """

    def __init__(self, unet: Any, vq: Any, heads: int) -> None:
        super().__init__()
        self.unet, self.vq = unet, vq
        channels = list(unet.config.block_out_channels)
        if heads < 1 or any(c % heads for c in channels[1:]):
            raise ValueError(
                f"backbone.heads={heads} must divide the channels of each level but the finest: {channels}. The "
                "official network has 8."
            )
        for module in unet.modules():
            if type(module).__name__ == "Attention":
                module.heads = heads

    def quantized(self, latent: Tensor) -> Tensor:
        """The nearest codes, exactly. The gradient passes straight through, as at training.

        Args:
            latent: ``(B, 3, h, w)``.
        """
        codebook: Tensor = self.vq.quantize.embedding.weight
        wide = torch.promote_types(latent.dtype, torch.float32)
        flat = latent.detach().movedim(1, -1)
        some = torch.split(flat.reshape(-1, LATENT).to(wide), 4096)  # all distances at once are 2 GB for 1024 px
        nearest = torch.cat([torch.cdist(pixels, codebook.to(wide)).argmin(1) for pixels in some])
        codes = codebook[nearest].view(flat.shape).movedim(-1, 1).contiguous().to(latent.dtype)
        return codes + (latent - latent.detach())


def build(sizes: LDMConfig, heads: int) -> Networks:
    """Both networks, with the library's initial weights but for the codebook, whose codes are spread like latents.

    Args:
        sizes: What to build.
        heads: Heads of attention at each level of the U-Net.

    Raises:
        ModuleNotFoundError: The extra is not installed; naming it.
    """
    levels = len(sizes.channels)
    unet = library().UNet2DModel(
        in_channels=LATENT + CONDITION,
        out_channels=LATENT,
        block_out_channels=sizes.channels,
        layers_per_block=sizes.layers,
        down_block_types=("ResnetDownsampleBlock2D", *["AttnDownBlock2D"] * (levels - 1)),
        up_block_types=(*["AttnUpBlock2D"] * (levels - 1), "UpBlock2D"),
        downsample_type="resnet",
        upsample_type="resnet",
        norm_num_groups=sizes.groups,
    )
    vq = library().VQModel(
        down_block_types=("DownEncoderBlock2D",) * len(sizes.vq_channels),
        up_block_types=("UpDecoderBlock2D",) * len(sizes.vq_channels),
        block_out_channels=sizes.vq_channels,
        layers_per_block=sizes.vq_layers,
        latent_channels=LATENT,
        num_vq_embeddings=sizes.codes,
        norm_num_groups=sizes.groups,
        mid_block_add_attention=False,
    )
    nn.init.normal_(vq.quantize.embedding.weight)
    return Networks(unet, vq, heads)


def schedule(steps: int) -> Any:
    """The DDIM scheduler with the noise levels of the original, ``steps`` of 1000 of them.

    Args:
        steps: Steps from pure noise to none.
    """
    scheduler = library().DDIMScheduler(
        beta_start=0.0015,
        beta_end=0.0205,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    scheduler.set_timesteps(steps)
    return scheduler


def library() -> ModuleType:
    """Diffusers, imported when it is first needed: that takes seconds.

    Raises:
        ModuleNotFoundError: The extra is not installed; naming it.
    """
    try:
        import diffusers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"latent diffusion needs {error.name}, which is not installed: pip install 'refine-inpainting[diffusion]'."
        ) from None
    return cast(ModuleType, diffusers)
