"""From the names of the official checkpoint to those of the library: the same tensors but for those of attention."""

import re
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor

from refine.backbones.ldm.networks import LDMConfig
from refine.weights.checkpoint import UnusableWeights

_IN_UNET = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_IN_BLOCK = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
    "group_norm": "norm",
    "to_q": "qkv",
    "to_k": "qkv",
    "to_v": "qkv",
    "to_out.0": "proj_out",
}
_IN_VQ = {
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "downsamplers.0": "downsample",
    "upsamplers.0": "upsample",
    "resnets": "block",
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
}
_QKV = {"to_q": 0, "to_k": 1, "to_v": 2}
_SLOTS = {"resnets": 0, "attentions": 1, "downsamplers": 0, "upsamplers": 2}  # within one of the official blocks


def unet_name(name: str, sizes: LDMConfig) -> str:
    """Official name of a tensor of the U-Net; three of the library's are parts of one.

    Args:
        name: The library's name.
        sizes: Sizes of the network.
    """
    levels = re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)", name)
    if levels:
        way, level, kind, index = levels.groups()
        last = sizes.layers if kind in ("downsamplers", "upsamplers") else int(index)
        number = int(level) * (sizes.layers + 1) + last
        block = f"input_blocks.{1 + number}" if way == "down" else f"output_blocks.{number}"
        name = f"{block}.{_SLOTS[kind]}{name[levels.end() :]}"
    return _translated(name, _IN_UNET | _IN_BLOCK)


def vq_name(name: str, sizes: LDMConfig) -> str:
    """Official name of a tensor of the autoencoder, whose decoder counts its levels the other way round.

    Args:
        name: The library's name.
        sizes: Sizes of the network.
    """
    last = len(sizes.vq_channels) - 1
    name = re.sub(r"down_blocks\.(\d+)", r"down.\1", name)
    name = re.sub(r"up_blocks\.(\d+)", lambda match: f"up.{last - int(match[1])}", name)
    return _translated(name, _IN_VQ)


def _translated(name: str, table: Mapping[str, str]) -> str:
    for own, official in table.items():
        name = re.sub(rf"(^|\.){re.escape(own)}(?=\.)", rf"\g<1>{official}", name)
    return name


def converted(
    state: Mapping[str, Tensor], names: Iterable[str], official: Callable[[str], str], heads: int
) -> dict[str, Tensor]:
    """The library's state dict; what it has no place for keeps its official name.

    Args:
        state: Official state dict of one of the networks.
        names: Names of all tensors of the library's network.
        official: Its official name, of one of these.
        heads: Heads of attention: the official tensors hold query, key and value of one head after the other.
    """
    own: dict[str, Tensor] = {}
    used: set[str] = set()
    for name in names:
        source = official(name)
        if source not in state:
            continue
        used.add(source)
        value, layer = state[source], name.split(".")[-2]
        if layer in _QKV and value.shape[0] % (3 * heads) == 0:
            value = value.reshape(heads, 3, -1, *value.shape[1:])[:, _QKV[layer]].flatten(0, 1)
        own[name] = value.squeeze(-1) if ".attentions." in name and value.ndim == 3 else value
    return own | {name: value for name, value in state.items() if name not in used}


def read_sizes(unet: Mapping[str, Tensor], vq: Mapping[str, Tensor]) -> LDMConfig:
    """Read the architecture off official weights.

    Args:
        unet: State dict of the U-Net.
        vq: State dict of the autoencoder.

    Raises:
        UnusableWeights: If they are of another kind.
    """
    upsamplers = {match[0] for name in unet if (match := re.match(r"output_blocks\.\d+\.2\.", name))}
    blocks = {match[0] for name in unet if (match := re.match(r"input_blocks\.\d+\.", name))}
    layers, rest = divmod(len(blocks), len(upsamplers) + 1)
    try:
        if rest:
            raise KeyError(f"{len(upsamplers) + 1} levels of equal depth; got {len(blocks)} blocks on the way down")
        widths = [unet[f"input_blocks.{1 + i}.0.out_layers.3.weight"] for i in range(0, len(blocks), layers)]
        down = {int(match[1]) for name in vq if (match := re.match(r"encoder\.down\.(\d+)\.", name))}
        vq_layers = {match[0] for name in vq if (match := re.match(r"encoder\.down\.0\.block\.\d+\.", name))}
        vq_widths = [vq[f"encoder.down.{i}.block.0.conv1.weight"] for i in range(len(down))]
        codes = vq["quantize.embedding.weight"].shape[0]
    except KeyError as missing:
        raise UnusableWeights(
            f"these are no weights of latent diffusion for inpainting (VQ-f4, U-Net with attention at all levels but "
            f"the finest): expected {missing.args[0]}."
        ) from None
    channels, vq_channels = (tuple(weight.shape[0] for weight in group) for group in (widths, vq_widths))
    return LDMConfig(channels, layers - 1, vq_channels, len(vq_layers), codes)
