"""From what a user gives as weights to a network: a file, or seeded random values."""

import warnings
from collections.abc import Callable
from os import PathLike
from typing import TypeVar

import torch
from torch import Tensor, nn

from refine.weights.checkpoint import UnusableWeights

Network = TypeVar("Network", bound=nn.Module)
Config = TypeVar("Config")


def laid_out(x: Tensor, channels_last: bool) -> Tensor:
    """Feature maps as oneDNN's convolutions, and tensor cores, want them; each would be changed on its way otherwise.

    Args:
        x: ``(B, C, h, w)``.
        channels_last: Whether to change the format where that pays: on a CPU, and in half precision on CUDA, whose
            tensor cores read it as it is.
    """
    pays = x.device.type == "cpu" or (x.device.type == "cuda" and _is_half(x))
    return x.contiguous(memory_format=torch.channels_last) if channels_last and pays else x


def _is_half(x: Tensor) -> bool:
    return x.dtype in (torch.bfloat16, torch.float16) or torch.is_autocast_enabled(x.device.type)


def unfilled(build: Callable[[], Network]) -> Network:
    """A network on the CPU whose tensors are still to be read: no time is spent on initial values.

    Args:
        build: Makes the network.
    """
    with torch.device("meta"):
        network = build()
    return network.to_empty(device="cpu")


def random_weights(build: Callable[[], Network], seed: int, name: str) -> Network:
    """A network with seeded random weights, and a warning that it has them.

    Args:
        build: Makes the network.
        seed: Seed of the weights; the global random state is left as it was.
        name: Name of the backbone in messages.
    """
    warnings.warn(
        f"backbone '{name}' has RANDOM weights (backbone.weights=random): fine for measuring time and memory, "
        "useless for filling images.",
        stacklevel=3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def sized_network(
    weights: str | PathLike[str] | None,
    read: Callable[[str | PathLike[str]], tuple[Config, Network]],
    build: Callable[[Config], Network],
    sizes: Config,
    seed: int,
    name: str,
    files: str,
) -> tuple[Config, Network]:
    """The network of what a user gives as weights, and its sizes.

    Args:
        weights: A file, ``random``, or None.
        read: Makes sizes and network of a file.
        build: Makes a network of sizes, for random weights.
        sizes: Architecture of a network with random weights.
        seed: Seed of random weights.
        name: Name of the backbone in messages.
        files: Kinds of files it reads, for the message to a user who gave none.

    Raises:
        UnusableWeights: If there are no weights; and as ``read``.
    """
    if weights is None:
        raise UnusableWeights(
            f"backbone '{name}' needs its weights: set backbone.weights=<{files}> (`refine fetch {name}` says where "
            "they are), or backbone.weights=random to try the machinery."
        )
    if str(weights) == "random":
        return sizes, random_weights(lambda: build(sizes), seed, name)
    return read(weights)
