"""What processes of an agent do in tests; a module of its own, so that they import little."""

import os
from collections.abc import Sequence


def rank_one_raises(_: Sequence[str]) -> int:
    """Raises in the second process, returns 0 in the first."""
    if os.environ["RANK"] == "1":
        raise MemoryError("a fault of ours")
    return 0


def rank_one_returns_two(_: Sequence[str]) -> int:
    """Returns 2 in the second process, 0 in the first; a restart would raise."""
    return {"0": 0, "1": 2}[os.environ["RANK"]] if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" else 1 // 0
