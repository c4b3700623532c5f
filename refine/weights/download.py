"""Official weights -> a file in the user's cache, by url and hash; and where the loaders look for such a file.

The cache is ``$XDG_CACHE_HOME/refine``, else ``~/.cache/refine``. The weights of a backbone lie there under its name,
with one of :data:`SUFFIXES`: ``big_lama.zip``, ``migan.pt``, or the official folder ``big_lama``. Whoever gets a file
by hand puts it there.
"""

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import urlsplit

from refine import __version__

SUFFIXES = ("", ".zip", ".safetensors", ".pt", ".pth", ".ckpt")
"""Of files in the cache, the first that is there counts; the loaders go by content."""
SECONDS = 30  # without a byte from the server
CHUNK = 2**20
OnBytes = Callable[[int, int | None], None]  # bytes there so far, and in all if the server says


class FetchError(Exception):
    """Weights that could not be fetched, for a reason outside of this program."""


@dataclass(frozen=True)
class WeightsState:
    """Where the weights of a backbone are.

    Attributes:
        state: ``none`` if it has none, ``bundled`` with the package, ``given`` by its YAML, ``cached``, ``fetchable``,
            its ``own`` that come with a network of the user's, or ``needed`` from the user.
        path: The file, if there is one.
    """

    state: Literal["none", "bundled", "given", "cached", "fetchable", "own", "needed"]
    path: str | None = None

    def __str__(self) -> str:
        words = {
            "none": "none needed",
            "bundled": "bundled",
            "given": f"at {self.path}",
            "cached": f"cached at {self.path}",
            "fetchable": "fetchable: refine fetch",
            "own": "the network's own, or backbone.weights=<file>",
            "needed": "needs backbone.weights=<file>",
        }
        return words[self.state]


def weights_state(backbone: Mapping[str, Any], folder: Path | None = None) -> WeightsState:
    """Where the weights of a backbone are.

    Args:
        backbone: Its section of the configuration.
        folder: The cache; None for the user's.
    """
    if "weights" not in backbone:
        return WeightsState("none")
    if (given := backbone["weights"]) is not None:
        return WeightsState("bundled" if str(given).startswith("bundled:") else "given", str(given))
    if found := cached(str(backbone.get("name", "")), folder):
        return WeightsState("cached", str(found))
    if (backbone.get("card") or {}).get("url"):
        return WeightsState("fetchable")
    return WeightsState("own" if "network" in backbone else "needed")


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/refine``, else ``~/.cache/refine``."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))  # to be ignored unless absolute
    return (base if base.is_absolute() else Path(os.path.expanduser("~/.cache"))) / "refine"


def cached(name: str, folder: Path | None = None) -> Path | None:
    """The weights of a backbone in the cache, if they are there.

    Args:
        name: Of the backbone.
        folder: The cache; None for the user's.
    """
    if not name or Path(name).name != name:  # a name of the user's that is no file's
        return None
    files = [(folder or cache_folder()) / f"{name}{suffix}" for suffix in SUFFIXES]
    return next((file for file in files if file.exists()), None)


def cache_path(name: str, url: str | None, folder: Path | None = None) -> Path:
    """Where the weights of a backbone belong.

    Args:
        name: Of the backbone.
        url: Of the file, whose suffix is taken over.
        folder: The cache; None for the user's.
    """
    suffix = Path(urlsplit(url or "").path).suffix.lower()
    return (folder or cache_folder()) / f"{name}{suffix if suffix in SUFFIXES else ''}"


def fetch(url: str, sha256: str | None, target: Path, on_bytes: OnBytes = lambda done, total: None) -> str:
    """Download a file. It appears complete and verified, or not at all.

    An interrupted download lies beside the target as ``<target>.part`` and is continued, provided that a hash tells in
    the end whether the parts belong together.

    Args:
        url: Of the file, http or https.
        sha256: Expected, in hex; None if unknown.
        target: Where it belongs.
        on_bytes: Told of the progress.

    Returns:
        The SHA-256 of the file.

    Raises:
        FetchError: If the server cannot be reached, refuses, breaks off, or sends another file.
        OSError: If the target cannot be written.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise FetchError(f"card.url={url}: expected an address that begins with https:// or http://.")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with _opened(part) as file:
        if sha256 is None:
            file.truncate(0)
        _download(url, file, on_bytes)
        found = hash_file(part)
        if sha256 is not None and found != sha256.lower():
            part.unlink()
            raise FetchError(
                f"{url} gave a file with sha256 {found}; expected {sha256}. It was removed. Run the command again; if "
                "this repeats, the file at that address has changed."
            )
        os.replace(part, target)
    return found


def hash_file(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _opened(part: Path) -> Iterator[IO[bytes]]:
    """The incomplete file, for this process alone; an empty one does not stay."""
    with part.open("ab") as file:
        _lock(file, part)
        try:
            yield file
        finally:
            if part.exists() and not part.stat().st_size:
                part.unlink()


def _lock(file: IO[bytes], part: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not on this system
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FetchError(f"another process is fetching {part}; wait for it, or stop it.") from None
    except OSError:  # a file system without locks
        return


def _download(url: str, file: IO[bytes], on_bytes: OnBytes) -> None:
    """Append what is missing of the file."""
    done = file.seek(0, os.SEEK_END)
    total = None
    try:
        headers = {"User-Agent": f"refine/{__version__}", "Accept-Encoding": "identity"}
        request = urllib.request.Request(url, headers=headers | ({"Range": f"bytes={done}-"} if done else {}))
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            if response.status != 206:  # the whole file, whatever was asked for
                done = file.truncate(0)
            length = response.headers.get("Content-Length")
            total = done + int(length) if length else None
            on_bytes(done, total)
            for chunk in _chunks(response):
                done += file.write(chunk)
                on_bytes(done, total)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # nothing is missing; the hash decides
            return
        raise FetchError(f"{url} answers {error.code} {error.reason}.") from None
    except urllib.error.URLError as error:
        raise FetchError(f"{url} cannot be reached ({error.reason}).") from None
    except _BrokenOff as error:
        raise _broken_off(url, done, total, str(error)) from None
    finally:
        file.flush()
        os.fsync(file.fileno())
    if total is not None and done < total:
        raise _broken_off(url, done, total, "connection closed")


class _BrokenOff(Exception):
    """Reading from the server failed; writing may fail likewise, and is another matter."""


def _chunks(response: Any) -> Iterator[bytes]:
    try:
        while chunk := response.read(CHUNK):
            yield chunk
    except (OSError, HTTPException) as error:
        raise _BrokenOff(str(error) or type(error).__name__) from None


def _broken_off(url: str, done: int, total: int | None, reason: str) -> FetchError:
    of = f" of {total}" if total is not None else ""
    return FetchError(f"{url} broke off after {done}{of} bytes ({reason}). Run the same command again; it continues.")
