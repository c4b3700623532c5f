"""Tensors within what a layer may return: tuples, lists, mappings and dataclasses, nested at will."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

Tensors = dict[str, Tensor]


def named_tensors(value: Any, name: str = "") -> Tensors:
    """The tensors in a value by dotted name: ``name`` itself for a tensor, ``name.0``, ``name.key`` ... within.

    Args:
        value: What a layer took or returned.
        name: Name of the value.
    """
    if isinstance(value, Tensor):
        return {name: value}
    tensors: Tensors = {}
    for key, child in _children(value):
        tensors |= named_tensors(child, f"{name}.{key}" if name else str(key))
    return tensors


def mapped(value: Any, change: Callable[[str, Tensor], Tensor], name: str = "") -> Any:
    """The value again with its tensors changed; tensors that were one object stay one.

    Args:
        value: What a layer returned; it is not modified, though parts other than tensors may be shared.
        change: From name and tensor to the new tensor.
        name: Name of the value.
    """
    return _mapped(value, change, name, {})


def cloned(value: Any) -> Any:
    """The value with tensors of its own, detached."""
    return mapped(value, lambda _, tensor: tensor.detach().clone())


def _children(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from zip(value._fields, value, strict=True)
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))


def _mapped(value: Any, change: Callable[[str, Tensor], Tensor], name: str, changed: dict[int, Tensor]) -> Any:
    if isinstance(value, Tensor):
        if id(value) not in changed:
            changed[id(value)] = change(name, value)
        return changed[id(value)]
    children = {key: _mapped(child, change, f"{name}.{key}" if name else str(key), changed)
                for key, child in _children(value)}  # fmt: skip
    if not children:
        return value
    if isinstance(value, tuple):
        return type(value)(*children.values()) if hasattr(value, "_fields") else type(value)(children.values())
    if isinstance(value, list):
        return type(value)(children.values())
    copied = copy.copy(value)
    for key, child in children.items():
        if isinstance(copied, Mapping):
            copied[key] = child  # type: ignore[index]
        else:
            object.__setattr__(copied, key, child)
    return copied
