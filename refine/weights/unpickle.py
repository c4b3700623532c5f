"""Reader of tensors from torch's files, plain pickles, TorchScript and safetensors, which never runs foreign code.

A pickle is a program. Here it runs on a machine that can do nothing: *every* global it names, torch's own included,
becomes a `_StandIn`, which records what it is given and calls nothing. Only afterwards `_flatten` looks through the
record for what torch would have made tensors of, and `_build` makes those from bytes it has checked to be there.

``torch.load(pickle_module=...)`` with the same stand-ins is no replacement: it hands a TorchScript archive to
``torch.jit.load``, which runs the code in it; and torch before October 2025 (pull request 165553) does not compare the
length that a pickle claims for a storage with the bytes that are there, so that a tensor could read beyond them.
"""

import functools
import io
import math
import pickle
import re
import struct
import sys
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO, ClassVar, cast

import safetensors.torch
import torch
from torch import Tensor

ZIP = (b"PK\x03\x04", b"PK\x05\x06")
"""How a zip begins."""

_NOT_WEIGHTS = (
    (rb"\s*<", "looks like an HTML page, not weights: the download went wrong"),
    (rb"version https://git-lfs", "is a Git LFS pointer, not the file itself: run `git lfs pull`"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP|BM|II\*\0|MM\0\*", "is an image, not weights"),
    (rb"\x1f\x8b|BZh|7z\xbc|\xfd7zXZ", "is compressed: unpack it first"),
    (rb"[\t\n\r -~]+\Z", "is a text file, not weights"),
    (rb"", "is in no known format"),
)


class Problem(Exception):
    """What is wrong with a file, without its name yet: "is empty"; whoever knows the name adds it."""


def read_state(stream: BinaryIO) -> dict[str, Tensor]:
    """Read the tensors a file holds, by dotted name, on the CPU and contiguous; no two share memory.

    Args:
        stream: Seekable stream, at the beginning of the file.

    Raises:
        Problem: If it holds no weights, or not all of them.
        Exception: Nearly any, for damaged bytes.
    """
    head = stream.read(512)
    stream.seek(0)
    if not head:
        raise Problem("is empty")
    if re.match(rb".{4}\0{4}\{", head, re.DOTALL):  # the length of the header that follows, which is JSON
        return safetensors.torch.load(stream.read())  # not load_file: its tensors change with the file
    if head.startswith(ZIP):
        return _read_zip(stream)
    if head.startswith(b"\x80"):
        return _read_pickle(stream)
    raise Problem(next(what for pattern, what in _NOT_WEIGHTS if re.match(pattern, head, re.DOTALL)))


def pickle_in(archive: zipfile.ZipFile) -> str | None:
    """Name of the pickle by which a zip is a torch file or a TorchScript archive."""
    return next((name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"), None)


def _read_zip(stream: BinaryIO) -> dict[str, Tensor]:
    """What ``torch.save`` and ``torch.jit.save`` write. ``zipfile`` checks the CRC of every record."""
    with zipfile.ZipFile(stream) as archive:
        if min((info.header_offset for info in archive.infolist()), default=0):
            raise Problem("is truncated: a zip inside a zip that lost its end")
        name = pickle_in(archive)
        if name is None:
            raise Problem("is a zip without a checkpoint")
        folder = name.removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in archive.namelist() and archive.read(order).decode() != sys.byteorder:
            raise Problem("was saved on a machine of the other byte order: save it again on this kind of machine")
        root = _Unpickler(io.BytesIO(archive.read(name))).load()
        return _tensors(root, lambda key: archive.read(f"{folder}data/{key}"))


def _read_pickle(stream: BinaryIO) -> dict[str, Tensor]:
    """What ``torch.save`` wrote before 1.6, or ``pickle.dump`` of networks, as StyleGAN's descendants have it."""
    root = _Unpickler(stream).load()
    raw: dict[str, bytes] = {}
    if by_torch := root == torch.serialization.MAGIC_NUMBER:
        root, raw = _after_magic(stream)
    tensors = _tensors(root, raw.__getitem__)
    if not tensors and not by_torch:
        raise Problem("is a pickle, but not one of weights")
    return tensors


def _after_magic(stream: BinaryIO) -> tuple[Any, dict[str, bytes]]:
    """The root and the storages: four more pickles, then the storages, each behind its number of elements."""
    _version, _system = _Unpickler(stream).load(), _Unpickler(stream).load()
    unpickler = _Unpickler(stream)
    root = unpickler.load()
    raw: dict[str, bytes] = {}
    for key in _Unpickler(stream).load():
        length = struct.unpack("<q", stream.read(8))[0] * _dtype(unpickler.storages[key][0]).itemsize
        raw[key] = stream.read(max(length, 0))
        if len(raw[key]) != length:
            raise Problem(f"is truncated or damaged: storage {key} has {len(raw[key])} bytes, expected {length}")
    return root, raw


# --- pickles ----------------------------------------------------------------------------------------------------------


class _StandIn(dict[Any, Any]):
    """What every global of a pickle becomes: it records its arguments, state and items, and does nothing."""

    path: ClassVar[str] = ""
    args: tuple[Any, ...] = ()
    state: Any = None
    __hash__ = object.__hash__  # type: ignore[assignment]  # old Lightning has callbacks as keys of dicts
    __eq__ = object.__eq__

    def __new__(cls, *args: Any, **_: Any) -> "_StandIn":
        stand_in = super().__new__(cls)
        stand_in.args = args
        return stand_in

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
        raise Problem("uses the extension registry of pickle, which no checkpoint does")

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
        if node.path == "torch_utils.persistence._reconstruct_persistent_obj":  # StyleGAN's: source code, and a network
            return _children(node.args[0].get("state"))
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
    records: dict[str, _StandIn] = {}
    todo: list[tuple[str, Any]] = [("", root)]
    for _ in range(_MOST_NODES):
        if not todo:
            return records
        name, node = todo.pop()
        record = _record(node)
        if record is not None and name:
            records[name] = record
        elif len(name) < _LONGEST_NAME:
            parts = [(key, child) for key, child in _children(node).items() if isinstance(key, str)]
            todo += [(_join(name, key), child) for key, child in reversed(parts) if isinstance(child, dict)]
    raise Problem("nests its entries without end")


def _join(name: str, key: str) -> str:
    if key in _MODULE_FIELDS:
        return name
    return f"{name}.{key}" if name else key


def _build(record: _StandIn, read: Callable[[str], bytearray]) -> Tensor:
    """Make a contiguous tensor, after checking that all of it lies within its storage."""
    storage, offset, size, stride, *rest = record.args
    if isinstance(storage, _StandIn):
        storage, read = _embedded(storage)
    kind, key, _device, length, *view = storage
    if any(view) or any(rest[2:]):
        raise Problem("holds views of storages, or conjugated tensors, which are not supported: save plain tensors")
    dtype, raw = _dtype(kind), read(key)
    if length * dtype.itemsize != len(raw):
        raise Problem(f"is damaged: storage {key} has {len(raw)} bytes, expected {length} x {dtype.itemsize}")
    if not all(type(number) is int and number >= 0 for number in (offset, *size, *stride)) or len(size) != len(stride):
        raise Problem(f"is damaged: a tensor has offset {offset}, size {size}, stride {stride}")
    if 0 in size:
        return torch.empty(size, dtype=dtype)
    if offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) >= length:
        raise Problem(f"is damaged: a tensor of size {size} reaches beyond the {length} elements of storage {key}")
    if math.prod(size) > max(length, 2**24):  # an expanded tensor is honest when small
        raise Problem(f"is damaged: a tensor of size {size} is made of {length} elements")
    view = torch.frombuffer(raw, dtype=dtype).as_strided(size, stride, offset)
    return view.clone(memory_format=torch.contiguous_format)


def _embedded(storage: _StandIn) -> tuple[Any, Callable[[str], bytearray]]:
    """A storage in a plain pickle: a file in itself, as ``torch.save`` wrote it before 1.6."""
    if storage.path != "torch.storage._load_from_bytes" or not isinstance(storage.args[0], bytes):
        raise Problem("holds tensors that were not made by torch: save it again with torch.save")
    stream = io.BytesIO(storage.args[0])
    if _Unpickler(stream).load() != torch.serialization.MAGIC_NUMBER:
        raise Problem("is damaged: a storage in it does not begin as torch writes it")
    root, raw = _after_magic(stream)
    return root, lambda key: bytearray(raw[key])


_DTYPES = {
    "Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128, "Untyped": torch.uint8,
}  # fmt: skip


def _dtype(storage: type[_StandIn]) -> torch.dtype:
    name = storage.path.rpartition(".")[2]
    if name.removesuffix("Storage") not in _DTYPES:
        raise Problem(f"holds tensors of a kind that is not supported ({storage.path}): save it as float32")
    return _DTYPES[name.removesuffix("Storage")]
