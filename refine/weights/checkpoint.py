"""Reading checkpoints: the file of weights in a folder or zip, its configuration, and loading into a network."""

import functools
import hashlib
import io
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from refine.weights.unpickle import ZIP, Problem, pickle_in, read_state

_EXPECTED = (
    "Expected a torch checkpoint (.pt .pth .ckpt .pkl), a TorchScript archive, .safetensors, or the official folder or "
    "zip (config.yaml and models/best.ckpt)."
)

_PROGRAMS = ("/models/model.json", "serialized_exported_program.json")  # ends of entries of torch.export's files


class UnusableWeights(ValueError):
    """A file of weights that cannot be used, for a reason its user can do something about."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights and configuration, read from a file.

    Attributes:
        state: Tensors by dotted name, on the CPU and contiguous; no two share memory.
        config: The ``generator`` section of the ``config.yaml`` beside the weights; ``{}`` if there is none.
        source: Path of the file, for messages.
    """

    state: dict[str, Tensor]
    config: Mapping[str, Any]
    source: str


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read weights in any of the usual containers; the content decides which it is, not the suffix.

    Args:
        path: Path of the official folder or its zip, a state dict, a Lightning checkpoint, a TorchScript archive, or
            a ``.safetensors`` file.

    Raises:
        UnusableWeights: If there is no such file, or it is damaged, or holds no weights.
    """
    file = _located(path)
    with _named_errors(file):
        if file.is_dir():
            return _read_weights(_official_weights(file))
        if not file.is_file():
            raise Problem("does not exist" if not file.exists() else "is not a regular file")
        with file.open("rb") as stream:
            if not stream.read(4).startswith(ZIP):
                return _read_weights(file)
        with zipfile.ZipFile(file) as archive:
            if any(entry.endswith(_PROGRAMS) for entry in archive.namelist()):
                raise Problem(
                    "is a program of torch.export: save its weights alone, "
                    f"torch.save(torch.export.load({file.name!r}).state_dict, 'weights.pt')"
                )
            inside = zipfile.Path(archive)
            return _read_weights(file if pickle_in(archive) else _official_weights(inside))


def _located(path: str | os.PathLike[str]) -> Path:
    """Absolute path of a file of weights; ``bundled:<name>`` is one that comes with the package."""
    if str(path).startswith("bundled:"):
        return Path(__file__).resolve().parent / "bundled" / str(path).removeprefix("bundled:")
    return Path(path).expanduser().absolute()


def submodule(checkpoint: Checkpoint, *markers: str) -> dict[str, Tensor]:
    """The weights of one network inside a checkpoint, its prefix stripped.

    Args:
        checkpoint: Checkpoint, which may also hold discriminators, losses, averages.
        markers: Names of tensors, one of which the network is sure to have, such as ``model.1.ffc.convl2l.weight``;
            the first that occurs is used.

    Returns:
        All tensors below the prefix in front of the marker. Of several prefixes exactly ``generator.`` is taken, else
        the shortest.

    Raises:
        UnusableWeights: If no marker occurs, or two prefixes are equally good.
    """
    for marker in markers:
        prefixes = [name.removesuffix(marker) for name in checkpoint.state if f".{name}".endswith(f".{marker}")]
        prefixes.sort(key=lambda prefix: (prefix != "generator.", len(prefix)))
        if len(prefixes) > 1 and "generator." not in prefixes and len(prefixes[0]) == len(prefixes[1]):
            raise UnusableWeights(
                f"{checkpoint.source} holds several networks with {marker!r}, below: {', '.join(prefixes)}. "
                "Save the one to use in a file of its own."
            )
        if prefixes:
            cut = len(prefixes[0])
            return {name[cut:]: value for name, value in checkpoint.state.items() if name.startswith(prefixes[0])}
    raise UnusableWeights(
        f"{checkpoint.source} holds other weights than these: expected a tensor named {' or '.join(markers)}, possibly "
        f"behind a prefix; got {_some(checkpoint.state)}. Choose the backbone these weights were trained for."
    )


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy a state dict into a module, which must have exactly these tensors; values take the module's dtype.

    Counters ``num_batches_tracked``, which old files lack, may be missing.

    Raises:
        UnusableWeights: If names or shapes differ; says which.
    """
    expected = module.state_dict()
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in expected]
    shapes = [(name, tuple(state[name].shape), tuple(expected[name].shape)) for name in expected if name in state]
    misshaped = [f"{name} (got {shape}, expected {right})" for name, shape, right in shapes if shape != right]
    differences = {"missing": missing, "unexpected": unexpected, "mis-shaped": misshaped}
    if any(differences.values()):
        raise UnusableWeights(
            f"{source} does not fit {type(module).__name__}:\n"
            + "".join(f"  {len(names)} {kind}: {_some(names)}\n" for kind, names in differences.items() if names)
            + "Use weights of this architecture, or a configuration that describes them."
        )
    module.load_state_dict(dict(state), strict=False)


