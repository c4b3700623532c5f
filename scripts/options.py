"""Options of the scripts, given as ``key=value`` on the command line."""

from collections.abc import Mapping, Sequence
from typing import Any


def read(
    options: Mapping[str, Any], arguments: Sequence[str], needed: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Set options from the command line.

    Args:
        options: Default of every option, by name.
        arguments: Command line, ``key=value`` each; values stay text.
        needed: Description of every option that must not be empty, by name.

    Raises:
        SystemExit: For an option that does not exist, or one that is missing.
    """
    settings = dict(options)
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in settings:
            raise SystemExit(f"no option '{key}'; there are: {', '.join(settings)}.")
        settings[key] = value
    for key, what in (needed or {}).items():
        if not settings[key]:
            raise SystemExit(f"{key}= is needed: {what}.")
    return settings
