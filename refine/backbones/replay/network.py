"""From what a user gives as ``backbone.network`` to a network with weights."""

from os import PathLike
from typing import Any

import torch
from torch import nn

from refine.backbones.build import random_weights
from refine.weights.checkpoint import load_strictly, read_checkpoint, submodule


def user_network(network: Any, weights: str | PathLike[str] | None, seed: int, name: str) -> nn.Module:
    """The network that a user means, its weights loaded.

    Args:
        network: Network, or a function without arguments that makes it.
        weights: File of its weights; ``random`` for seeded random ones; None for those it comes with.
        seed: Seed of random weights.
        name: Name of the backbone in messages.

    Raises:
        ValueError: If there is no network, or its layers cannot be reached.
        UnusableWeights: If the file does not fit.
    """
    if network is None:
        raise ValueError(f"backbone '{name}' needs a network: set backbone.network to a _target_ that makes it.")

    def build() -> nn.Module:
        made = network() if callable(network) and not isinstance(network, nn.Module) else network
        made = getattr(made, "_orig_mod", made)  # torch.compile's, in whose code no layer can be stood in for
        if not isinstance(made, nn.Module):
            raise ValueError(
                f"backbone '{name}': network made a {type(made).__name__}; expected a torch.nn.Module. "
                "Set backbone.network to {_target_: <package>.<its class or a function that builds it>}."
            )
        if isinstance(made, torch.jit.ScriptModule):
            raise ValueError(
                f"backbone '{name}': network is TorchScript, whose layers cannot be reached. Set backbone.network to "
                "the class it was made of, and backbone.weights to its file; archives of TorchScript are read as well."
            )
        return made

    def drawn() -> nn.Module:
        made = build()
        for module in made.modules():  # the network may have been made before its seed was set
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        return made

    if str(weights) == "random":
        return random_weights(drawn, seed, name)
    made = build()
    if weights is not None:
        checkpoint = read_checkpoint(weights)
        load_strictly(made, submodule(checkpoint, next(iter(made.state_dict()))), checkpoint.source)
    return made