def hash_state(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over the sorted names, dtypes, shapes and bytes: the same in every container."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(repr((name, str(value.dtype), tuple(value.shape))).encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _some(names: Mapping[str, Any] | list[str]) -> str:
    """The first five names, and how many more there are."""
    rest = len(names) - 5
    return ", ".join(list(names)[:5]) + (f" and {rest} more" if rest > 0 else "")


@contextmanager
def _named_errors(source: object) -> Iterator[None]:
    """Turn whatever a hostile or broken file provokes into the one exception, with the file's name."""
    try:
        yield
    except UnusableWeights:
        raise
    except Problem as problem:
        raise UnusableWeights(f"{source} {problem}. {_EXPECTED}") from None
    except Exception as error:  # parsers fail on damaged bytes in every way there is
        reason = f"{type(error).__name__}: {error}".strip(": ")
        raise UnusableWeights(f"{source} is truncated or damaged ({reason}). Download it again. {_EXPECTED}") from error


# --- which file, and the configuration beside it ----------------------------------------------------------------------

_Place = Path | zipfile.Path


def _official_weights(root: _Place) -> _Place:
    """The checkpoint in an official folder, which may be wrapped in one other folder, as in the official zip."""
    wrapped = [child for child in root.iterdir() if child.is_dir() and child.name != "__MACOSX"]
    folders = [folder for folder in (root, *wrapped) if (folder / "models").is_dir()]
    if not folders:
        raise Problem("holds no checkpoint: models/best.ckpt is missing")
    if folders[0] is not root and len(folders) > 1:
        raise Problem(f"holds several models ({', '.join(sorted(f.name for f in folders))}): name one of them")
    return _best(folders[0] / "models")


def _best(models: _Place) -> _Place:
    """``best.ckpt``, or the only other checkpoint there is."""
    files = {file.name: file for file in models.iterdir() if file.name.endswith(".ckpt") and file.name[0] != "."}
    if "best.ckpt" not in files and len(files) != 1:
        hint = f"; name one of {', '.join(sorted(files))}" if files else ""
        raise Problem(f"holds no checkpoint: models/best.ckpt is missing{hint}")
    return files["best.ckpt"] if "best.ckpt" in files else next(iter(files.values()))


def _read_weights(place: _Place) -> Checkpoint:
    """Read one file of weights, in a folder or in a zip."""
    with _named_errors(place):
        with place.open("rb") if isinstance(place, Path) else io.BytesIO(place.read_bytes()) as stream:
            state = read_state(cast(BinaryIO, stream))
        if not state:
            raise Problem("holds no named tensors")
    folder = cast(_Place, place.parent)
    files = [folder / "config.yaml"]
    if folder.name == "models":
        files.append(cast(_Place, folder.parent) / "config.yaml")
    return Checkpoint(state, next((_read_config(file) for file in files if file.is_file()), {}), str(place))


def _read_config(file: _Place) -> dict[str, Any]:
    """The ``generator`` section. Resolvers are left alone: some are registered to evaluate code."""
    with _named_errors(file):
        config = OmegaConf.to_container(OmegaConf.create(file.read_text(encoding="utf-8")), resolve=False)
        section = config.get("generator") if isinstance(config, dict) else None
        return cast(dict[str, Any], _resolve(section, section)) if isinstance(section, dict) else {}


def _resolve(value: Any, section: dict[Any, Any]) -> Any:
    """Replace ``${generator.a.b}`` by what it points to; whatever leads nowhere, or in a circle, is left as it is."""
    for _ in range(10):  # chains are short
        reference = re.fullmatch(r"\$\{generator\.([\w.]+)\}", value) if isinstance(value, str) else None
        target = functools.reduce(_entry, reference[1].split("."), section) if reference else None
        value = value if target is None else target
    if isinstance(value, dict):
        return {key: _resolve(child, section) for key, child in value.items()}
    return [_resolve(child, section) for child in value] if isinstance(value, list) else value


def _entry(node: Any, key: str) -> Any:
    return node.get(key) if isinstance(node, dict) else None
