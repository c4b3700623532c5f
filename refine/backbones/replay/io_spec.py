"""How image and mask enter a network, and how its prediction leaves it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from refine.core.types import Level

INPUTS = ("image", "hole", "known", "ones")
Inputs = Sequence[Any] | Mapping[str, Any]
_SET_OUTPUT = "Set backbone.output to the index or key of the prediction (B,3,H,W)."


class IOSpec:
    """A network's arguments and its answer, in its own ranges. For the arguments see :class:`Replay`.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        inputs: Inputs | None,
        concatenate: bool,
        image_range: Sequence[float],
        mask_range: Sequence[float],
        fill: float | None,
        output: str | int | Sequence[str | int] | None,
        output_range: Sequence[float],
    ) -> None:
        self.inputs = _checked_inputs(("image", "hole") if inputs is None else inputs)
        self.concatenate, self.fill = concatenate, fill
        self.image_range = _checked_range("image_range", image_range)
        self.mask_range = _checked_range("mask_range", mask_range)
        self.output_range = _checked_range("output_range", output_range)
        self.output = [] if output is None else [output] if isinstance(output, str | int) else list(output)

    def arguments(self, level: Level) -> tuple[list[Any], dict[str, Any]]:
        """What the network is called with, in tensors of its own: positional and keyword arguments.

        Args:
            level: Level padded to a size that the network takes.
        """
        image = _to_range(level.image, self.image_range)
        if self.fill is not None:
            image = torch.where(level.mask > 0, image.new_full((), self.fill), image)
        tensors = {
            "image": image.clone(),  # a network may work in place
            "hole": _to_range(level.mask.clone(), self.mask_range),
            "known": _to_range(1 - level.mask, self.mask_range),
            "ones": torch.ones_like(level.mask),
        }
        if isinstance(self.inputs, Mapping):
            return [], {key: _argument(value, tensors) for key, value in self.inputs.items()}
        inputs = list(self.inputs)
        if self.concatenate and (names := [value for value in inputs if isinstance(value, str)]):
            inputs = [names, *(value for value in inputs if not isinstance(value, str))]
        return [_argument(value, tensors) for value in inputs], {}

    def described(self, level: Level) -> str:
        """The arguments in words, for messages.

        Args:
            level: Level padded to a size that the network takes.
        """
        args, kwargs = self.arguments(level)
        texts = [_in_words(value) for value in args]
        return ", ".join([*texts, *(f"{name}={_in_words(value)}" for name, value in kwargs.items())])

    def prediction(self, output: Any) -> Tensor:
        """The prediction on the nominal scale.

        Args:
            output: What the network returned.

        Raises:
            ValueError: If the prediction is not in it.
        """
        try:
            for key in self.output:
                output = output[key] if not isinstance(output, Tensor) else output[int(key)]
        except (LookupError, TypeError, ValueError):
            raise ValueError(f"{self._expectation()}: {_description(output)} without {key!r}. {_SET_OUTPUT}") from None
        if not (isinstance(output, Tensor) and output.ndim == 4 and output.shape[1] == 3):
            raise ValueError(f"{self._expectation()}: {_description(output)}. {_SET_OUTPUT}")
        low, high = self.output_range
        return output if (low, high) == (0, 1) else (output - low) / (high - low)

    def _expectation(self) -> str:
        return f"backbone.output={self.output or 'null'} is to be the prediction in what the network returns"


def _description(output: Any) -> str:
    kind = f"a {type(output).__name__}"
    if isinstance(output, Tensor):
        return f"{kind} of shape {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"{kind} of {', '.join(map(repr, output))}"
    return f"{kind} of {len(output)}" if isinstance(output, Sequence) else kind


def _checked_inputs(inputs: Inputs) -> Inputs:
    values = list(inputs.values() if isinstance(inputs, Mapping) else inputs)
    if not all(map(_is_input, values)) or not any(isinstance(leaf, str) for leaf in tree_leaves(values)):
        raise ValueError(
            f"backbone.inputs={inputs}: expected some of {', '.join(INPUTS)}, in the network's order; a list of such "
            "is one tensor. Constants are numbers, true, false, null, and lists of numbers, which become tensors."
        )
    return inputs


def _is_input(value: Any) -> bool:
    """Whether it is a name, some names of one tensor, or a constant."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return value in INPUTS if isinstance(value, str) else value is None or isinstance(value, bool | int | float)
    leaves = tree_leaves(list(value))
    if all(isinstance(leaf, str) for leaf in leaves):
        return bool(leaves) and all(name in INPUTS for name in value)
    return all(isinstance(leaf, bool | int | float) for leaf in leaves)


def _argument(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """An argument of the network: a named tensor, several in one, or a constant."""
    if isinstance(value, str):
        return tensors[value]
    if not isinstance(value, Sequence):
        return value
    if isinstance(value[0], str):
        return torch.cat([tensors[name] for name in value], dim=1)
    constant = torch.tensor(value, device=tensors["image"].device)
    return constant.to(tensors["image"].dtype) if constant.is_floating_point() else constant


def _in_words(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"(B,{value.shape[1]},H,W)" if value.ndim == 4 else f"a tensor {value.tolist()}"
    return repr(value)


def _checked_range(name: str, values: Sequence[float]) -> tuple[float, float]:
    if not isinstance(values, Sequence) or len(values) != 2 or not values[0] < values[1]:
        raise ValueError(f"backbone.{name}={values}: expected two numbers, the lower one first, such as [-1, 1].")
    return values[0], values[1]


def _to_range(unit: Tensor, bounds: tuple[float, float]) -> Tensor:
    low, high = bounds
    return unit if bounds == (0, 1) else unit * (high - low) + low
