"""What the tests share: a tiny LaMa in a file, and a process to fork others from."""

import gc
import os
import signal
from pathlib import Path

import pytest

gc.disable()  # until all is imported
os.environ["OMP_NUM_THREADS"] = "1"  # tiny tensors gain nothing from more; for the processes that tests start, too
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs, and what they start, ignore it

# Torch and what needs it are imported where they are used: the process that hands the files to others needs none of it.


def pytest_collection_finish():
    """The collector need not look at what is imported again and again: with torch and Lightning that takes 0.3 s."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def empty_cache(tmp_path_factory):
    """Weights that lie in the cache of whoever runs the tests change nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def on_the_cpu():
    """``device=auto`` is the CPU, also in processes that tests start, since many compare bytes."""
    import torch

    if not torch.cuda.is_available():
        yield
        return
    torch.cuda.init()
    torch.cuda.device_count()  # which torch remembers, whatever the environment says from now on
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setattr("refine.core.devices.best_device", lambda: torch.device("cpu"))
        yield


@pytest.fixture(scope="session", autouse=True)
def once():
    """The file of a test says where it needs more: ``overrides._compose.__wrapped__`` composes always."""
    from composed import composed_once

    with composed_once():
        yield


@pytest.fixture(scope="module", autouse=True)
def nothing_left(tmp_path_factory):
    """No file of tests changes what another one finds: they pass in any order."""
    from leftovers import forget_modules, state

    before = state()
    yield
    forget_modules(tmp_path_factory.getbasetemp())
    after = state()
    pairs = {name: (before.get(name), after.get(name)) for name in before | after}
    assert {name: pair for name, pair in pairs.items() if pair[0] != pair[1]} == {}  # before, after


@pytest.fixture(autouse=True)
def own_rank():
    """A trainer that is told it is one of several processes says so to all loggers, for good."""
    from lightning.pytorch.utilities.rank_zero import rank_zero_only

    before = getattr(rank_zero_only, "rank", None)
    yield
    rank_zero_only.rank = before or 0


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory) -> Path:
    """A random LaMa small enough to refine in no time."""
    import torch
    from safetensors.torch import save_file

    from refine.backbones.lama.generator import LaMaConfig, build

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(LaMaConfig(width=4, downsamplings=2, blocks=1, global_channels=12))
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file({f"generator.model.{key}": value for key, value in model.state_dict().items()}, path)
    return path


@pytest.fixture(scope="session")
def tiny(tiny_weights) -> list[str]:
    """Overrides that choose it, with two updates at every level above 16 px, whose change is seen at 8 bits.

    Holes of such small images are refined though they are thin.
    """
    network = ["backbone=lama", f"backbone.weights={tiny_weights}", "backbone.native_size=16"]
    return [*network, "refiner.steps=2", "refiner.keep_detail=null", "objective.narrowest=null", "device=cpu"]


@pytest.fixture(scope="session")
def process(tmp_path_factory):
    """Start a command in a process of its own without importing torch again; nothing may be left where it works."""
    from forked import forks

    folder = tmp_path_factory.mktemp("forks")
    with forks(folder) as start:
        yield start
    assert {path.name for path in folder.iterdir()} <= {"log.txt"}
