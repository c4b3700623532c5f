"""Checkpoints <-> state dicts: official folders, zip, TorchScript, safetensors; never runs foreign code.

A pickle is a program. Here it runs on a machine that can do nothing: *every* global it names, torch's own included,
becomes a `_StandIn`, which records what it is given and calls nothing. Only afterwards `_flatten` looks through the
record for what torch would have made tensors of, and `_build` makes those from bytes it has checked to be there.
"""

import functools
import hashlib
import io
import math
import os
import pickle
import re
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, cast

import safetensors.torch
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

_EXPECTED = (
    "Expected a torch checkpoint (.pt .pth .ckpt), a TorchScript archive, .safetensors, or the official folder or zip "
    "(config.yaml and models/best.ckpt)."
)


class UnusableWeights(ValueError):
    """A file of weights that cannot be used, for a reason its user can do something about."""


class _Problem(Exception):
    """A finding without the file's name yet; `_blaming` adds it."""


@dataclass(frozen=True)
class Checkpoint:
    """What a file of weights holds.

    Attributes:
        state: Tensors by dotted name, on the CPU and contiguous; no two share memory.
        config: The ``generator`` section of the ``config.yaml`` beside the weights; ``{}`` if there is none.
        source: The file that was read, for messages.
    """

    state: dict[str, Tensor]
    config: Mapping[str, Any]
    source: str


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read weights in any of the usual containers; the content decides which it is, not the suffix.

    Args:
        path: The official folder or its zip, a state dict or Lightning checkpoint, a TorchScript archive, or a
            ``.safetensors``.

    Raises:
        UnusableWeights: If there is no such file, or it is damaged, or holds no weights.
    """
    place = _located(path)
    with _blaming(place):
        if place.is_dir():
            return _read_weights(_official_weights(place))
        if not place.is_file():
            raise _Problem("does not exist" if not place.exists() else "is not a regular file")
        with place.open("rb") as stream:
            if not stream.read(4).startswith(_ZIP):
                return _read_weights(place)
        with zipfile.ZipFile(place) as archive:
            inside = zipfile.Path(archive)
            return _read_weights(place if _pickle_in(archive) else _official_weights(inside))


def _located(path: str | os.PathLike[str]) -> Path:
    """Where a file of weights lies; ``bundled:<name>`` is one that comes with the package."""
    if str(path).startswith("bundled:"):
        return Path(__file__).resolve().parent / "assets" / str(path).removeprefix("bundled:")
    return Path(path).expanduser().absolute()


def submodule(checkpoint: Checkpoint, *markers: str) -> dict[str, Tensor]:
    """The weights of one network inside a checkpoint, its prefix stripped.

    Args:
        checkpoint: What was read; may also hold discriminators, losses, averages.
        markers: Names one of which the network is sure to have, such as ``model.1.ffc.convl2l.weight``; the first
            that occurs is used.

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
    own = module.state_dict()
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in own]
    shapes = [(name, tuple(state[name].shape), tuple(own[name].shape)) for name in own if name in state]
    misshaped = [f"{name} (got {got}, expected {expected})" for name, got, expected in shapes if got != expected]
    found = {"missing": missing, "unexpected": unexpected, "mis-shaped": misshaped}
    if any(found.values()):
        raise UnusableWeights(
            f"{source} does not fit {type(module).__name__}:\n"
            + "".join(f"  {len(names)} {kind}: {_some(names)}\n" for kind, names in found.items() if names)
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
def _blaming(source: object) -> Iterator[None]:
    """Turn whatever a hostile or broken file provokes into the one exception, with the file's name."""
    try:
        yield
    except UnusableWeights:
        raise
    except _Problem as problem:
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
        raise _Problem("holds no checkpoint: models/best.ckpt is missing")
    if folders[0] is not root and len(folders) > 1:
        raise _Problem(f"holds several models ({', '.join(sorted(f.name for f in folders))}): name one of them")
    return _best(folders[0] / "models")


def _best(models: _Place) -> _Place:
    """``best.ckpt``, or the only other checkpoint there is."""
    found = {file.name: file for file in models.iterdir() if file.name.endswith(".ckpt") and file.name[0] != "."}
    if "best.ckpt" not in found and len(found) != 1:
        other = f"; name one of {', '.join(sorted(found))}" if found else ""
        raise _Problem(f"holds no checkpoint: models/best.ckpt is missing{other}")
    return found["best.ckpt"] if "best.ckpt" in found else next(iter(found.values()))


def _read_weights(place: _Place) -> Checkpoint:
    """Read one file of weights, in a folder or in a zip."""
    with _blaming(place):
        with place.open("rb") if isinstance(place, Path) else io.BytesIO(place.read_bytes()) as stream:
            state = _read_state(cast(BinaryIO, stream))
        if not state:
            raise _Problem("holds no named tensors")
    folder = cast(_Place, place.parent)
    files = [folder / "config.yaml"]
    if folder.name == "models":
        files.append(cast(_Place, folder.parent) / "config.yaml")
    return Checkpoint(state, next((_read_config(file) for file in files if file.is_file()), {}), str(place))


def _read_config(file: _Place) -> dict[str, Any]:
    """The ``generator`` section. Resolvers are left alone: some are registered to evaluate code."""
    with _blaming(file):
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


# --- containers -------------------------------------------------------------------------------------------------------

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_NOT_WEIGHTS = (
    (rb"\s*<", "looks like an HTML page, not weights: the download went wrong"),
    (rb"version https://git-lfs", "is a Git LFS pointer, not the file itself: run `git lfs pull`"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP|BM|II\*\0|MM\0\*", "is an image, not weights"),
    (rb"\x1f\x8b|BZh|7z\xbc|\xfd7zXZ", "is compressed: unpack it first"),
    (rb"[\t\n\r -~]+\Z", "is a text file, not weights"),
    (rb"", "is in no known format"),
)


def _read_state(stream: BinaryIO) -> dict[str, Tensor]:
    head = stream.read(512)
    stream.seek(0)
    if not head:
        raise _Problem("is empty")
    if re.match(rb".{4}\0{4}\{", head, re.DOTALL):  # the length of the header that follows, which is JSON
        return safetensors.torch.load(stream.read())  # not load_file: its tensors change with the file
    if head.startswith(_ZIP):
        return _read_zip(stream)
    if head.startswith(b"\x80"):
        return _read_legacy(stream)
    raise _Problem(next(what for pattern, what in _NOT_WEIGHTS if re.match(pattern, head, re.DOTALL)))


def _pickle_in(archive: zipfile.ZipFile) -> str | None:
    """Name of the pickle by which a zip is a torch file or a TorchScript archive."""
    return next((name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"), None)


def _read_zip(stream: BinaryIO) -> dict[str, Tensor]:
    """What ``torch.save`` and ``torch.jit.save`` write. ``zipfile`` checks the CRC of every record."""
    with zipfile.ZipFile(stream) as archive:
        if min((info.header_offset for info in archive.infolist()), default=0):
            raise _Problem("is truncated: a zip inside a zip that lost its end")
        name = _pickle_in(archive)
        if name is None:
            raise _Problem("is a zip without a checkpoint")
        folder = name.removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in archive.namelist() and archive.read(order).decode() != sys.byteorder:
            raise _Problem("was saved on a machine of the other byte order: save it again on this kind of machine")
        root = _Unpickler(io.BytesIO(archive.read(name))).load()
        return _tensors(root, lambda key: archive.read(f"{folder}data/{key}"))


def _read_legacy(stream: BinaryIO) -> dict[str, Tensor]:
    """What ``torch.save`` wrote before 1.6: five pickles, then the storages, each behind its number of elements."""
    if _Unpickler(stream).load() != torch.serialization.MAGIC_NUMBER:
        raise _Problem("is a pickle, but not one made by torch.save")
    _version, _system = _Unpickler(stream).load(), _Unpickler(stream).load()
    unpickler = _Unpickler(stream)
    root = unpickler.load()
    raw: dict[str, bytes] = {}
    for key in _Unpickler(stream).load():
        length = struct.unpack("<q", stream.read(8))[0] * _dtype(unpickler.storages[key][0]).itemsize
        raw[key] = stream.read(max(length, 0))
        if len(raw[key]) != length:
            raise _Problem(f"is truncated or damaged: storage {key} has {len(raw[key])} bytes, expected {length}")
    return _tensors(root, raw.__getitem__)


# --- pickles ----------------------------------------------------------------------------------------------------------


class _StandIn(dict[Any, Any]):
    """What every global of a pickle becomes: it records its arguments, state and items, and does nothing."""

    path: ClassVar[str] = ""
    args: tuple[Any, ...] = ()
    state: Any = None
    __hash__ = object.__hash__  # type: ignore[assignment]  # old Lightning has callbacks as keys of dicts
    __eq__ = object.__eq__

    def __new__(cls, *args: Any, **_: Any) -> "_StandIn":
        made = super().__new__(cls)
        made.args = args
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, item: Any) -> None:
        """Swallow what a foreign list or set is given."""

    add = extend = append


class _Unpickler(pickle._Unpickler):
    """Reads a pickle and imports nothing. Not the C one: that allocates gigabytes for a forged index of its memo."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream, encoding="latin1")
        self.storages: dict[str, tuple[Any, ...]] = {}

    def find_class(self, module: str, name: str) -> type[_StandIn]:
        return type("_StandIn", (_StandIn,), {"path": f"{module}.{name}"})

    def get_extension(self, code: int) -> None:
        raise _Problem("uses the extension registry of pickle, which no checkpoint does")

    def persistent_load(self, storage: tuple[Any, ...]) -> tuple[Any, ...]:
        self.storages[storage[2]] = storage[1:]
        return storage[1:]


_TENSORS = {"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"}
_PARAMETERS = {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"}
_LEFTOVERS_BESIDE = ("state_dict", "params_ema", "params")  # next to these are optimizers and the like
_WRAPPERS = {"model", "generator"}  # next to these may be networks that are needed as well
_MODULE_FIELDS = {"_parameters", "_buffers", "_modules"}  # of an nn.Module pickled as a whole; not part of its names
_MOST_NODES = 1_000_000
_LONGEST_NAME = 1_000


def _tensors(root: Any, read: Callable[[str], bytes]) -> dict[str, Tensor]:
    """Build the tensors an unpickled root holds; ``read`` gives the bytes of a storage."""
    recently_read = functools.lru_cache(maxsize=4)(lambda key: bytearray(read(key)))  # views share a storage
    return {name: _build(record, recently_read) for name, record in _flatten(_unwrap(root)).items()}


def _record(node: Any) -> _StandIn | None:
    """The call by which a pickle makes a tensor or parameter, if the node is one."""
    while isinstance(node, _StandIn) and node.path in _PARAMETERS:
        node = node.args[0]
    return node if isinstance(node, _StandIn) and node.path in _TENSORS else None


def _children(node: Any) -> dict[Any, Any]:
    """The named parts of a dict or a network; of other objects none, as configurations hold circles."""
    if isinstance(node, _StandIn) and not node:
        if node.path == "collections.OrderedDict" and node.args:  # Python 2 gave the pairs as an argument
            return dict(node.args[0])
        is_network = isinstance(node.state, dict) and (node.path.startswith("__torch__.") or "_modules" in node.state)
        return cast(dict[Any, Any], node.state) if is_network else {}
    return node if isinstance(node, dict) else {}


def _unwrap(root: Any) -> Any:
    """Take the state dict out of what training code puts around it."""
    children = _children(root)
    holders = {
        key: child
        for key, child in children.items()
        if isinstance(child, dict) and any(_record(value) is not None for value in child.values())
    }
    for key in _LEFTOVERS_BESIDE:
        if key in holders:
            return holders[key]
    return next(iter(holders.values())) if len(holders) == 1 and holders.keys() <= _WRAPPERS else root


def _flatten(root: Any) -> dict[str, _StandIn]:
    """Dotted name -> call that makes a tensor, in the order of the file. Ends on circles and on branching circles."""
    found: dict[str, _StandIn] = {}
    todo: list[tuple[str, Any]] = [("", root)]
    for _ in range(_MOST_NODES):
        if not todo:
            return found
        name, node = todo.pop()
        record = _record(node)
        if record is not None and name:
            found[name] = record
        elif len(name) < _LONGEST_NAME:
            parts = [(key, child) for key, child in _children(node).items() if isinstance(key, str)]
            todo += [(_join(name, key), child) for key, child in reversed(parts) if isinstance(child, dict)]
    raise _Problem("nests its entries without end")


def _join(name: str, key: str) -> str:
    if key in _MODULE_FIELDS:
        return name
    return f"{name}.{key}" if name else key


def _build(record: _StandIn, read: Callable[[str], bytearray]) -> Tensor:
    """Make a contiguous tensor, after checking that all of it lies within its storage."""
    storage, offset, size, stride, *rest = record.args
    kind, key, _device, length, *view = storage
    if any(view) or any(rest[2:]):
        raise _Problem("holds views of storages, or conjugated tensors, which are not supported: save plain tensors")
    dtype, raw = _dtype(kind), read(key)
    if length * dtype.itemsize != len(raw):
        raise _Problem(f"is damaged: storage {key} has {len(raw)} bytes, expected {length} x {dtype.itemsize}")
    if not all(type(number) is int and number >= 0 for number in (offset, *size, *stride)) or len(size) != len(stride):
        raise _Problem(f"is damaged: a tensor has offset {offset}, size {size}, stride {stride}")
    if 0 in size:
        return torch.empty(size, dtype=dtype)
    if offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) >= length:
        raise _Problem(f"is damaged: a tensor of size {size} reaches beyond the {length} elements of storage {key}")
    if math.prod(size) > max(length, 2**24):  # an expanded tensor is honest when small
        raise _Problem(f"is damaged: a tensor of size {size} is made of {length} elements")
    view = torch.frombuffer(raw, dtype=dtype).as_strided(size, stride, offset)
    return view.clone(memory_format=torch.contiguous_format)


_DTYPES = {
    "Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128, "Untyped": torch.uint8,
}  # fmt: skip


def _dtype(storage: type[_StandIn]) -> torch.dtype:
    name = storage.path.rpartition(".")[2]
    if name.removesuffix("Storage") not in _DTYPES:
        raise _Problem(f"holds tensors of a kind that is not supported ({storage.path}): save it as float32")
    return _DTYPES[name.removesuffix("Storage")]
