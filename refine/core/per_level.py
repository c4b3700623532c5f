"""Numbers that may differ from level to level, such as steps and learning rate."""

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

Number = TypeVar("Number", int, float)


def numbers(name: str, value: Any, kind: type[Number], expected: str, ok: Callable[[Any], bool]) -> tuple[Number, ...]:
    """One number or several, as a tuple.

    Args:
        name: Name of the setting, for the error message.
        value: Value of the setting, a number or a list of numbers.
        kind: Type of the numbers, ``int`` or ``float``.
        expected: Description of the allowed range, for the error message.
        ok: Function that tells whether a number is in the allowed range.

    Raises:
        ValueError: If it is neither a number in range nor a list of such.
    """
    values = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    for entry in values:
        number = isinstance(entry, int | float) and not isinstance(entry, bool) and entry == kind(entry)
        if not (number and ok(entry)):
            raise ValueError(f"{name} must be {expected}, or a list of such, one per refined level; got {value!r}.")
    if not values:
        raise ValueError(f"{name} must be {expected}, or a list of such; got an empty list.")
    return tuple(kind(entry) for entry in values)


def at_level(values: tuple[Number, ...], level: int) -> Number:
    """The number of a refined level, of which the first is level 1; the last number holds for all further levels."""
    return values[min(level, len(values)) - 1]


def positive(number: float) -> bool:
    """Whether it is finite and above 0."""
    return 0 < number < math.inf
