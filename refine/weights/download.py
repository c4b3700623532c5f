"""Download of official weights to the cache, verified by hash, and where the weights of a backbone are.

The cache is ``$XDG_CACHE_HOME/refine``, else ``~/.cache/refine``. The weights of a backbone lie there under its name,
with one of :data:`SUFFIXES`: ``big_lama.zip``, ``migan.pt``, or the official folder ``big_lama``. A file downloaded by
hand belongs there too.
"""

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from ssl import SSLError
from typing import Any, Literal
from urllib.parse import urlsplit

from refine import __version__

SUFFIXES = ("", ".zip", ".safetensors", ".pt", ".pth", ".ckpt", ".pkl")
"""Suffixes of weights in the cache, in the order of search; the loaders go by content."""
SECONDS = 30  # the longest wait for the server to send anything
CHUNK = 2**20
OnBytes = Callable[[int, int | None], None]  # bytes received, and bytes in total if the server says


class FetchError(Exception):
    """Weights that could not be fetched, for a reason outside of this program."""


@dataclass(frozen=True)
class WeightsState:
    """Where the weights of a backbone are.

    Attributes:
        state: One of ``none`` (it has no weights), ``bundled`` with the package, ``given`` by its YAML, ``cached``,
            ``fetchable``, ``own`` (they come with the user's network), or ``needed`` from the user.
        path: File of the weights, if there is one.
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
        backbone: Section of the configuration.
        folder: Cache folder; None for the user's.
    """
    if "weights" not in backbone:
        return WeightsState("none")
    if (weights := backbone["weights"]) is not None:
        return WeightsState("bundled" if str(weights).startswith("bundled:") else "given", str(weights))
    if file := cached(str(backbone.get("name", "")), folder):
        return WeightsState("cached", str(file))
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
        name: Name of the backbone.
        folder: Cache folder; None for the user's.
    """
    if not name or Path(name).name != name:  # a name that cannot be a file's
        return None
    files = [(folder or cache_folder()) / f"{name}{suffix}" for suffix in SUFFIXES]
    return next((file for file in files if file.exists()), None)


def cache_path(name: str, url: str | None, folder: Path | None = None) -> Path:
    """Where the weights of a backbone belong.

    Args:
        name: Name of the backbone.
        url: Address of the file, whose suffix is kept.
        folder: Cache folder; None for the user's.
    """
    suffix = Path(urlsplit(url or "").path).suffix.lower()
    return (folder or cache_folder()) / f"{name}{suffix if suffix in SUFFIXES else ''}"


def fetch(url: str, sha256: str | None, target: Path, on_bytes: OnBytes = lambda received, total: None) -> str:
    """Download a file. It appears complete and verified, or not at all; a new attempt starts from the beginning.

    Args:
        url: Address of the file, http or https.
        sha256: Expected hash, in hex; None if unknown.
        target: File to write.
        on_bytes: Function to call with the progress.

    Returns:
        SHA-256 (hex) of the file.

    Raises:
        FetchError: If the server cannot be reached, refuses, breaks off, or sends another file.
        OSError: If the target cannot be written.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise FetchError(f"card.url={url}: expected an address that begins with https:// or http://.")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        _download(url, part, on_bytes)
        digest = hash_file(part)
        if sha256 is not None and digest != sha256.lower():
            raise FetchError(
                f"{url} gave a file with sha256 {digest}; expected {sha256}. It was removed. Run the command again; if "
                "this repeats, the file at that address has changed."
            )
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return digest


def hash_file(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(url: str, part: Path, on_bytes: OnBytes) -> None:
    """Write what the server sends; an answer shorter than the server said is an error."""
    received, total = 0, None
    try:
        request = urllib.request.Request(url, headers={"User-Agent": f"refine/{__version__}"})
        with urllib.request.urlopen(request, timeout=SECONDS) as response, part.open("wb") as file:
            length = response.headers.get("Content-Length")
            total = int(length) if length else None
            on_bytes(received, total)
            while chunk := response.read(CHUNK):
                received += file.write(chunk)
                on_bytes(received, total)
    except urllib.error.HTTPError as error:
        raise FetchError(f"{url} answers {error.code} {error.reason}.") from None
    except urllib.error.URLError as error:
        raise FetchError(f"{url} cannot be reached ({error.reason}).") from None
    except (HTTPException, ConnectionError, TimeoutError, SSLError) as error:  # of reading; errors of writing pass
        raise _incomplete(url, received, total, str(error) or type(error).__name__) from None
    if total is not None and received < total:
        raise _incomplete(url, received, total, "connection closed")


def _incomplete(url: str, received: int, total: int | None, reason: str) -> FetchError:
    of_total = f" of {total}" if total is not None else ""
    return FetchError(f"{url} broke off after {received}{of_total} bytes ({reason}). Run the same command again.")
