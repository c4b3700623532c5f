"""What suits each kind of device, in one table."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch

Keep = Literal["best", "last"]


@dataclass(frozen=True)
class Choice:
    """What a kind of device is given.

    Attributes:
        graph: Whether updates are CUDA graphs. On a CPU a kernel takes longer than the Python that starts it.
        together: Whether images of one size are refined as one batch. On a CPU one image keeps the cores busy, and the
            sums of a convolution follow the size of the batch: the bytes would too.
        late: Number of updates by which the loss is read late. A GPU would wait for the host at each reading.
        plain: Whether ordinary autograd is the faster way where memory allows it. On a CPU the rules are: what they do
            not keep need not be written. On one H200 autograd took 0.54 of their time, both without graphs.
    """

    graph: bool
    together: bool
    late: int
    plain: bool


CHOICES = {
    "cpu": Choice(graph=False, together=False, late=0, plain=False),
    "cuda": Choice(graph=True, together=True, late=2, plain=True),
    "mps": Choice(graph=False, together=False, late=0, plain=False),  # nothing was measured there
}


def choice(device: torch.device) -> Choice:
    """What suits a device.

    Args:
        device: Torch device; one of an unknown kind is treated as a CPU.
    """
    return CHOICES.get(device.type, CHOICES["cpu"])


def checked_auto(name: str, value: object) -> bool | str:
    """A setting that is true, false or ``auto``.

    Args:
        name: Name of the setting, for the error message.
        value: Value of the setting.

    Raises:
        ValueError: If it is another value.
    """
    if isinstance(value, bool) or value == "auto":
        return value
    raise ValueError(f"{name} must be auto, true or false; got {value!r}.")


def check_graph(graph: bool | str, device: torch.device) -> None:
    """Refuse ``refiner.graph=true`` where there are no such graphs.

    Args:
        graph: Value of the setting.
        device: Torch device of the network.

    Raises:
        ValueError: If graphs are asked for, and the device is not CUDA.
    """
    if graph is True and device.type != "cuda":
        raise ValueError(f"refiner.graph=true needs device=cuda; got {device}. Set refiner.graph=auto or false.")


def checked_keep(keep: Keep) -> Keep:
    """The setting ``refiner.keep``.

    Args:
        keep: Setting as the user wrote it.

    Raises:
        ValueError: If it is neither ``best`` nor ``last``.
    """
    if keep not in get_args(Keep):
        raise ValueError(f"refiner.keep must be 'best' or 'last'; got {keep!r}.")
    return keep


def check_compile(compile: bool, gradient_checkpointing: bool, precision: str) -> None:
    """Refuse what does not go with ``refiner.compile=true``.

    Args:
        compile: Value of the setting itself.
        gradient_checkpointing: Value of the setting.
        precision: Name of the precision.

    Raises:
        ValueError: If it is asked for too.
    """
    if compile and (gradient_checkpointing or precision != "32"):
        raise ValueError(
            "refiner.compile=true excludes refiner.gradient_checkpointing=true and a refiner.precision other than "
            f"32; got gradient_checkpointing={gradient_checkpointing}, precision={precision}."
        )
