"""Forged pickles: no container runs code, and no tensor reaches beyond its bytes."""

import collections
import io
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path

import pytest
import torch

from refine.weights.checkpoint import UnusableWeights, hash_state, read_checkpoint


def zip_of(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


class Storage:
    def __init__(self, identifier):
        self.identifier = identifier


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.identifier if isinstance(value, Storage) else None


def dumps(value):
    stream = io.BytesIO()
    Pickler(stream, protocol=2).dump(value)
    return stream.getvalue()


def torch_zip(path, program, storages):
    data = {f"a/data/{key}": raw for key, raw in storages.items()}
    return zip_of(path, {"a/data.pkl": program, **data})


def test_python_2_file(tmp_path):
    """Python 2 gave an OrderedDict its pairs as an argument."""
    storage, size = ("storage", torch.FloatStorage, "0", "cpu", 2), (2,)
    tensor = Call(torch._utils._rebuild_tensor_v2, Storage(storage), 0, size, (1,), False, collections.OrderedDict())
    root = Call(collections.OrderedDict, [["a.weight", tensor]])
    path = torch_zip(tmp_path / "a.pt", dumps(root), {"0": struct.pack("<2f", 1, 2)})
    assert hash_state(read_checkpoint(path).state) == hash_state({"a.weight": torch.tensor([1.0, 2.0])})


BAD_TENSORS = {
    "reaches beyond": [(1, (4,), (1,)), (4, (1,), (1,)), (2**62, (1,), (1,)), (0, (2, 2), (1, 3)), (0, (2**40,), (1,))],
    "is made of": [(0, (2**40,), (0,))],
    "a tensor has offset": [(-1, (1,), (1,)), (0, (-1,), (1,)), (3, (4,), (-1,)), (0, (2,), (1, 1)), (0.0, (1,), (1,))],
}


@pytest.mark.parametrize("what", BAD_TENSORS)
def test_tensors_outside_of_their_storage(tmp_path, what):
    for geometry in BAD_TENSORS[what]:
        storage = Storage(("storage", torch.FloatStorage, "0", "cpu", 4))
        tensor = Call(torch._utils._rebuild_tensor_v2, storage, *geometry, False, {})
        with pytest.raises(UnusableWeights, match=what):
            read_checkpoint(torch_zip(tmp_path / "a.pt", dumps({"a": tensor}), {"0": bytes(16)}))


@pytest.mark.parametrize("length", [-4, 3, 5, 2**60, None, "4"])
def test_storages_of_the_wrong_size(tmp_path, length):
    storage = Storage(("storage", torch.FloatStorage, "0", "cpu", length))
    tensor = Call(torch._utils._rebuild_tensor_v2, storage, 0, (2,), (1,), False, {})
    with pytest.raises(UnusableWeights, match="damaged"):
        read_checkpoint(torch_zip(tmp_path / "a.pt", dumps({"a": tensor}), {"0": bytes(16)}))


def test_a_forged_memo_index_costs_no_memory(tmp_path):
    with pytest.raises(UnusableWeights, match="no named tensors"):
        read_checkpoint(torch_zip(tmp_path / "a.pt", b"\x80\x02}r\xff\xff\xff\xff.", {}))


def test_circles_end(tmp_path):
    circle = {"a": {}, "b": {}}
    circle["a"]["back"] = circle["b"]["back"] = circle
    with pytest.raises(UnusableWeights, match="nests its entries without end"):
        read_checkpoint(torch_zip(tmp_path / "a.pt", dumps(circle), {}))


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def named(module, name):
    return f"c{module}\n{name}\n".encode()


def attacks(canary):
    """Programs that leave one value on the stack and, where pickle is allowed to, a file behind."""
    shell, python = text(f"touch {canary}"), text(f"__import__('os').mkdir({str(canary)!r})")
    inner = b"\x80\x02" + named("os", "system") + shell + b"\x85R."
    raw = b"T" + struct.pack("<I", len(inner)) + inner
    system, evaluate, run = named("os", "system"), named("builtins", "eval"), named("builtins", "exec")
    return {
        "reduce os.system": system + shell + b"\x85R",
        "reduce posix.system": named("posix", "system") + shell + b"\x85R",
        "reduce eval": evaluate + python + b"\x85R",
        "reduce exec": run + python + b"\x85R",
        "reduce python 2 eval": named("__builtin__", "eval") + python + b"\x85R",
        "inst": b"(" + python + b"ibuiltins\neval\n",
        "obj": b"(" + evaluate + python + b"o",
        "stack global": text("os") + text("system") + b"\x93" + shell + b"\x85R",
        "dotted": text("torch") + text("serialization.os.system") + b"\x93" + shell + b"\x85R",
        "newobj": named("subprocess", "Popen") + b"(]" + text("touch") + b"a" + text(str(canary)) + b"at\x81",
        "newobj map": named("builtins", "list") + named("builtins", "map") + evaluate + b"]" + python + b"a\x86R\x85R",
        "partial": named("functools", "partial") + evaluate + python + b"\x86R)R",
        "build": named("foreign_evil", "Evil") + b")\x81" + text(str(canary)) + b"b",
        "getattr": named("builtins", "getattr") + named("os", "") + text("system") + b"\x86R" + shell + b"\x85R",
        "import": named("foreign_side_effect", "anything"),
        "from type": named("torch._utils", "_rebuild_from_type_v2")
        + b"(" + evaluate + named("torch", "Tensor") + python + b"\x85}tR",
        "wrapped load": named("torch.storage", "_load_from_bytes") + raw + b"\x85R",
        "torch.load": named("torch", "load") + text(str(canary)) + b"\x85R",
        "hooks": named("torch._utils", "_rebuild_parameter") + b"(N\x88" + evaluate + python + b"\x85RtR",
        "ordered dict of calls": named("collections", "OrderedDict") + b"]" + evaluate + python + b"\x85Ra\x85R",
        "build on a class": named("collections", "OrderedDict") + b"N}" + text("pop") + evaluate + b"s\x86b",
        "build on a stand-in": named("os", "x") + b")\x81}" + text("__class__") + evaluate + b"sb",
        "persistent id": b"(" + text("storage") + evaluate + text("0") + text("cpu") + b"K\x01tQ",
        "extension": b"\x82\x01",
    }  # fmt: skip


@pytest.fixture
def traps(tmp_path, monkeypatch):
    """A class that plants the canary when it is given state, and a module that plants it when imported."""
    canary = tmp_path / "canary"

    class Evil:
        def __setstate__(self, state):
            Path(state).touch()

    module = types.ModuleType("foreign_evil")
    module.Evil = Evil
    monkeypatch.setitem(sys.modules, "foreign_evil", module)
    (tmp_path / "foreign_side_effect.py").write_text(f"import os\nos.mkdir({str(canary)!r})\nanything = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield canary
    sys.modules.pop("foreign_side_effect", None)


@pytest.mark.parametrize("name", attacks("."))
@pytest.mark.parametrize("legacy", [False, True])
def test_attacks_do_nothing(tmp_path, traps, name, legacy):
    state = {"model.1.weight": torch.randn(4, 3), "model.2.num_batches_tracked": torch.tensor(7)}
    torch.save(state, stream := io.BytesIO(), _use_new_zipfile_serialization=not legacy)
    honest, program = stream.getvalue(), attacks(traps)[name] + b"0"  # run it, drop the result, go on as if nothing
    path = tmp_path / "evil.ckpt"
    if legacy:
        stream.seek(0)
        start = [pickle.load(stream) for _ in range(3)] and stream.tell() + 2
        path.write_bytes(honest[:start] + program + honest[start:])
    else:
        with zipfile.ZipFile(stream) as archive:
            files = {entry: archive.read(entry) for entry in archive.namelist()}
        key = next(entry for entry in files if entry.endswith("data.pkl"))
        files[key] = files[key][:2] + program + files[key][2:]
        zip_of(path, files)
    methods = dict(vars(collections.OrderedDict))
    try:
        assert hash_state(read_checkpoint(path).state) == hash_state(state)
    except UnusableWeights as error:
        assert "evil.ckpt" in str(error)
    assert not traps.exists()
    assert "foreign_side_effect" not in sys.modules
    assert dict(vars(collections.OrderedDict)) == methods


@pytest.mark.parametrize("name", ["reduce os.system", "reduce eval", "inst", "obj", "stack global", "build", "import"])
def test_the_attacks_are_real(traps, name):
    """With the standard unpickler they do plant the canary, so that the test above means something."""
    pickle.loads(b"\x80\x04" + attacks(traps)[name] + b".")
    assert traps.exists()


@pytest.mark.parametrize("name", attacks("."))
def test_attack_in_the_place_of_a_tensor(tmp_path, traps, name):
    program = b"\x80\x02}" + text("model.weight") + attacks(traps)[name] + b"s."
    for folder in ("", "models/"):
        files = {f"{folder}data.pkl": program, f"{folder}constants.pkl": program, f"{folder}data/0": bytes(4)}
        with pytest.raises(UnusableWeights, match=r"evil\.pt"):
            read_checkpoint(zip_of(tmp_path / "evil.pt", files))
    assert not traps.exists()


def network(parameters, buffers, modules, persistent=True):
    """A network as StyleGAN's ``torch_utils.persistence`` pickles it: its source code, to be run, and its state."""
    state = {"_parameters": parameters, "_buffers": buffers, "_modules": modules, "training": False}
    if not persistent:
        plain = torch.nn.Module()
        plain.__dict__.update(state)
        return plain
    source = f"import pathlib; pathlib.Path({str(Path('canary'))!r}).touch()"
    meta = {"type": "class", "version": 6, "module_src": source, "class_name": "Generator", "state": state}
    return Call(sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, meta)


@pytest.fixture
def persistence(monkeypatch):
    module = types.ModuleType("torch_utils.persistence")

    def _reconstruct_persistent_obj(meta):
        exec(meta["module_src"])

    _reconstruct_persistent_obj.__module__ = module.__name__
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj
    monkeypatch.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
    monkeypatch.setitem(sys.modules, "torch_utils.persistence", module)


def stylegan_file(path, **others):
    shared = torch.nn.Parameter(torch.randn(3, 4))
    leaf = network({"weight": shared}, {"resample_filter": torch.ones(4, 4), "none": None}, {})
    block = network({}, {}, collections.OrderedDict(conv=leaf), persistent=False)
    root = network({"bias": torch.nn.Parameter(torch.arange(6.0)[::2])}, {}, {"block": block})
    path.write_bytes(pickle.dumps({"G": None, "G_ema": root, "training_set_kwargs": {"path": "x"}, **others}))
    return shared


def test_networks_pickled_with_their_source_code(tmp_path, persistence, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weight = stylegan_file(tmp_path / "network.pkl")
    state = read_checkpoint(tmp_path / "network.pkl").state
    assert {name: value.tolist() for name, value in state.items()} == {
        "G_ema.bias": [0, 2, 4],
        "G_ema.block.conv.weight": weight.tolist(),
        "G_ema.block.conv.resample_filter": [[1.0] * 4] * 4,
    }
    assert not Path("canary").exists()
    pickle.loads((tmp_path / "network.pkl").read_bytes())
    assert Path("canary").exists()  # so that the line above it means something


@pytest.mark.parametrize("name", attacks("."))
def test_attacks_in_a_pickled_network(tmp_path, persistence, traps, name):
    stylegan_file(tmp_path / "evil.pkl")
    honest = (tmp_path / "evil.pkl").read_bytes()
    for start in (2, 11):  # after the protocol, after the frame
        (tmp_path / "evil.pkl").write_bytes(honest[:start] + attacks(traps)[name] + b"0" + honest[start:])
        try:
            assert "G_ema.bias" in read_checkpoint(tmp_path / "evil.pkl").state
        except UnusableWeights as error:
            assert "evil.pkl" in str(error)
        assert not traps.exists()


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_networks_are_told(tmp_path, persistence, share):
    stylegan_file(tmp_path / "network.pkl")
    data = (tmp_path / "network.pkl").read_bytes()
    (tmp_path / "network.pkl").write_bytes(data[: int(share * len(data))])
    with pytest.raises(UnusableWeights, match=r"network\.pkl is truncated or damaged"):
        read_checkpoint(tmp_path / "network.pkl")


def test_a_pickle_without_tensors_is_told(tmp_path):
    for content in ({"a": 1}, [1, 2], 7):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
        with pytest.raises(UnusableWeights, match="is a pickle, but not one of weights"):
            read_checkpoint(tmp_path / "a.pkl")
