"""Every container gives the same tensors; no container runs code; every broken file is explained."""

import collections
import io
import os
import pickle
import random
import sys
import types
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from refine.weights.checkpoint import Checkpoint, UnusableWeights, hash_state, load_strictly, read_checkpoint, submodule

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures"
MARKER = "model.1.ffc.convl2l.weight"
needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason="needs the reference vectors of the original code")

CONFIG = """
data: {size: 256, out: "${env:NO_SUCH_VARIABLE}", broken: "${canary:}"}
generator:
  ngf: 8
  first: {gin: 0, gout: "${generator.first.gin}"}
  later: {gin: "${generator.first.gout}", elsewhere: "${data.size}", nowhere: "${generator.no.such}"}
  circle: "${generator.circle}"
  resolver: "${canary:}"
  kinds: [a, "${generator.ngf}"]
"""


@pytest.fixture
def state():
    torch.manual_seed(0)
    return {
        "model.1.weight": torch.randn(4, 3, 3, 3),
        "model.1.bias": torch.randn(4),
        "model.2.num_batches_tracked": torch.tensor(7),
        "model.3.empty": torch.empty(0, 5),
    }


def assert_same(got, expected):
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert got[name].dtype == value.dtype and got[name].shape == value.shape, name
        assert torch.equal(got[name], value), name
        assert got[name].is_contiguous() and got[name].device.type == "cpu" and not got[name].requires_grad, name


def saved(value, legacy=False):
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def folder_of(path, weights, config=CONFIG, name="best.ckpt"):
    (path / "models").mkdir(parents=True)
    (path / "models" / name).write_bytes(weights)
    if config:
        (path / "config.yaml").write_text(config)
    return path


def zip_of(path, files, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def foreign_checkpoint(state):
    """Like an old Lightning file: classes as keys, configurations with circles, from a package that is then gone."""
    module = types.ModuleType("foreign_training")
    for name in ("Callback", "DictConfig"):
        setattr(module, name, type(name, (), {"__module__": "foreign_training"}))
    child, parent = module.DictConfig(), module.DictConfig()
    child.__dict__.update(_parent=parent, _content={"lr": 0.1})
    parent.__dict__.update(_parent=None, _content={"one": child, "two": child}, _flags=collections.defaultdict(list))
    other = {"loss.weight": torch.ones(2), "generator_average.model.1.weight": torch.zeros(1)}
    sys.modules["foreign_training"] = module
    try:
        return saved(
            {
                "epoch": 3,
                "callbacks": {module.Callback: {"best": torch.ones(1)}, module.Callback(): 1},
                "hyper_parameters": parent,
                "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(4)}}}],
                "state_dict": collections.OrderedDict(**other, **{f"generator.{k}": v for k, v in state.items()}),
            }
        )
    finally:
        del sys.modules["foreign_training"]


# --- containers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "params", "params_ema", "generator"])
def test_bare_and_wrapped_state_dicts(tmp_path, state, wrapper, legacy):
    value = {"step": 3, "optimizer": {"state": {0: {"m": torch.ones(1)}}}, wrapper: state} if wrapper else state
    (tmp_path / "a.bin").write_bytes(saved(value, legacy))
    checkpoint = read_checkpoint(tmp_path / "a.bin")
    assert_same(checkpoint.state, state)
    assert checkpoint.config == {} and checkpoint.source == str(tmp_path / "a.bin")


def test_averaged_weights_are_preferred_and_other_networks_are_kept(tmp_path, state):
    ones = {"a": torch.ones(1)}
    (tmp_path / "ema.pth").write_bytes(saved({"params": ones, "params_ema": state}))
    assert_same(read_checkpoint(tmp_path / "ema.pth").state, state)
    (tmp_path / "two.pth").write_bytes(saved({"generator": state, "str_encoder": ones}))
    checkpoint = read_checkpoint(tmp_path / "two.pth")
    assert_same(submodule(checkpoint, "model.1.bias"), state)
    assert_same(submodule(checkpoint, "a"), ones)


def test_safetensors_whatever_the_length_of_its_header(tmp_path, state):
    for padding in range(0, 300, 8):  # its first byte is a length, which may look like a pickle's
        save_file(state, tmp_path / "a.pt", metadata={"note": "x" * padding})
        assert_same(dict(sorted(read_checkpoint(tmp_path / "a.pt").state.items())), dict(sorted(state.items())))


@pytest.mark.parametrize("legacy", [False, True])
def test_dtypes_views_and_parameters(tmp_path, legacy):
    base = torch.arange(24.0)
    odd = {str(dtype): torch.arange(6).reshape(2, 3).to(dtype) for dtype in (torch.bfloat16, torch.half, torch.double)}
    odd |= {str(dtype): torch.arange(6).to(dtype) for dtype in (torch.int8, torch.uint8, torch.int16, torch.int32)}
    odd |= {"bool": torch.tensor([True, False]), "complex": torch.tensor([1 + 2j]), "scalar": torch.tensor(2.5)}
    odd |= {"all": base, "slice": base[4:10], "rows": base.view(4, 6).T, "steps": base[::5], "wide": base[:1].expand(8)}
    parameter = nn.Parameter(torch.randn(2, 2))
    (tmp_path / "a.pt").write_bytes(saved({**odd, "parameter": parameter}, legacy))
    got = read_checkpoint(tmp_path / "a.pt").state
    assert_same(got, {**odd, "parameter": parameter.detach()})
    got["all"].zero_()
    assert got["slice"][0] == 4, "tensors share memory"


def test_module_pickled_as_a_whole(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4)))
    (tmp_path / "net.pth").write_bytes(saved(net))
    assert hash_state(read_checkpoint(tmp_path / "net.pth").state) == hash_state(net.state_dict())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_torchscript(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1)))
    torch.jit.trace(net.eval(), torch.rand(1, 3, 8, 8)).save(str(tmp_path / "net.pt"))
    assert_same(read_checkpoint(tmp_path / "net.pt").state, {k: v.detach() for k, v in net.state_dict().items()})


