"""What differs between two runs, in words: settings, code, weights, files."""

from collections.abc import Mapping
from typing import Any

NAMED = 3  # images whose files are named in one line
_SOURCE = ("source.", "backbone.source.")


def different_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Settings, code and weights that are not the same.

    Args:
        old: What :func:`refine.inference.fingerprint.pixel_settings` said of a run.
        new: What it says of another.

    Returns:
        Such as ``refiner.steps: 2 -> 3``, ``source of my_loss`` and ``content of the weights``, in order.
    """
    before, now = _flat(old), _flat(new)
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if "refine" in names:  # then its own code need not be told
        names = [name for name in names if not _module(name).startswith("refine.")]
    return list(dict.fromkeys(_told(name, before.get(name), now.get(name)) for name in sorted(names)))


def different_inputs(old: Mapping[str, Mapping[str, str]], new: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Files that are not the same.

    Args:
        old: :meth:`refine.data.pairs.ImageMaskPair.contents` by key, of a run.
        new: The same of another run.

    Returns:
        Such as ``the mask file of photo1``, and how many images more differ.
    """
    keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    further = [f"the files of {len(keys) - NAMED} more images"] if len(keys) > NAMED else []
    return [text for key in keys[:NAMED] for text in _inputs(key, old.get(key), new.get(key))] + further


def _inputs(key: str, old: Mapping[str, str] | None, new: Mapping[str, str] | None) -> list[str]:
    if old is None or new is None:
        return [f"{key} is {'new' if old is None else 'gone'}"]
    if "failure" in {**old, **new}:
        return [f"{key}, which {'cannot' if 'failure' in new else 'could not'} be read"]
    roles = [role for role in {**old, **new} if old.get(role) != new.get(role) and role != "key"]
    drawn = {"mask"} if "key" in old and "key" in new else set()  # then it is told what the mask is drawn from
    return [
        f"the mask of {key}: {old['mask']} -> {new['mask']}" if role in drawn else f"the {role} file of {key}"
        for role in roles
    ]


def _told(name: str, old: Any, new: Any) -> str:
    if module := _module(name):
        return f"source of {module}"
    if name == "refine":
        return f"version of refine: {old} -> {new}"
    return "content of the weights" if name == "backbone.weights" else f"{name}: {old} -> {new}"


def _module(name: str) -> str:
    """Module of a hash of code; empty for all other settings."""
    return next((name.removeprefix(prefix) for prefix in _SOURCE if name.startswith(prefix)), "")


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(settings, Mapping):
        return {prefix: settings}
    return {k: v for key, value in settings.items() for k, v in _flat(value, f"{prefix}.{key}".strip(".")).items()}
