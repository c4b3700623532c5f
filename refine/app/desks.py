"""Who works on what: a desk per user, found by a token that nobody can guess, and the line in which photos wait."""

import queue
import re
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from refine.app.photos import Photo
from refine.app.work import Work

Part = Literal["photo", "work"]
_TOKEN = re.compile(r"[\w-]{43}", re.ASCII)  # 256 bits


class Desk:
    """What one user has before them. It outlives the page, which may be loaded again.

    Args:
        folder: Folder for what the browser fetches; nobody can guess its name.

    Attributes:
        photo: Photo, if there is one.
        mask: ``(H, W)`` bool of a mask file, True = hole, and the file's name.
        painting: ``(h, w)`` uint8 opacity of the brush's strokes at the latest run.
        work: Latest refinement.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.photo: Photo | None = None
        self.mask: tuple[np.ndarray, str] | None = None
        self.painting: np.ndarray | None = None
        self.work: Work | None = None
        self.seen = time.monotonic()
        self._placed: dict[tuple[str, bytes], Path] = {}
        folder.mkdir(mode=0o700, parents=True)
        self._fresh("photo", "work")

    def take(self, photo: Photo) -> None:
        """Begin with another photo; all of the one before is deleted.

        Args:
            photo: New photo.
        """
        self.stop()
        self.photo, self.mask, self.painting, self.work = photo, None, None, None
        self._fresh("photo", "work")

    def begin(self, work: Work) -> None:
        """Begin another work on the photo; what came out of the one before is deleted.

        Args:
            work: New work.
        """
        self.work = work
        self._fresh("work")

    def put(self, part: Part, name: str, data: bytes) -> Path:
        """A file that the browser may fetch, at an address that nobody can guess; the same file stays where it is.

        Args:
            part: Whether it goes with the photo or with the work.
            name: Name that the user sees, without folders.
            data: Bytes of the file.
        """
        file = self._placed.get((name, data))
        if file is None or not file.is_file():
            folder = self.folder / part / secrets.token_hex(16)
            folder.mkdir(mode=0o700)
            self._placed[name, data] = file = folder / Path(name).name
            file.write_bytes(data)
        return file

    def stop(self) -> None:
        """End the work, if there is any."""
        if self.work is not None:
            self.work.stop()

    @property
    def busy(self) -> bool:
        """Whether its work waits or runs."""
        return self.work is not None and not self.work.ended.is_set()

    def clear(self) -> None:
        """Delete all of it."""
        self.stop()
        self.photo = self.mask = self.painting = self.work = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _fresh(self, *parts: Part) -> None:
        for part in parts:
            folder = self.folder / part
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)


class Desks:
    """The desks of all users.

    Args:
        root: Folder of the desks' folders.
        most: Desks that are kept; the one idle longest makes room.
        keep: Seconds after which an idle desk is deleted.
    """

    def __init__(self, root: Path, most: int, keep: float) -> None:
        self.root, self.most, self.keep = root, most, keep
        self._desks: OrderedDict[str, Desk] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, token: str | None) -> tuple[str, Desk]:
        """The desk of a token, or a new one.

        Args:
            token: Token that the browser kept, also of a desk that was deleted meanwhile; or anything else.

        Returns:
            The token from now on, and the desk.
        """
        with self._lock:
            self._tidy()
            known = token if isinstance(token, str) and _TOKEN.fullmatch(token) else secrets.token_urlsafe(32)
            if known not in self._desks:
                self._desks[known] = Desk(self.root / secrets.token_hex(16))
            desk = self._desks[known]
            desk.seen = time.monotonic()
            self._desks.move_to_end(known)
            while len(self._desks) > self.most:
                idle = [other for other, found in self._desks.items() if not found.busy and found is not desk]
                self._desks.pop(next(iter(idle or self._desks))).clear()
            return known, desk

    def clear(self) -> None:
        """Delete all desks."""
        with self._lock:
            while self._desks:
                self._desks.popitem()[1].clear()

    def tidy(self) -> None:
        """Delete the desks that were idle for too long."""
        with self._lock:
            self._tidy()

    def _tidy(self) -> None:
        late = time.monotonic() - self.keep
        for token in [token for token, desk in self._desks.items() if desk.seen < late and not desk.busy]:
            self._desks.pop(token).clear()


class Line:
    """Works wait here for their turn; one thread does them, one after the other.

    Args:
        waiting: Works that may wait while one is done.
    """

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self._works: list[Work] = []  # the first is under work
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="refine app", daemon=True)
        self._thread.start()

    def join(self, make: Callable[[], Work], replaced: Work | None = None) -> Work:
        """Put a work at the end of the line.

        Args:
            make: Function that makes it, called if there is room.
            replaced: Work that the caller stops afterwards, whose place does not count; None for none.

        Raises:
            ValueError: If too many wait.
        """
        with self._lock:
            self._works = [work for work in self._works if not work.ended.is_set()]
            if sum(work is not replaced for work in self._works) > self.waiting:
                raise ValueError(f"As many photos wait already as may ({self.waiting}, waiting=); try again later.")
            self._works.append(work := make())
        self._queue.put(work)
        return work

    def place(self, work: Work) -> int:
        """How many works are before this one.

        Args:
            work: Work that is in the line, or was.
        """
        with self._lock:
            ahead = [other for other in self._works if not other.ended.is_set()]
            return ahead.index(work) if work in ahead else 0

    def close(self) -> None:
        """Stop all works and end the thread."""
        with self._lock:
            for work in self._works:
                work.stop()
        self._queue.put(None)
        self._thread.join(timeout=10)

    def _serve(self) -> None:
        while (work := self._queue.get()) is not None:
            work.run()
