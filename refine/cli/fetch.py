"""Get the official weights of a backbone.

    refine fetch big_lama
    refine fetch my_network.yaml cache=/data/weights

They are verified by their hash and kept in $XDG_CACHE_HOME/refine, else ~/.cache/refine, where the backbone finds them
by its name when backbone.weights is not given; those in another folder (cache=) are to be given. What has no known
address has to be fetched by hand: the command says which file, and where to put it. A download appears only when it is
complete; an interrupted one starts again from the beginning.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from refine.config import ConfigError, FetchConfig, names_in
from refine.config.verbosity import is_quiet
from refine.weights.download import FetchError, cache_path, fetch, hash_file, weights_state

UNKNOWN = "not known; ask the author before you use them"


def run(overrides: Sequence[str]) -> int:
    """Run the command.

    Args:
        overrides: Hydra's ``key=value``; the first may be only the name of a backbone.

    Returns:
        Exit status: 0 if the weights are there, 1 if they could not be fetched.

    Raises:
        ValueError: If the request makes no sense.
    """
    overrides = with_backbone(overrides)
    config = FetchConfig.compose(overrides)
    backbone = config.backbone
    card, name = backbone.get("card") or {}, str(backbone.get("name") or "")
    if not name or Path(name).name != name:
        raise ConfigError(f"backbone.name={name}: expected the name of a file, under which the weights are kept.")
    folder = Path(config.cache).expanduser() if config.cache is not None else None
    weights = weights_state(backbone, folder)
    url, sha256 = card.get("url"), card.get("sha256")
    if weights.state in ("none", "bundled", "given"):
        _say(f"backbone '{name}' has nothing to fetch; its weights: {weights}.")
        return 0
    _say(f"license of '{name}': {card.get('license') or UNKNOWN}")
    if weights.path is not None:
        return _already(Path(weights.path), sha256)
    target = cache_path(name, url, folder)
    if not url:
        _warn(_by_hand(name, card.get("manual"), target))
        return 1
    use = next(override for override in overrides if override.startswith("backbone="))
    return _fetched(url, sha256, target, use if folder is None else f"{use} backbone.weights={target}")


def with_backbone(overrides: Sequence[str]) -> list[str]:
    """Let the first argument be the name of a backbone.

    Args:
        overrides: Name or nothing, then Hydra's ``key=value``.

    Raises:
        ConfigError: If no backbone is named.
    """
    first = [f"backbone={name}" for name in overrides[:1] if "=" not in name]
    result = [*first, *overrides[len(first) :]]
    if not any(override.startswith("backbone=") for override in result):
        available = ", ".join(names_in("backbone", result))
        raise ConfigError(f"fetch needs a backbone, for example: refine fetch big_lama. There are: {available}.")
    return result


def _already(path: Path, sha256: str | None) -> int:
    if sha256 is not None and path.is_file() and (digest := hash_file(path)) != sha256.lower():
        _warn(f"{path} is there with sha256 {digest}; expected {sha256}. Move it away and run the command again.")
        return 1
    _say(f"already there: {path}")
    return 0


def _by_hand(name: str, manual: str | None, target: Path) -> str:
    which = manual or "its file of weights, from wherever its author offers it"
    return (
        f"the weights of '{name}' have no address that this program knows, so fetch them by hand: {which}.\n"
        f"Put the file at {target}.<its suffix: zip, pt, pth, ckpt, pkl or safetensors; a folder has none>, or give it "
        "as backbone.weights=<file>."
    )


def _fetched(url: str, sha256: str | None, target: Path, use: str) -> int:
    _say(f"fetching {url}")
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True, disable=is_quiet()) as bar:
            task = bar.add_task("")
            digest = fetch(url, sha256, target, lambda done, total: bar.update(task, completed=done, total=total))
    except FetchError as error:
        expected = f" (sha256 {sha256})" if sha256 else ""
        _warn(f"not fetched: {error}\nWithout a network here: get {url}{expected} elsewhere and put it at {target}.")
        return 1
    verified = "verified" if sha256 else "not verified, for card.sha256 is not known"
    (_say if sha256 else _warn)(f"{target}\nsha256 {digest}, {verified}")
    _say(f"use it: {use}")
    return 0


def _say(text: str) -> None:
    """Not with ``-q``."""
    if not is_quiet():
        _warn(text)


def _warn(text: str) -> None:
    """Without wrapping, so that paths can be copied; and nothing that would steer a terminal."""
    print(re.sub(r"[^\S\n ]|[\x00-\x09\x0b-\x1f\x7f]", " ", text.rstrip()))