def test_lightning_file_with_classes_that_do_not_exist(tmp_path, state):
    (tmp_path / "last.ckpt").write_bytes(foreign_checkpoint(state))
    checkpoint = read_checkpoint(tmp_path / "last.ckpt")
    assert len(checkpoint.state) == len(state) + 2
    assert_same(submodule(checkpoint, "model.1.weight"), state)
    assert "foreign_training" not in sys.modules


# --- official folders -------------------------------------------------------------------------------------------------


def assert_official(checkpoint, state):
    assert_same(submodule(checkpoint, "model.1.weight"), state)
    assert checkpoint.config["first"] == {"gin": 0, "gout": 0}
    assert checkpoint.config["later"] == {"gin": 0, "elsewhere": "${data.size}", "nowhere": "${generator.no.such}"}
    assert checkpoint.config["circle"] == "${generator.circle}"
    assert checkpoint.config["resolver"] == "${canary:}"
    assert checkpoint.config["kinds"] == ["a", 8]


def test_official_folder_its_parent_and_its_file(tmp_path, state):
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("canary", lambda: pytest.fail("a resolver ran"), replace=True)
    folder = folder_of(tmp_path / "up" / "big-lama", foreign_checkpoint(state))
    for path in (folder, folder.parent, folder / "models" / "best.ckpt", str(folder)):
        assert_official(read_checkpoint(path), state)
    OmegaConf.clear_resolver("canary")


