"""What the processes of one run tell each other: who does what, signs of life, how each of them ended.

They do so through torch's key-value store, and there is no collective operation anywhere: those wait for whoever is
missing, half an hour by default, and hang for good where one process caught a signal and the others did not. Rank 0
holds the store (under torchrun its agent does), assigns the work, does its own share, and then waits for the others
as long as they show signs of life. The others end themselves when rank 0 is gone, since nobody would report.
"""

import json
import logging
import math
import os
import signal
import socket
import threading
import time
import zlib
from base64 import b85decode, b85encode
from collections.abc import Callable, Sequence
from typing import Any

from torch.distributed import PrefixStore, Store, TCPStore

log = logging.getLogger("refine")

BEAT = 1.0  # s between signs of life
LOOK = 0.1  # s between looks at the store
FAREWELL = 10.0  # s that processes may take to end when told to
PIECE = 2**20  # bytes; the store refuses values above 8 MiB


class CoordinatorGone(ValueError):
    """Rank 0, and the store with it, is not there any more; it has said why."""


def open_store(
    address: str, port: int, serve: bool, timeout: float, orphaned: Callable[[], bool] = lambda: False
) -> Store:
    """Open the store of a run.

    Args:
        address: Host name or address of rank 0.
        port: It listens at.
        serve: This is rank 0, which holds the store.
        timeout: Seconds for rank 0 to come up.
        orphaned: Says whether rank 0 is known to be dead; optional.

    Raises:
        ValueError: If the port is not free, or nobody listens there.
    """
    agents = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # the agent's store outlives processes it restarts
    try:
        if not serve:
            _await(address, port, timeout, orphaned)
        store = TCPStore(address, port, is_master=serve and not agents, wait_for_workers=False)
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"the processes cannot meet at {address}:{port} ({reason}). Set MASTER_PORT to a free port, and "
            "MASTER_ADDR to the address of rank 0, in the environment of all of them."
        ) from None
    return PrefixStore(f"refine/{attempt}", store)


def _await(address: str, port: int, timeout: float, orphaned: Callable[[], bool]) -> None:
    """Wait until somebody listens there; torch's own waiting neither stops early nor is it quiet."""
    latest = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((address, port), timeout=5).close()
            return
        except OSError:
            if orphaned() or time.monotonic() > latest:
                raise
            time.sleep(LOOK)


class Coordinator:
    """One process among those that share a run.

    Args:
        store: Key-value store of this run alone.
        rank: Number of this process, from 0.
        size: Number of processes.
        patience: Seconds without a sign of life after which a process counts as dead.
        departed: Says whether a process is known to have ended, so that nobody waits for it; optional.

    Attributes:
        assignments: Rank 0: the share of each process.
        stopped_others: Rank 0: it told the others to stop.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        size: int,
        patience: float,
        departed: Callable[[int], bool] = lambda rank: False,
    ) -> None:
        self.rank, self.size = rank, size
        self._store, self._patience, self._departed = store, patience, departed
        self._over = threading.Event()
        self.assignments: Sequence[Any] = []
        self.stopped_others = False

    def assign(self, shares: Sequence[Any]) -> None:
        """Rank 0: give every process its share, plain values."""
        self.assignments = shares
        for rank, share in enumerate(shares):
            self._put(f"share {rank}", share)

    def assigned(self) -> Any:
        """What this process was assigned, once rank 0 got so far; from here on it shows signs of life.

        Raises:
            CoordinatorGone: If rank 0 is.
        """
        if self.rank:
            threading.Thread(target=self._beat, daemon=True, name="beat").start()
        try:
            while not self._store.check([f"share {self.rank}"]):
                time.sleep(LOOK)
            if self.rank and self._store.check(["halt"]):
                raise CoordinatorGone(f"process {self.rank} came too late: rank 0 was told to stop.")
            return self._take(f"share {self.rank}")
        except RuntimeError:
            raise CoordinatorGone("rank 0 ended before it assigned the work; see what it said.") from None

    def report(self, told: Any) -> None:
        """Another process: tell how it went, plain values; it may end then."""
        self._over.set()
        try:
            self._put(f"end {self.rank}", told)
        except RuntimeError:
            log.debug("rank 0 was gone at the end of process %d", self.rank)

    def stop_others(self) -> dict[int, Any]:
        """Rank 0: make the others end at the next opportunity, as SIGTERM would, and :meth:`gather_reports`."""
        if self.rank:
            return {}
        self.stopped_others = True
        self._store.set("halt", "")
        return self.gather_reports(FAREWELL)

    def gather_reports(self, longest: float = math.inf) -> dict[int, Any]:
        """Rank 0: wait for the ends of the others; nothing for another process.

        Args:
            longest: Seconds to wait, signs of life or not; then those that showed none so far are not waited for.

        Returns:
            What each process told at its end; of those that died nothing.
        """
        told: dict[int, Any] = {}
        start = time.monotonic()
        waiting = {rank: (-1, start) for rank in range(1, self.size) if not self.rank}
        while waiting:
            for rank, (beats, since) in list(waiting.items()):
                now = time.monotonic()
                dead = self._departed(rank) or now - since > self._patience or now - start > longest
                dead |= longest < math.inf and self._store.add(f"beats {rank}", 0) == 0
                if self._store.check([f"end {rank}"]):
                    told[rank] = self._take(f"end {rank}")
                if dead or rank in told:
                    del waiting[rank]
                elif (count := self._store.add(f"beats {rank}", 0)) != beats:
                    waiting[rank] = count, now
            time.sleep(LOOK if waiting else 0)
        return told

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            try:
                self._store.add(f"beats {self.rank}", 1)
                halted = self._store.check(["halt"])
            except RuntimeError:
                halted = not self._over.is_set()
                if halted:
                    log.error("rank 0 is gone; process %d stops", self.rank)
            if halted:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def _put(self, key: str, value: Any) -> None:
        data = b85encode(zlib.compress(json.dumps(value).encode(), 1)).decode()  # the store's values are text
        pieces = [data[start : start + PIECE] for start in range(0, len(data), PIECE)]
        for number, piece in enumerate(pieces):
            self._store.set(f"{key} {number}", piece)
        self._store.set(key, str(len(pieces)))  # last: who sees it finds the pieces

    def _take(self, key: str) -> Any:
        pieces = [self._store.get(f"{key} {number}") for number in range(int(self._store.get(key)))]
        return json.loads(zlib.decompress(b85decode(b"".join(pieces))))
