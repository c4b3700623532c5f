"""Loading latent diffusion: the official checkpoint, or a folder as diffusers saves its networks."""

import functools
import json
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refine.backbones.build import unfilled
from refine.backbones.ldm.names import converted, read_sizes, unet_name, vq_name
from refine.backbones.ldm.networks import CONDITION, LATENT, LDMConfig, Networks, build, library
from refine.weights.checkpoint import Checkpoint, UnusableWeights, load_strictly, read_checkpoint

_FOLDERS = {"UNet2DModel": ("unet",), "VQModel": ("vqvae", "vae")}  # of a network, by its class
_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


def read(path: str | PathLike[str], heads: int) -> tuple[LDMConfig, Networks]:
    """Sizes and networks of a file or folder.

    Args:
        path: Official ``last.ckpt``, or a folder with ``unet`` and ``vqvae`` (or ``vae``).
        heads: Heads of attention at each level of the U-Net, which neither tells.

    Raises:
        UnusableWeights: If it holds something else, or half of it.
        ModuleNotFoundError: The extra is not installed; naming it.
    """
    library()  # before gigabytes are read
    folder = Path(path).expanduser()
    if any((folder / name).is_dir() for names in _FOLDERS.values() for name in names):
        return _read_folder(folder, heads)
    return _read_official(read_checkpoint(path), heads)


def _read_official(checkpoint: Checkpoint, heads: int) -> tuple[LDMConfig, Networks]:
    """The averaged weights of the U-Net, as the original's script takes them, and the autoencoder."""
    state = checkpoint.state
    unet, vq = (_below(checkpoint, prefix) for prefix in ("model.diffusion_model.", "first_stage_model."))
    unet = {name: state.get("model_ema.diffusion_model" + name.replace(".", ""), unet[name]) for name in unet}
    sizes = read_sizes(unet, vq)
    networks = unfilled(lambda: build(sizes, heads))
    for network, official, names in ((networks.unet, unet, unet_name), (networks.vq, vq, vq_name)):
        own = converted(official, network.state_dict(), functools.partial(names, sizes=sizes), heads)
        load_strictly(network, own, checkpoint.source)
    return sizes, networks


def _below(checkpoint: Checkpoint, prefix: str) -> dict[str, Tensor]:
    found = {name.removeprefix(prefix): value for name, value in checkpoint.state.items() if name.startswith(prefix)}
    if not found:
        raise UnusableWeights(
            f"{checkpoint.source} has no tensors named {prefix}*; got {', '.join(list(checkpoint.state)[:3])} ... "
            "Expected last.ckpt of latent diffusion's inpainting_big, with the U-Net (model.diffusion_model) and the "
            "autoencoder (first_stage_model), or a folder of diffusers with unet and vqvae."
        )
    return found


def _read_folder(folder: Path, heads: int) -> tuple[LDMConfig, Networks]:
    unet, vq = (_read_network(folder, kind) for kind in _FOLDERS)
    channels = unet.config.in_channels, unet.config.out_channels, vq.config.latent_channels
    if channels != (LATENT + CONDITION, LATENT, LATENT):
        raise UnusableWeights(
            f"{folder}: U-Net from {channels[0]} to {channels[1]} channels, latents with {channels[2]}; expected 7 to "
            "3, and 3, of latent diffusion for inpainting."
        )
    return LDMConfig(
        tuple(unet.config.block_out_channels),
        unet.config.layers_per_block,
        tuple(vq.config.block_out_channels),
        vq.config.layers_per_block,
        vq.config.num_vq_embeddings,
        unet.config.norm_num_groups,
    ), Networks(unet, vq, heads)


def _read_network(folder: Path, kind: str) -> Any:
    """One of the networks, of the class that its configuration names."""
    names = _FOLDERS[kind]
    place = next((folder / name for name in names if (folder / name).is_dir()), folder / names[0])
    weights = next((place / name for name in _WEIGHTS if (place / name).is_file()), place / _WEIGHTS[0])
    absent = [file.name for file in (place / "config.json", weights) if not file.is_file()]
    if absent:
        raise UnusableWeights(
            f"{place} lacks {' and '.join(absent)}: a folder of diffusers has both in unet and in vqvae (or vae)."
        )
    try:
        config = json.loads((place / "config.json").read_text(encoding="utf-8"))
        if config.get("_class_name") != kind:
            raise ValueError(f"_class_name is {config.get('_class_name')!r}")
        with torch.device("meta"):
            network = getattr(library(), kind).from_config(config)
    except Exception as error:  # the library fails on what does not fit in every way there is
        raise UnusableWeights(f"{place / 'config.json'} does not describe a {kind} ({error}).") from error
    network = network.to_empty(device="cpu")
    checkpoint = read_checkpoint(weights)
    load_strictly(network, checkpoint.state, checkpoint.source)
    return network
