"""The networks of ZITS together, and the folder of official checkpoints they are read from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from torch import Tensor, nn

from refine.backbones.build import unfilled
from refine.backbones.zits.generator import Generator, read_generator_sizes
from refine.backbones.zits.structure import StructureEncoder, StructureUpsampling
from refine.backbones.zits.transformer import Transformer, TransformerConfig, read_transformer_sizes
from refine.weights.checkpoint import UnusableWeights, load_strictly, read_checkpoint, submodule

GENERATOR, UPSAMPLER = "InpaintingModel_best_gen", "StructureUpsampling"
TRANSFORMER = "best_transformer_places2"
SUFFIXES = (".pth", ".pt", ".safetensors")
MARKERS = {
    "generator": "middle.0.ffc1.ffc.convl2l.weight",
    "str_encoder": "conv1.gate_conv.weight",
    "upsampler": "convs.1.weight",
    "transformer": "blocks.0.attn_row.key.weight",
}  # a tensor that each is sure to have


@dataclass(frozen=True)
class ZITSConfig:
    """All that tells one ZITS from another.

    Attributes:
        width: Channels after the first convolution of generator and structure encoder.
        blocks: Residual blocks of the generator.
        structure_blocks: Residual blocks of the structure encoder.
        upsampler_width: Channels of the network that enlarges edges and lines.
        transformer: The transformer that completes them; None without.
    """

    width: int = 64
    blocks: int = 9
    structure_blocks: int = 3
    upsampler_width: int = 64
    transformer: TransformerConfig | None = field(default_factory=TransformerConfig)


class Networks(nn.Module):
    """Generator, structure encoder, enlargement and transformer.

    Args:
        sizes: What to build.
    """

    def __init__(self, sizes: ZITSConfig) -> None:
        super().__init__()
        self.generator = Generator(sizes.width, sizes.blocks)
        self.str_encoder = StructureEncoder(sizes.width, sizes.structure_blocks)
        self.upsampler = StructureUpsampling(sizes.upsampler_width)
        self.transformer = None if sizes.transformer is None else Transformer(sizes.transformer)


def load(weights: str | PathLike[str], completes: bool) -> tuple[ZITSConfig, Networks]:
    """Read the networks, their sizes among it.

    Args:
        weights: Folder of the generator's checkpoint, with the other two in it or in the folder above, as upstream.
        completes: Whether the transformer is needed.

    Raises:
        UnusableWeights: If a file is missing, damaged or that of another network.
    """
    folder = Path(weights).expanduser().absolute()
    both = _located(folder, GENERATOR)
    files = {"generator": both, "str_encoder": both, "upsampler": _located(folder, UPSAMPLER)}
    if completes:
        files["transformer"] = _located(folder, TRANSFORMER)
    states = {part: _state(part, file) for part, file in files.items()}
    try:
        sizes = _sizes(states)
    except KeyError as error:
        raise UnusableWeights(f"{folder}: its files lack the tensor {error} of a ZITS; download them again.") from None
    networks = unfilled(lambda: Networks(sizes))
    for part, state in states.items():
        load_strictly(networks.get_submodule(part), state, str(files[part]))
    return sizes, networks


def _located(folder: Path, name: str) -> Path:
    places = [place / f"{name}{suffix}" for place in (folder, folder.parent) for suffix in SUFFIXES]
    for file in places[: len(SUFFIXES)] if name == GENERATOR else places:
        if file.is_file():
            return file
    if not folder.is_dir():
        raise UnusableWeights(f"{folder} is no folder; expected the one that holds {GENERATOR}.pth.")
    above = "" if name == GENERATOR else ", and so does the folder above"
    raise UnusableWeights(
        f"{folder} lacks {name}.pth{above}. The set is {GENERATOR}.pth, {UPSAMPLER}.pth and, unless "
        f"backbone.structure=given, {TRANSFORMER}.pth."
    )


def _state(part: str, file: Path) -> dict[str, Tensor]:
    state = submodule(read_checkpoint(file), MARKERS[part])
    # Files of before July 2022 hold a mask of causal attention that was never applied.
    return {name: value for name, value in state.items() if not name.endswith(".attn.mask")}


def _sizes(states: Mapping[str, dict[str, Tensor]]) -> ZITSConfig:
    width, blocks = read_generator_sizes(states["generator"])
    structure_blocks = {name.split(".")[1] for name in states["str_encoder"] if name.startswith("middle.")}
    transformer = states.get("transformer")
    return ZITSConfig(
        width=width,
        blocks=blocks,
        structure_blocks=len(structure_blocks),
        upsampler_width=states["upsampler"]["convs.1.weight"].shape[0],
        transformer=None if transformer is None else read_transformer_sizes(transformer),
    )
