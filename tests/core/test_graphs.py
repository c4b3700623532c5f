"""Updates that are captured and replayed, with graphs that need no CUDA."""

import functools
import gc
import warnings
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from toys import Shift, Toy, scene

import refine
from refine.core.choices import CHOICES, Choice
from refine.core.execution import Execution
from refine.core.graphs import WARM_UP, Graphs
from refine.core.history import Reader
from refine.core.memory import exact_ways, refine_in_memory, release
from refine.core.objective import Comparison, MultiscaleL1
from refine.core.pyramid import Pyramid, make_level
from refine.core.refiner import Refiner
from refine.core.updates import Updates

QUESTIONS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "item", "masked_select")


class NoQuestions(TorchDispatchMode):
    """Fails where the host asks the device for a value, as a capture would."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in QUESTIONS:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        return func(*args, **(kwargs or {}))


class FakeBackend:
    """Captures by keeping the function; a replay runs it, and asks nothing. Counts what it did."""

    def __init__(self, device, error=None):
        self.error, self.done, self.broken = error, [], ""

    def prepare(self, optimizer):
        self.done.append("prepare")

    def aside(self, function):
        self.done.append("aside")
        function()

    def capture(self, function):
        self.done.append("capture")
        if self.error:
            raise self.error

        work = weakref.WeakMethod(function)  # a graph of CUDA does not hold what was captured, either

        def replay():
            self.done.append("replay")
            with NoQuestions():
                work()()

        return replay


class Seeing(Shift):
    """z follows the image."""

    def front(self, level):
        z = super().front(level).z
        return refine.Features(z | {"plane": z["plane"] + 0.2 * level.image}, context=(level.mask, "kept"))

    def rear(self, features):
        return super().rear(features) + 0.01 * features.context[0]


@pytest.fixture
def as_on_cuda(monkeypatch):
    """The choices of CUDA on a CPU, where its loss is read late."""
    monkeypatch.setitem(CHOICES, "cpu", CHOICES["cuda"])


def refiner(error=None, backbone=None, objective=None, optimizer=torch.optim.SGD, capacity=6, **settings):
    """A refiner with fake graphs, and the backend that they use."""
    settings = {"steps": 8, "lr": 20.0} | settings
    made = Refiner(
        backbone or Seeing(), Pyramid(32), objective or MultiscaleL1(1), optimizer=optimizer, graph="auto", **settings
    )
    backend = FakeBackend("cpu", error)
    made.graphs = Graphs(lambda device: backend, capacity)
    return made, backend


def eager(backbone=None, objective=None, optimizer=torch.optim.SGD, **settings):
    settings = {"steps": 8, "lr": 20.0} | settings
    return Refiner(
        backbone or Seeing(), Pyramid(32), objective or MultiscaleL1(1), optimizer=optimizer, graph=False, **settings
    )


def same(first, second):
    """Whether two refinements agree in every bit and number."""
    return torch.equal(first.image, second.image) and all(
        torch.equal(getattr(a, name), getattr(b, name))
        for a, b in zip(first.levels, second.levels, strict=True)
        for name in ("prediction", "losses", "updates", "kept")
    )


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"keep": "last"},
        {"keep_detail": 1.5},
        {"tolerance": 0.1, "steps": 30},
        {"lr": 4000.0},  # the loss rises: an earlier iterate is kept
        {"objective": MultiscaleL1(1, narrowest=12)},
        {"objective": MultiscaleL1(1, known_weight=0.5)},
        {"optimizer": torch.optim.RMSprop, "lr": 0.01},  # which has a state, and no number of steps that it reads
    ],
)
def test_replayed_updates_are_those_made_one_by_one(as_on_cuda, settings):
    captured, backend = refiner(**settings)
    expected = [eager(**settings)(*scene(64, 64, seed=seed), key="a") for seed in range(3)]
    results = [captured(*scene(64, 64, seed=seed), key="a") for seed in range(3)]
    assert all(same(a, b) for a, b in zip(results, expected, strict=True))
    early = "tolerance" in settings  # then no last iterate is evaluated by itself
    assert backend.done.count("capture") == (1 if early else 2) and backend.done.count("replay") > 3
    assert backend.done[: WARM_UP + 1] == ["prepare", *["aside"] * WARM_UP]


def test_an_image_leaves_nothing_behind_for_the_next_and_keeps_its_own(as_on_cuda):
    captured, _ = refiner()
    first = captured(*scene(64, 64, seed=0))
    kept = first.image.clone(), first.levels[1].prediction.clone(), first.levels[0].image.clone()
    captured(*scene(64, 64, seed=1))
    assert torch.equal(first.image, kept[0])
    assert torch.equal(first.levels[1].prediction, kept[1])
    assert torch.equal(first.levels[0].image, kept[2])  # the guide, which the loss of the first image reads
    assert same(captured(*scene(64, 64, seed=0)), first)


def test_listeners_hear_the_same_a_little_later(as_on_cuda):
    heard = {True: [], False: []}
    captured, _ = refiner()
    for _ in range(2):
        heard[True].clear()
        captured(*scene(), on_step=heard[True].append)
    eager()(*scene(), on_step=heard[False].append)
    steps = [[(s.level, s.step, s.steps, s.loss) for s in heard[late]] for late in (True, False)]
    assert steps[0] == steps[1] and len(steps[0]) == 9
    for late, soon in zip(heard[True], heard[False], strict=True):
        assert torch.equal(late.prediction(), soon.prediction())


@pytest.mark.parametrize("what", ["size", "lr", "weights", "precision"])
def test_a_graph_serves_only_what_it_was_captured_for(as_on_cuda, what):
    backbone = Seeing()
    captured, backend = refiner(backbone=backbone)
    captured(*scene())
    if what == "weights":
        backbone.weight = torch.nn.Parameter(torch.tensor(0.5), requires_grad=False)
    if what == "lr":
        captured.lr = (10.0,)
    if what == "precision":
        captured.precision = "bf16"
    image, mask = scene(64, 80) if what == "size" else scene()
    result = captured(image, mask)
    assert backend.done.count("prepare") == 2
    settings = {"lr": {"lr": 10.0}, "precision": {"precision": "bf16"}}.get(what, {})
    assert same(result, eager(backbone=backbone, **settings)(image, mask))


def test_the_least_recently_used_size_is_dropped(as_on_cuda):
    captured, backend = refiner(capacity=2)
    sizes = [(64, 64), (64, 80), (64, 64), (64, 96), (64, 64)]
    made = []
    for size in sizes:
        captured(*scene(*size))
        made.append(backend.done.count("prepare"))
    assert made == [1, 2, 2, 3, 3]
    captured(*scene(64, 80))
    assert backend.done.count("prepare") == 4
    captured.graphs.clear()
    captured(*scene(64, 80))
    assert backend.done.count("prepare") == 5


def test_where_a_capture_fails_it_is_said_once_and_updates_go_on(as_on_cuda):
    error = RuntimeError("operation not permitted\nwhen stream is capturing")
    captured, _ = refiner()
    made = []
    captured.graphs = Graphs(lambda device: made.append(FakeBackend(device, error)) or made[-1])
    with pytest.warns(UserWarning, match=r"no CUDA graph, .* one by one: operation not permitted\."):
        first = captured(*scene())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = captured(*scene())
        third = captured(*scene(64, 80))
        release(captured)  # as after an image that failed
        captured(*scene())
    (backend,) = made
    assert same(first, eager()(*scene())) and same(second, first) and same(third, eager()(*scene(64, 80)))
    assert "replay" not in backend.done and backend.done.count("capture") == 1  # a second one could do more harm


def test_a_capture_that_runs_out_of_memory_is_tried_again_without_graphs(as_on_cuda):
    captured, backend = refiner(error=torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.warns(UserWarning, match=r"a: out of memory on cpu; once more with refiner\.graph=false:"):
        result = refine_in_memory(captured, *scene(), key="a")
    assert same(result, eager()(*scene())) and not backend.broken
    assert not captured.gradient_checkpointing


def test_the_ways_to_less_memory_have_the_graphs_that_they_had(as_on_cuda):
    captured, _ = refiner()
    assert len(ways := list(exact_ways(captured))) > 1
    assert {way.graph for _, way in ways} == {"auto"}


def test_windows_are_no_graphs_unless_asked_for(as_on_cuda):
    captured, backend = refiner(window=48, context=8)
    captured(*scene())
    assert backend.done == []


def test_dropped_graphs_are_gone_at_once(as_on_cuda):
    captured, _ = refiner()
    captured(*scene())
    (kept,) = captured.graphs._captured.values()
    alive = weakref.ref(kept.updates)
    gc.disable()
    try:
        del kept
        captured.graphs.clear()
        assert alive() is None
    finally:
        gc.enable()


class Nameless(MultiscaleL1):
    """An objective that does not say which tensors its loss reads."""

    def prepare(self, level, guide):
        whole = super().prepare(level, guide)
        return Comparison(whole.loss, whole.guided_fraction, whole.has_pixels)


class Secret(Shift):
    """A context that cannot be copied from one image to the next."""

    def front(self, level):
        return refine.Features(super().front(level).z, context=object())


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"objective": Nameless(1)}, r"the objective does not name the tensors of its comparison"),
        ({"backbone": Secret()}, r"the context of the rear holds a object"),
        ({"optimizer": functools.partial(torch.optim.SGD, momentum=0.9)}, r"the optimizer SGD cannot begin anew"),
        ({"optimizer": torch.optim.Rprop}, r"the optimizer Rprop cannot begin anew"),
    ],
)
def test_what_cannot_be_a_graph_is_refined_without(as_on_cuda, settings, reason):
    captured, backend = refiner(**settings)
    with pytest.warns(UserWarning, match=reason):
        result = captured(*scene())
    assert same(result, eager(**settings)(*scene()))
    assert "capture" not in backend.done


@pytest.mark.parametrize(
    "name", ["mini", "mini_regular", "mini_aot", pytest.param("migan", marks=pytest.mark.thorough)]
)
def test_an_update_of_a_network_asks_the_device_nothing(name, as_on_cuda):
    """Adam keeps its number of steps on the CPU here; on CUDA it is capturable."""
    weights = ("backbone.weights=random",) if name == "migan" else ()
    settings = ("pyramid.smallest_side=32", "refiner.optimizer=sgd", "refiner.steps=5", "refiner.lr=1")
    settings += ("objective.narrowest=null",)  # the hole is smaller than in a photo
    captured = refine.load(f"backbone={name}", *weights, *settings, "refiner.graph=auto", device="cpu")
    backend = FakeBackend("cpu")
    captured.graphs = Graphs(lambda device: backend)
    plain = refine.load(f"backbone={name}", *weights, *settings, device="cpu")
    assert same(captured(*scene(64, 64)), plain(*scene(64, 64)))
    assert backend.done.count("replay") >= 2


def test_a_question_to_the_device_is_noticed():
    class Asking(MultiscaleL1):
        def prepare(self, level, guide):
            whole = super().prepare(level, guide)

            def loss(prediction):
                value = whole.loss(prediction)
                return value * 2 if value.sum() > 0.1 else value

            return Comparison(loss, whole.guided_fraction, whole.has_pixels, tensors=whole.tensors)

    image, mask = scene()
    level = make_level(image, mask)
    run = Execution(Toy(), ("plane", "other"))
    comparison = Asking(1).prepare(level, image[..., ::2, ::2])
    updates = Updates(run, level, run.front(level), comparison, functools.partial(torch.optim.SGD, lr=1.0))
    with NoQuestions(), pytest.raises(RuntimeError, match="not permitted"):
        updates.update()


@pytest.mark.parametrize("late", [0, 2, 50])
def test_however_late_the_loss_is_read_the_result_is_that_of_the_end(late):
    """More updates follow the end, and change nothing."""
    image, mask = scene()
    level = make_level(image, mask)
    run = Execution(Shift(), ("plane", "other"))
    comparison = MultiscaleL1(1).prepare(level, torch.full_like(image[..., ::2, ::2], 0.5))
    make = functools.partial(torch.optim.Adam, lr=0.05)
    with torch.no_grad():
        updates = Updates(run, level, run.front(level), comparison, make, tolerance=0.1)
        reader = Reader(updates, None, late, keep_first=False)
        made = 0
        while not reader.ended and made < 99:
            updates.update(reader.read)
            made += 1
        reader.read_all()
    (history,) = reader.histories
    losses = history.losses
    assert 4 < len(losses) < 40 and losses[-4] - losses[-1] < 0.1 * losses[-4]
    assert made == len(losses) + late
    assert comparison.loss(updates.prediction).item() == losses[-1]
    assert comparison.loss(updates.best).item() == min(losses) == losses[history.best]


def test_graphs_are_refused_without_cuda():
    with pytest.raises(ValueError, match=r"refiner\.graph=true needs device=cuda; got cpu\. Set refiner\.graph=auto"):
        Refiner(Shift(), Pyramid(32), MultiscaleL1(1), graph=True)(*scene())
    with pytest.raises(ValueError, match=r"refiner\.graph=true needs device=cuda"):
        refine.load("backbone=mini", "refiner.graph=true", device="cpu")
    with pytest.raises(ValueError, match=r"refiner\.graph must be auto, true or false; got 'yes'"):
        Refiner(Shift(), Pyramid(32), MultiscaleL1(1), graph="yes")


def test_a_cpu_captures_nothing():
    captured, backend = refiner()
    captured(*scene())
    assert backend.done == [] and CHOICES["cpu"] == Choice(graph=False, together=False, late=0, plain=False)
