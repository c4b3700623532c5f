"""What to do where an image does not fit into the memory of its device."""

import contextlib
import copy
import gc
import itertools
import re
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from refine.core.choices import choice
from refine.core.refiner import Refiner
from refine.core.types import Refinement

# What torch and oneDNN say on CPUs; "could not create a primitive descriptor" is about kinds and shapes.
NO_MEMORY = re.compile(r"DefaultCPUAllocator|could not create a (primitive(?! descriptor)|memory object)")


class OutOfMemory(RuntimeError):
    """The image does not fit even with all that makes its refinement smaller and leaves the pixels as they are."""


def refine_in_memory(refiner: Refiner, *args: Any, **kwargs: Any) -> Refinement:
    """Refine an image; where its device runs out of memory, once more with less of it and the same pixels.

    Args:
        refiner: Refiner to call; it is not changed.
        *args: Image and mask, as for :meth:`refine.Refiner.__call__`.
        **kwargs: Its other arguments.

    Raises:
        OutOfMemory: If the least memory that gives the same pixels is still too much.
    """
    reason = ""
    for attempt, way in _attempts(refiner):
        if attempt:
            text = f"{kwargs.get('key') or 'image'}: {reason}; once more with {attempt}: the same pixels in more time."
            warnings.warn(text, stacklevel=2)
        try:
            return way(*args, **kwargs)
        except (RuntimeError, MemoryError) as error:  # its traceback holds tensors until this block ends
            if not _is_out_of_memory(error):
                raise
            reason = f"out of memory on {refiner.backbone.device}"
        release(refiner)
    height, width = args[0].shape[-2:]
    raise OutOfMemory(
        f"{width}x{height} px: {reason}, with {attempt or 'these settings'} too. With other pixels less is needed: "
        f"{_smaller(refiner)}; or set device=cpu."
    )


def _attempts(refiner: Refiner) -> Iterator[tuple[str, Refiner]]:
    """The refiner, if it has graphs a copy without, since what they keep nothing else can use, then what takes less."""
    yield "", refiner
    dropped = "refiner.graph=false" if refiner.graphed else ""
    if dropped:
        refiner = copy.copy(refiner)
        refiner.graph = False
        yield dropped, refiner
    for name, way in itertools.islice(exact_ways(refiner), 1, None):
        yield f"{dropped} {name}".strip(), way


def release(refiner: Refiner) -> None:
    """Give back the memory that a refiner and torch keep for the next image.

    Args:
        refiner: Refiner that has run out of memory; what it raised must be gone.
    """
    refiner.graphs.clear()
    gc.collect()
    if refiner.backbone.device.type == "cuda":
        with contextlib.suppress(RuntimeError):  # of some versions of torch, after a capture that failed
            torch.cuda.empty_cache()


def exact_ways(refiner: Refiner) -> Iterator[tuple[str, Refiner]]:
    """The refiner itself, then copies that give the same pixels with ever less memory, in more time.

    Args:
        refiner: Refiner as it is configured.

    Yields:
        The setting that a copy stands for, empty for the refiner itself; and the copy, its network shared.
    """
    yield "", refiner
    if refiner.compiled:
        return
    if refiner.frozen == "auto" and not refiner.rules:
        refiner = copy.copy(refiner)
        refiner.rules = True
        yield "refiner.frozen=true", refiner
    less, settings = copy.copy(refiner), []
    if any(refiner.steps) and not refiner.gradient_checkpointing:
        less.gradient_checkpointing = True
        settings.append("refiner.gradient_checkpointing=true")
        yield settings[0], less
    stripped = None if refiner.backbone.strips or refiner.precision != "32" else refiner.backbone.stripped()
    if stripped is not None:
        less = copy.copy(less)
        less.backbone = stripped
        yield " ".join([*settings, "backbone.strips=true"]), less


def fastest_way(refiner: Refiner) -> Refiner:
    """The refiner, or with ``refiner.frozen=auto`` a copy by ordinary autograd where that is faster, on a GPU.

    Args:
        refiner: Refiner on its device.
    """
    if refiner.frozen != "auto" or refiner.compiled or not choice(refiner.backbone.device).plain:
        return refiner
    plain = copy.copy(refiner)
    plain.rules = False
    return plain


def _smaller(refiner: Refiner) -> str:
    half = [] if refiner.precision != "32" else ["refiner.precision=bf16"]
    window = ["refiner.window=auto, or a number of px"] if refiner.windows is None else ["a smaller refiner.window"]
    return " or ".join(half + window)


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: torch has a type for that on GPUs, and sentences on CPUs, its own or oneDNN's."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or NO_MEMORY.search(str(error)) is not None
