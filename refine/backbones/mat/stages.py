"""MAT as a sequence of stages, between any two of which it can be cut.

A stage takes tensors out of a state, by name, and puts those in that later stages need.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from refine.backbones.mat.generator import Generator
from refine.backbones.mat.sizes import COARSEST, MATConfig, noise_names

State = dict[str, Tensor]


@dataclass(frozen=True)
class Stage:
    """One stage of the network.

    Attributes:
        run: Function that changes the state.
        places: Cuts behind it, by name: the tensors there by name, each with its channels and the image's px that one
            of its own stands for.
    """

    run: Callable[[State], None]
    places: Mapping[str, Mapping[str, tuple[int, int]]]

    @property
    def makes(self) -> dict[str, tuple[int, int]]:
        """Channels and px of all tensors at which it can be cut."""
        return {name: size for tensors in self.places.values() for name, size in tensors.items()}


def stages(network: Generator, sizes: MATConfig) -> tuple[Stage, ...]:
    """The stages in the order of the run.

    Args:
        network: The network.
        sizes: Its architecture.
    """
    finest = sizes.resolutions[-1]
    wide = dict(zip(sizes.resolutions, sizes.channels, strict=True))
    encoded = {_feature(r): (wide[r], finest // r) for r in sizes.resolutions}
    decoded = {r: {f"dec{r}": (wide[r], finest // r), f"rgb{r}": (3, finest // r)} for r in sizes.resolutions[:-1]}
    return (
        Stage(partial(_attend, network), {"tokens": {"tokens": (sizes.dim, sizes.token_side)}}),
        Stage(partial(_paint, network), {"stage1": {"stage1": (3, 1)}}),
        Stage(partial(_encode, network), {name: {name: size} for name, size in encoded.items()}),
        *(Stage(partial(_decode, network, r), {f"dec{r}": tensors}) for r, tensors in decoded.items()),
        Stage(partial(_decode, network, finest), {}),
    )


def checked_cuts(cut: str | Sequence[str], of: Sequence[Stage]) -> tuple[str, ...]:
    """The cuts in the order of the run.

    Args:
        cut: Name of a place, or several.
        of: Stages of the network.

    Raises:
        ValueError: If there is no such place, or none is given, or one is there twice.
    """
    cuts = [cut] if isinstance(cut, str) or not isinstance(cut, Sequence) else list(cut)
    available = [place for stage in of for place in stage.places]
    if not cuts or not all(place in available for place in cuts) or len(set(cuts)) < len(cuts):
        raise ValueError(
            f"backbone.cut={cut!r}: expected one of {', '.join(available)}, the places where this network can be cut, "
            "or a list of different ones."
        )
    return tuple(sorted(cuts, key=available.index))


def layers(cuts: Sequence[str], of: Sequence[Stage]) -> tuple[str, ...]:
    """Names of the tensors at some cuts, in the order of the run.

    Args:
        cuts: Names of places.
        of: Stages of the network.
    """
    return tuple(name for stage in of for place, tensors in stage.places.items() if place in cuts for name in tensors)


def _feature(r: int) -> str:
    """Name of the encoder's features of a resolution."""
    return "fea16" if r == COARSEST else f"skip{r}"


def _attend(network: Generator, state: State) -> None:
    first = network.synthesis.first_stage
    state["tokens"], finer = first.attend(state["image"], state["known"], state["w"], state.pop("dropout_1"))
    state |= {f"finer{i}": x for i, x in enumerate(finer)}


def _paint(network: Generator, state: State) -> None:
    finer = [state.pop(name) for name in sorted(name for name in state if name.startswith("finer"))]
    state["stage1"] = network.synthesis.first_stage.paint(state.pop("tokens"), finer, state["w"])


def _encode(network: Generator, state: State) -> None:
    image, known, painted, keep = (state.pop(name) for name in ("image", "known", "stage1", "dropout_2"))
    features = network.encode(image, known, painted, state["w"], keep)
    state |= {_feature(r): x for r, x in features.items()}


def _decode(network: Generator, r: int, state: State) -> None:
    skip = state.pop(_feature(r))
    if r == COARSEST:
        state["style"] = torch.cat([state.pop("w"), network.synthesis.to_style(skip)], dim=1)
        x, rgb = skip, None
    else:
        x, rgb = state.pop(f"dec{r // 2}"), state.pop(f"rgb{r // 2}")
    noise = [state.pop(name) for name in noise_names(network.resolutions)[r]]
    state[f"dec{r}"], state[f"rgb{r}"] = network.decode(r, x, rgb, skip, state["style"], noise)
