"""From the setting ``backbone.network`` to a network with weights."""

from os import PathLike
from typing import Any

import torch
from torch import nn

from refine.backbones.build import random_weights
from refine.weights.checkpoint import load_strictly, read_checkpoint, submodule


def user_network(network: Any, weights: str | PathLike[str] | None, seed: int, name: str) -> nn.Module:
    """The network of the setting, with its weights loaded.

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
        model = network() if callable(network) and not isinstance(network, nn.Module) else network
        model = getattr(model, "_orig_mod", model)  # torch.compile's, in whose code no layer can be stood in for
        if not isinstance(model, nn.Module):
            raise ValueError(
                f"backbone '{name}': network made a {type(model).__name__}; expected a torch.nn.Module. "
                "Set backbone.network to {_target_: <package>.<its class or a function that builds it>}."
            )
        if isinstance(model, torch.jit.ScriptModule):
            raise ValueError(
                f"backbone '{name}': network is TorchScript, whose layers cannot be reached. Set backbone.network to "
                "the class it was made of, and backbone.weights to its file; archives of TorchScript are read as well."
            )
        return model

    def drawn() -> nn.Module:
        model = build()
        for module in model.modules():  # the network may have been made before its seed was set
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        return model

    if str(weights) == "random":
        return random_weights(drawn, seed, name)
    model = build()
    if weights is not None:
        checkpoint = read_checkpoint(weights)
        load_strictly(model, submodule(checkpoint, next(iter(model.state_dict()))), checkpoint.source)
    return model
