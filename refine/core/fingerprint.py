"""Settings of an object as plain values for JSON, by which finished results are recognized."""

import dataclasses
import functools
import hashlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def qualified_name(kind: Any) -> str:
    """Name of a class or function with its module: ``package.module.Name``."""
    return f"{kind.__module__}.{kind.__qualname__}"


def arguments(kind: type, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """What the parameters of a constructor are given, defaults included, as plain values; none if they do not fit.

    Args:
        kind: Class to be constructed.
        *args: Positional arguments of the constructor.
        **kwargs: Keyword arguments of the constructor.
    """
    signature = inspect.signature(functools.partial(kind.__init__, None))  # type: ignore[misc]
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:
        return {}
    bound.apply_defaults()
    values = dict(bound.arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            values |= values.pop(name)
    return {name: plain(value) for name, value in values.items()}


def plain(value: Any, enclosing: tuple[int, ...] = ()) -> Any:
    """A value as JSON holds it: the same for equal settings, in every process.

    Args:
        value: Number, text, container, tensor, network, function, class or any other object.
        enclosing: Identities of the objects around it, against circles.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if id(value) in enclosing:
        return "..."
    within = functools.partial(plain, enclosing=(*enclosing, id(value)))
    if isinstance(value, Mapping):
        return {str(key): within(child) for key, child in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [within(child) for child in value]
    if isinstance(value, Set):
        return sorted((within(child) for child in value), key=repr)
    if isinstance(value, functools.partial):
        return {"function": within(value.func), "args": within(value.args), "keywords": within(value.keywords)}
    if isinstance(value, nn.Module):  # its weights have a hash of their own
        return {"class": qualified_name(type(value)), "structure": _sha256(_without_addresses(repr(value)))}
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous()
        return [str(value.dtype), list(value.shape), _sha256(value.reshape(-1).view(torch.uint8).numpy().tobytes())]
    if isinstance(value, np.ndarray):
        return [str(value.dtype), list(value.shape), _sha256(value.tobytes())]
    return _object(value, within)


def _object(value: Any, within: Callable[[Any], Any]) -> Any:
    """Name of a class or function; attributes of a dataclass, and of what has no text of its own; text of all else."""
    if isinstance(value, type) or inspect.isfunction(value):
        return qualified_name(value)
    if dataclasses.is_dataclass(value):
        return {field.name: within(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if type(value).__repr__ is object.__repr__ and hasattr(value, "__dict__"):  # type: ignore[comparison-overlap]
        return {"class": qualified_name(type(value)), **within(vars(value))}
    return _without_addresses(repr(value))


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _sha256(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()