@pytest.mark.parametrize("top", ["", "big-lama/"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_official_zip(tmp_path, state, top, compression):
    weights = foreign_checkpoint(state)
    files = {"__MACOSX/models/best.ckpt": b"?", f"{top}models/._best.ckpt": b"?", f"{top}models/best.ckpt": weights}
    path = zip_of(tmp_path / "weights", {**files, f"{top}config.yaml": CONFIG}, compression)
    assert_official(read_checkpoint(path), state)


def test_the_only_other_checkpoint_is_taken(tmp_path, state):
    folder = folder_of(tmp_path / "a", saved(state), config="", name="last.ckpt")
    assert_same(read_checkpoint(folder).state, state)
    (folder / "models" / "epoch3.ckpt").write_bytes(saved(state))
    with pytest.raises(UnusableWeights, match=r"best.ckpt is missing; name one of epoch3.ckpt, last.ckpt"):
        read_checkpoint(folder)


def test_several_models_in_one_folder(tmp_path, state):
    for name in "ab":
        folder_of(tmp_path / name, saved(state))
    with pytest.raises(UnusableWeights, match="several models"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("text", ["generator: [", "generator: {a: !!python/object/apply:os.system [true]}"])
def test_broken_config_is_named(tmp_path, state, text):
    with pytest.raises(UnusableWeights, match=r"config.yaml is truncated or damaged"):
        read_checkpoint(folder_of(tmp_path / "a", saved(state), text))


# --- the reference files ----------------------------------------------------------------------------------------------


@needs_fixtures
@pytest.mark.parametrize("name", ["lama/tiny-big-lama", "lama/tiny-lama-fourier", "mini"])
def test_official_fixtures(name):
    checkpoint = read_checkpoint(FIXTURES / name)
    generator = submodule(checkpoint, MARKER)
    assert checkpoint.config["kind"] == "ffc_resnet"
    assert "${" not in str(checkpoint.config)
    assert generator[MARKER].ndim == 4 and all(key.startswith("model.") for key in generator)
    assert not {"pytorch_lightning.callbacks.model_checkpoint"} & set(sys.modules)


@needs_fixtures
def test_regular_fixture_has_no_fourier_layers():
    checkpoint = read_checkpoint(FIXTURES / "lama" / "tiny-lama-regular")
    assert "model.1.weight" in submodule(checkpoint, MARKER, "model.1.weight")
    with pytest.raises(UnusableWeights, match=r"expected a tensor named model.1.ffc.*got generator.model.1.weight"):
        submodule(checkpoint, MARKER)


@needs_fixtures
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_official_torchscript_is_the_same_network():
    path = FIXTURES / "lama" / "tiny-big-lama-jit" / "big-lama.pt"
    checkpoint = read_checkpoint(path)
    assert_same(checkpoint.state, {k: v.detach() for k, v in torch.jit.load(str(path)).state_dict().items()})
    folder = read_checkpoint(FIXTURES / "lama" / "tiny-big-lama")
    assert hash_state(submodule(checkpoint, MARKER)) == hash_state(submodule(folder, MARKER))


@needs_fixtures
def test_safetensors_fixtures():
    files = sorted(FIXTURES.glob("*/*.safetensors"))
    assert files and all(read_checkpoint(file).state for file in files)


# --- submodule, load_strictly, hash_state -----------------------------------------------------------------------------


def test_submodule_prefers_the_generator_then_the_shortest_prefix():
    def prefix(*names):
        checkpoint = Checkpoint({name: torch.tensor(i) for i, name in enumerate(names)}, {}, "file.ckpt")
        found = submodule(checkpoint, "m.1")
        return names[int(found["m.1"])]

    assert prefix("g.m.1", "generator.m.1", "generator_average.m.1") == "generator.m.1"
    assert prefix("model.generator.m.1", "ema.m.1") == "ema.m.1"
    assert prefix("m.1", "xm.1") == "m.1"
    with pytest.raises(UnusableWeights, match=r"several networks with 'm.1', below: a., b."):
        prefix("a.m.1", "b.m.1")
    with pytest.raises(UnusableWeights, match=r"file.ckpt .* named m.1, .* got xm.1, q"):
        prefix("xm.1", "q")


def test_load_strictly_converts_and_forgives_missing_counters():
    net, other = (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)) for _ in range(2))
    state = {key: value.half() for key, value in other.state_dict().items() if "num_batches" not in key}
    state["1.weight"] = torch.tensor([2, 3])
    load_strictly(net, state, "file.ckpt")
    assert net[0].weight.dtype == torch.float32 and net[1].num_batches_tracked == 0
    assert torch.equal(net[0].weight, state["0.weight"].float()) and net[1].weight.tolist() == [2, 3]


def test_load_strictly_says_what_does_not_fit():
    net = nn.Sequential(*(nn.Linear(2, 3) for _ in range(5)))
    before = hash_state(net.state_dict())
    with pytest.raises(UnusableWeights) as error:
        load_strictly(net, {"0.weight": torch.zeros(3, 4), "odd": torch.zeros(1)}, "file.ckpt")
    text = str(error.value)
    assert "file.ckpt does not fit Sequential" in text
    assert "9 missing: 0.bias, 1.weight, 1.bias, 2.weight, 2.bias and 4 more" in text
    assert "1 unexpected: odd" in text and "1 mis-shaped: 0.weight (got (3, 4), expected (3, 2))" in text
    assert hash_state(net.state_dict()) == before


def test_hash_is_of_the_tensors_not_of_the_container(tmp_path, state):
    save_file(state, tmp_path / "a.safetensors")
    (tmp_path / "a.pt").write_bytes(saved(dict(reversed(state.items())), legacy=True))
    for name in ("a.safetensors", "a.pt"):
        assert hash_state(read_checkpoint(tmp_path / name).state) == hash_state(state)


def test_hash_sees_names_types_shapes_values_and_bits():
    one = torch.zeros(2, 3)
    others = [{"b": one}, {"a": one.half()}, {"a": one.T}, {"a": one + 1}, {"a": -one}, {"a": one, "b": one}, {}]
    others += [{"a": one.to(torch.bfloat16)}, {"a": one.to(torch.complex64)}, {"a": one > 0}, {"a": one[0, 0]}]
    assert len({hash_state(state) for state in [{"a": one}, *others]}) == len(others) + 1
    assert hash_state({"a": one.T.contiguous()}) == hash_state({"a": one.T})


# --- files that are not weights ---------------------------------------------------------------------------------------

NOT_WEIGHTS = {
    "is empty": b"",
    "looks like an HTML page, not weights": b"\n<!DOCTYPE html><html><body>Sign in</body></html>",
    "is a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "is an image": b"\x89PNG\r\n\x1a\n" + bytes(50),
    "is compressed": b"\x1f\x8b\x08" + bytes(50),
    "is a text file": b"Quota exceeded, try again later\n",
    "is in no known format": b"\x07\x00junk\xff" * 20,
    "is a pickle, but not one": pickle.dumps({"a": 1}),
    "holds no named tensors": saved({"epoch": 3}),
    "truncated or damaged": b"PK\x03\x04" + bytes(100),
}


@pytest.mark.parametrize("what", NOT_WEIGHTS)
def test_not_weights(tmp_path, what):
    (tmp_path / "a.ckpt").write_bytes(NOT_WEIGHTS[what])
    folder = folder_of(tmp_path / "folder", NOT_WEIGHTS[what])
    for path, named in [(tmp_path / "a.ckpt", "a.ckpt"), (folder, "best.ckpt")]:
        with pytest.raises(UnusableWeights, match=what) as error:
            read_checkpoint(path)
        assert named in str(error.value) and "Expected a torch checkpoint" in str(error.value)


def test_nothing_there(tmp_path):
    with pytest.raises(UnusableWeights, match=r"no.pt does not exist"):
        read_checkpoint(tmp_path / "no.pt")
    with pytest.raises(UnusableWeights, match=r"models/best.ckpt is missing"):
        read_checkpoint(tmp_path)
    (tmp_path / "models").mkdir()
    with pytest.raises(UnusableWeights, match=r"models/best.ckpt is missing"):
        read_checkpoint(tmp_path)
    with pytest.raises(UnusableWeights, match=r"models/best.ckpt is missing"):
        read_checkpoint(zip_of(tmp_path / "a.zip", {"readme.txt": "hello"}))
    with pytest.raises(UnusableWeights, match="not a regular file"):
        read_checkpoint(os.devnull)


def containers(state, path):
    save_file(state, path / "s")
    script = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(3, 2)), script)
    files = {"config.yaml": CONFIG, "models/best.ckpt": saved(state), "readme": "x" * 200}
    return {
        "torch": saved(state),
        "legacy": saved(state, legacy=True),
        "safetensors": (path / "s").read_bytes(),
        "script": script.getvalue(),
        "zip": zip_of(path / "z", files, zipfile.ZIP_STORED).read_bytes(),
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["torch", "legacy", "safetensors", "script", "zip"])
def test_truncated_files(tmp_path, state, kind):
    whole = containers(state, tmp_path)[kind]
    path = tmp_path / "cut.ckpt"
    path.write_bytes(whole)
    assert read_checkpoint(path).state
    everywhere = range(0, len(whole), max(1, len(whole) // 150))
    for cut in (*range(24), *everywhere, *range(len(whole) - 24, len(whole))):
        path.write_bytes(whole[:cut])
        with pytest.raises(UnusableWeights, match=r"cut\.ckpt"):
            read_checkpoint(path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["torch", "legacy", "safetensors", "script"])
def test_flipped_bytes_are_refused_or_harmless(tmp_path, state, kind):
    whole = containers(state, tmp_path)[kind]
    path, draw, loaded = tmp_path / "bad.ckpt", random.Random(kind), 0
    for _ in range(200):
        bad = bytearray(whole)
        bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
        path.write_bytes(bad)
        try:
            loaded += all(isinstance(value, torch.Tensor) for value in read_checkpoint(path).state.values())
        except UnusableWeights as error:
            assert "bad.ckpt" in str(error)
    assert loaded < 200, "no flip was ever noticed"
