"""``key=value`` arguments of the scripts."""

from collections.abc import Mapping, Sequence
from typing import Any


def read(
    options: Mapping[str, Any], arguments: Sequence[str], needed: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The options with what the command line says.

    Args:
        options: Every option there is, with its default.
        arguments: ``key=value`` each; values stay text.
        needed: Options that must not be empty, and what they are.

    Raises:
        SystemExit: For an option that does not exist, or one that is missing.
    """
    found = dict(options)
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in found:
            raise SystemExit(f"no option '{key}'; there are: {', '.join(found)}.")
        found[key] = value
    for key, what in (needed or {}).items():
        if not found[key]:
            raise SystemExit(f"{key}= is needed: {what}.")
    return found
