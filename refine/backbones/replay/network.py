"""From the setting ``backbone.network`` to a network with weights."""

import copy
import warnings
from collections.abc import Iterator
from os import PathLike
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

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
        maker = callable(network) and not isinstance(network, nn.Module | ExportedProgram)
        model = network() if maker else network
        model = getattr(model, "_orig_mod", model)  # torch.compile's, in whose code no layer can be stood in for
        _check_layers(model, name)
        return cast(nn.Module, model)

    def drawn() -> nn.Module:
        model = build()
        for module in model.modules():  # the network may have been made before its seed was set
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        return model

    if str(weights) == "random":
        return random_weights(drawn, seed, name)
    model = build()
    if weights is None and looks_untrained(model):
        warnings.warn(
            f"backbone '{name}' has RANDOM weights: backbone.weights is not given, and those the network brings are as "
            "its layers draw them at the start: useless for filling images. Set backbone.weights=<file>, or "
            "backbone.weights=random if that is meant.",
            stacklevel=3,
        )
    if weights is not None:
        checkpoint = read_checkpoint(weights)
        load_strictly(model, submodule(checkpoint, next(iter(model.state_dict()))), checkpoint.source)
    return model


def _check_layers(model: Any, name: str) -> None:
    """Refuse what is no network, or one whose layers are not called."""
    kind = type(model)
    if isinstance(model, ExportedProgram) or any(base.__module__ == "torch.export._unlift" for base in kind.__mro__):
        raise ValueError(
            f"backbone '{name}': network is a program of torch.export ({kind.__name__}), a graph in which no layer is "
            "called. Set backbone.network to the class it was exported from, and backbone.weights to a file of its "
            "state_dict; or let it make torch.export.unflatten(program), exported with dynamic height and width."
        )
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"backbone '{name}': network made a {kind.__name__}; expected a torch.nn.Module. "
            "Set backbone.network to {_target_: <package>.<its class or a function that builds it>}."
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError(
            f"backbone '{name}': network is TorchScript, whose layers cannot be reached. Set backbone.network to "
            "the class it was made of, and backbone.weights to its file; archives of TorchScript are read as well."
        )


SPREAD = 100  # numbers of a tensor from which on its spread tells something


def looks_untrained(network: nn.Module) -> bool:
    """Whether the weights are as layers draw them at the start, which training hardly leaves so.

    What starts constant (weights and statistics of norms) must still be that, to the bit; where nothing does, all else
    must have the spread and the largest value of a new draw.

    Args:
        network: Network with weights of its own; it is not modified.
    """
    constants, spreads = [], []
    for old, new in _redrawn(network):
        if bool((new == new.flatten()[0]).all()):
            constants.append(torch.equal(old, new))
            if not constants[-1]:
                return False
        elif old.numel() >= SPREAD:
            kept = 0.8 < (old.std() / new.std()).item() < 1.25
            spreads.append(kept and old.abs().max().item() < 1.05 * new.abs().max().item())
    return bool(constants) or (bool(spreads) and all(spreads))


def _redrawn(network: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Tensors of all layers that can draw their weights anew, each with such a new draw."""
    for module in network.modules():
        if not callable(getattr(module, "reset_parameters", None)):
            continue
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            fresh: Any = copy.deepcopy(module)
            try:
                fresh.reset_parameters()
            except Exception:  # somebody's own, which wants arguments
                continue
        for name, old in module.state_dict().items():
            if old.is_floating_point() and old.numel():
                yield old, fresh.state_dict()[name]
