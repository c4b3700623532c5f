"""The engine on networks whose answers can be worked out by hand."""

import math
import shutil
import warnings
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch
from toys import Shift, Toy, scene

import refine
from refine.core.notices import NotFinite, NothingRefined
from refine.core.objective import MultiscaleL1
from refine.core.optimization import coarse_change
from refine.core.pyramid import Pyramid
from refine.core.refiner import Refiner
from refine.core.upscaler import Upscaler


def sgd(parameters, lr):
    return torch.optim.SGD(parameters, lr=lr)


def make(backbone=None, **settings):
    return Refiner(backbone or Toy(), Pyramid(32), MultiscaleL1(1), **settings)


@pytest.mark.parametrize("keep_detail", [None, 1.0])
def test_thin_parts_keep_the_prediction_of_the_network(keep_detail):
    image, mask = scene()
    mask[..., 56:60, 4:60] = 1  # a stroke below the square
    narrow = {"keep_detail": keep_detail, "steps": 3, "lr": 0.05}
    plain = Refiner(Shift(), Pyramid(32), MultiscaleL1(1), steps=0)(image, mask).image
    everywhere = Refiner(Shift(), Pyramid(32), MultiscaleL1(1), **narrow)(image, mask).image
    result = Refiner(Shift(), Pyramid(32), MultiscaleL1(1, narrowest=12), **narrow)(image, mask).image
    assert torch.equal(result[..., 56:60, 4:60], plain[..., 56:60, 4:60]) or keep_detail
    assert (result - plain)[..., 57:59, 4:60].abs().max() < 1e-3 < (everywhere - plain)[..., 57:59, 4:60].abs().max()
    assert (result - plain)[..., 24:40, 24:40].abs().min() > 1e-3


def test_one_sgd_step_by_hand():
    """d loss / d z sums to sign / 3 per channel, so lr moves the mean of the guided pixels by lr * |g|^2 on average."""
    image, mask = scene()
    result = make(Shift(), optimize=["plane"], steps=1, lr=0.3, optimizer=sgd)(image, mask)
    first, second = result.levels[1].losses[:, 0].tolist()
    assert first == pytest.approx(0.4, abs=1e-6)
    # The loss is the mean over n = 16*16*3 values of down(z) - 0.5; down is linear with adjoint down^T, so one step
    # lowers the loss by lr * |down^T 1/n|^2 as long as no sign changes.
    from refine.core.pyramid import downscale

    probe = torch.zeros(1, 3, 64, 64, requires_grad=True)
    inside = torch.zeros(1, 1, 32, 32)
    inside[..., 8:24, 8:24] = 1
    gradient = torch.autograd.grad((downscale(probe, (32, 32)) * inside).sum() / (16 * 16 * 3), probe)[0]
    assert second == pytest.approx(0.4 - 0.3 * gradient.square().sum().item(), abs=1e-6)


def test_fifteen_adam_updates_move_z_by_lr_each():
    """A constant gradient makes Adam move every supervised value by lr per update."""
    image, mask = scene()
    result = make(Shift(), optimize=["plane"], steps=15, lr=0.01)(image, mask)
    level = result.levels[1]
    assert level.losses.shape == (16, 1)
    assert level.losses[15, 0].item() == pytest.approx(0.4 - 0.15, abs=2e-3)
    assert level.updates.tolist() == [15]
    assert level.kept.tolist() == [15]
    assert result.image[0, :, 32, 32].tolist() == pytest.approx([0.75] * 3, abs=2e-3)


def lbfgs(parameters, lr, max_iter=1):
    return torch.optim.LBFGS(list(parameters), lr=lr, max_iter=max_iter, tolerance_grad=0, tolerance_change=0)


def test_an_optimizer_that_asks_for_the_loss_is_told_it_once_per_update():
    image, mask = scene()
    level = make(Shift(), optimize=["plane"], steps=3, lr=1, optimizer=lbfgs)(image, mask).levels[1]
    first, *others = level.losses[:, 0].tolist()
    assert len(others) == 3 and first > others[0] > others[1] > others[2]


def test_optimizers_may_want_contiguous_gradients():
    """L-BFGS does; the network's own feature maps are channels-last on a CPU."""
    refiner = refine.load("backbone=mini", "refiner.steps=1", "refiner.lr=1")
    refiner.optimizer = lbfgs
    image, mask = torch.rand(1, 3, 256, 256), torch.zeros(1, 1, 256, 256)
    mask[..., 90:160, 90:160] = 1
    assert refiner(image, mask).levels[1].updates.item() == 1


def test_an_optimizer_that_asks_twice_in_one_update_is_refused():
    asks_twice = partial(lbfgs, max_iter=2)
    with pytest.raises(ValueError, match=r"an update is one evaluation; for torch\.optim\.LBFGS set .*max_iter=1"):
        make(Shift(), steps=1, lr=1, optimizer=asks_twice)(*scene())


def test_front_runs_once_per_level():
    backbone = Toy()
    make(backbone, steps=4)(*scene(128, 128))
    assert backbone.fronts == 3


def test_only_the_selected_layers_move():
    seen = []

    class Watched(Shift):
        def rear(self, features):
            seen.append({name: tensor.requires_grad for name, tensor in features.z.items()})
            return super().rear(features)

    make(Watched(), optimize=["other"], steps=1)(*scene())
    assert seen[1] == {"plane": False, "other": True}


def test_known_pixels_are_bit_exact_and_size_is_kept():
    for size in ((64, 64), (65, 71), (49, 200), (1, 1), (7, 90)):
        image, mask = scene(*size)
        refiner = make(steps=1)
        with pytest.warns(UserWarning, match="one level") if min(size) < 46 else nullcontext():
            result = refiner(image, mask)
        assert result.image.shape == image.shape
        assert torch.equal(result.image[mask.expand_as(image) == 0], image[mask.expand_as(image) == 0])


def test_a_batch_equals_its_images_alone():
    image, mask = scene(72, 88, batch=3)
    mask[1] = 0
    mask[2] = 1
    refiner = make(Shift(), steps=3)
    together = refiner(image, mask)
    for b in range(3):
        alone = refiner(image[b : b + 1], mask[b : b + 1])
        assert torch.equal(together.image[b : b + 1], alone.image)
        assert together.levels[1].updates[b] == alone.levels[1].updates[0]
    assert together.levels[1].losses.shape == (4, 3)
    assert together.levels[1].losses[:, 1].isnan().all()  # no hole, nothing compared
    assert together.levels[0].losses.shape == (0, 3)


def test_no_hole_gives_the_image_back_without_running_the_network():
    backbone = Toy()
    image, mask = scene()
    result = make(backbone)(image, torch.zeros_like(mask))
    assert torch.equal(result.image, image)
    assert backbone.fronts == 0
    assert result.levels[1].updates.tolist() == [0]


def test_full_hole_is_refined():
    image, mask = scene()
    result = make(Shift(), steps=2)(image, torch.ones_like(mask))
    assert result.levels[1].guided_fraction.tolist() == [1.0]
    assert result.levels[1].updates.tolist() == [2]


def test_an_empty_erosion_leaves_the_level_unrefined():
    image, mask = scene()
    refiner = Refiner(Shift(), Pyramid(32), MultiscaleL1(31), steps=5)
    with pytest.warns(NothingRefined, match=r"a 64x64: none of its 1 levels was refined.*objective.adaptive=true"):
        result = refiner(image, mask, key="a")
    level = result.levels[1]
    assert level.skipped.tolist() == [True] and result.nothing_refined
    assert level.updates.tolist() == [0]
    assert level.losses.shape == (0, 1)
    assert level.guided_fraction.tolist() == [0.0]
    assert result.image[0, 0, 32, 32].item() == pytest.approx(0.9)


@pytest.mark.parametrize(("steps", "objective"), [(5, MultiscaleL1(31, adaptive=True)), (0, MultiscaleL1(31))])
def test_what_is_refined_or_was_not_to_be_is_no_news(steps, objective):
    image, mask = scene()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = [
            Refiner(Shift(), Pyramid(32), objective, steps=steps)(image, mask),
            Refiner(Shift(), Pyramid(32), MultiscaleL1(31), steps=5)(image, mask * 0),
            Upscaler(Shift(), Pyramid(32), MultiscaleL1(31), steps=5)(image, mask),
        ]
    assert [result.levels[1].updates.item() for result in results] == [steps, 0, 0]
    assert not any(result.nothing_refined for result in results)


def test_the_known_term_still_updates_when_the_erosion_is_empty():
    image, mask = scene()
    result = Refiner(Shift(), Pyramid(32), MultiscaleL1(31, known_weight=1), steps=5)(image, mask)
    assert result.levels[1].updates.tolist() == [5]
    assert result.levels[1].losses.isfinite().all()


def test_one_level_warns_once_and_is_the_plain_prediction():
    refiner = make()
    image, mask = scene(40, 40)
    with pytest.warns(UserWarning, match=r"image 40x40 gives one level \(smallest_side=32\)"):
        first = refiner(image, mask)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refiner(image, mask)
    assert len(first.levels) == 1
    plain = torch.where(mask > 0, refiner.backbone(image, mask).clamp(0, 1), image)
    assert torch.equal(first.image, plain)


def test_a_rising_loss_keeps_the_best_iterate():
    image, mask = scene()
    result = make(Shift(), steps=6, lr=0.35, keep="best")(image, mask)  # overshoots: 0.9 -> 0.55 -> 0.2 ...
    level = result.levels[1]
    losses = level.losses[:, 0]
    assert losses[-1] > losses.min()
    assert level.kept.item() == losses.argmin()
    assert level.updates.item() == 6


def test_the_last_iterate_is_kept_on_request_unless_it_is_worse_than_the_first():
    image, mask = scene()
    good = make(Shift(), steps=3, lr=0.22, keep="last")(image, mask).levels[1]
    assert good.losses.min() < good.losses[-1] < good.losses[0]
    assert good.kept.item() == 3
    bad = make(Shift(), steps=1, lr=5.0, keep="last")(image, mask).levels[1]
    assert bad.losses[1] > bad.losses[0]
    assert bad.kept.item() == 0


class Explodes(Shift):
    """Its prediction becomes NaN as soon as z has moved."""

    def rear(self, features):
        moved = features.z["plane"] != features.z["plane"][0, 0, 0, 0]
        return torch.where(moved.any(), math.nan, super().rear(features))


def test_detail_is_kept_at_every_refined_level():
    """The result is what the Gaussian of so many px of the guide takes from the updates, and the guide of the next."""
    image, mask = scene(128, 128)
    predictions = {}

    def record(step):
        predictions[step.level, step.step] = step.prediction()

    result = make(Shift(), steps=3, lr=0.05, keep="last", keep_detail=1.5)(image, mask, on_step=record)
    before, after = predictions[2, 0], predictions[2, 3]
    assert not torch.equal(before, after)
    torch.testing.assert_close(result.levels[2].prediction, coarse_change(before, after, mask, sigma=1.5 * 2))
    per_level = make(Shift(), steps=3, lr=0.05, keep="last", keep_detail=[0.5, 1.5])(image, mask).levels
    assert not torch.equal(per_level[1].prediction, result.levels[1].prediction)
    plain = make(Shift(), steps=0, keep_detail=1.5)(image, mask)
    assert torch.equal(plain.levels[2].prediction, before)


def test_a_non_finite_loss_keeps_the_best_iterate_and_says_so():
    level = make(Explodes(), steps=5)(*scene()).levels[1]
    assert level.prediction.isfinite().all()
    assert level.updates.tolist() == [1]
    assert level.kept.tolist() == [0]
    assert level.losses[1].isnan().all()


class NeverFinite(Shift):
    """Finite at the coarsest level only."""

    def rear(self, features):
        prediction = super().rear(features)
        return prediction if prediction.shape[-1] <= 32 else prediction * math.nan


def test_without_any_finite_iterate_the_guide_is_enlarged():
    with pytest.warns(NotFinite, match=r"a 64x64: at 1 of its 1 levels no prediction, or no loss, was finite"):
        result = make(NeverFinite(), steps=2)(*scene(), key="a")
    assert result.levels[1].kept.tolist() == [-1]
    assert result.image.isfinite().all()
    assert result.image[0, 0, 32, 32].item() == pytest.approx(0.5, abs=1e-3)


class Loss(MultiscaleL1):
    """A loss of a user's own."""

    def __init__(self, change):
        super().__init__(0)
        self.change = change

    def prepare(self, level, guide):
        comparison = super().prepare(level, guide)
        return replace(comparison, loss=lambda prediction: self.change(comparison.loss(prediction)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda loss: loss.sum(), r"one number per image, shape \(1,\); got \(\)"),
        (lambda loss: loss.view(1, 1, 1, 1).expand(1, 3, 8, 8), r"shape \(1,\); got \(1, 3, 8, 8\)"),
        (lambda loss: loss.detach(), "has no gradient"),
    ],
)
def test_a_loss_that_is_none_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Refiner(Shift(), Pyramid(32), Loss(change), steps=1)(*scene())


def test_a_plain_prediction_that_is_not_finite_is_an_error():
    with pytest.raises(FloatingPointError, match="non-finite"):
        make(Toy(start=math.inf), steps=1)(*scene())


def test_steps_and_lr_per_level():
    image, mask = scene(256, 256)
    result = make(Shift(), steps=[2, 0, 3], lr=[0.01, 0.02])(image, mask)
    assert [level.updates.item() for level in result.levels] == [0, 2, 0, 3]
    shorter = make(Shift(), steps=[1])(image, mask)
    assert [level.updates.item() for level in shorter.levels] == [0, 1, 1, 1]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_works_whatever_the_caller_does_with_gradients(context):
    refiner = make(Shift(), steps=2)
    with context():
        image, mask = scene()
        result = refiner(image, mask)
    assert result.levels[1].updates.tolist() == [2]
    assert not result.image.requires_grad
    assert result.levels[1].losses[-1] < result.levels[1].losses[0]


def test_autocast_of_the_caller_changes_nothing():
    image, mask = scene()
    refiner = make(Shift(), steps=2)
    with torch.autocast("cpu", torch.bfloat16):
        result = refiner(image, mask)
    assert torch.equal(result.image, refiner(image, mask).image)


def test_half_images_are_refined_in_full_precision():
    image, mask = scene()
    image = image.half()
    result = make(Shift(), steps=2)(image, mask.half())
    assert result.image.dtype == torch.float16
    assert torch.equal(result.image[mask.expand_as(image) == 0], image[mask.expand_as(image) == 0])
    assert torch.equal(result.levels[1].losses, make(Shift(), steps=2)(image.float(), mask).levels[1].losses)


def test_on_step_hears_every_evaluation():
    heard = []
    make(Shift(), steps=3)(*scene(128, 128), on_step=heard.append)
    assert [(step.level, step.step) for step in heard] == [
        (1, 0),
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 0),
        (2, 1),
        (2, 2),
        (2, 3),
    ]
    assert heard[0].levels == 3
    assert heard[-1].prediction().shape == (1, 3, 128, 128)
    assert heard[3].loss < heard[0].loss


def test_upscaled_is_the_coarsest_result_enlarged():
    image, mask = scene(128, 128)
    result = Upscaler(Shift(), Pyramid(32), MultiscaleL1(1), steps=0)(image, mask)
    assert len(result.levels) == 2
    assert result.image[0, 0, 64, 64].item() == pytest.approx(0.5, abs=1e-3)
    assert torch.equal(result.image[..., :8, :8], image[..., :8, :8])


def test_one_level_is_the_plain_prediction():
    image, mask = scene(128, 128)
    result = Refiner(Shift(), Pyramid(32, max_levels=1), MultiscaleL1(1), steps=0)(image, mask)
    assert len(result.levels) == 1
    assert result.image[0, 0, 64, 64].item() == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": -1}, "refiner.steps"),
        ({"steps": 1.5}, "refiner.steps"),
        ({"steps": "many"}, "refiner.steps"),
        ({"steps": True}, "refiner.steps"),
        ({"steps": []}, "refiner.steps"),
        ({"lr": 0}, "refiner.lr"),
        ({"lr": [0.1, -1]}, "refiner.lr"),
        ({"lr": math.nan}, "refiner.lr"),
        ({"keep": "first"}, "refiner.keep"),
        ({"keep_detail": 0}, r"refiner\.keep_detail must be px > 0 or null, or a list of such, .*; got 0\."),
        ({"keep_detail": math.inf}, r"refiner\.keep_detail"),
        ({"keep_detail": "much"}, r"refiner\.keep_detail .* got 'much'"),
        ({"tolerance": "much"}, r"refiner\.tolerance must be a share in \[0, 1\)"),
        ({"optimize": ["trunk"]}, "has no layer 'trunk'; it exposes: plane, other"),
        ({"optimize": []}, "given nothing to optimize; it exposes: plane, other. Use preset=plain"),
    ],
)
def test_bad_settings_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)


def bad_inputs():
    image, mask = scene()
    yield "channels", image[:, :1], mask, r"image must be float \(B,3,H,W\)"
    yield "three dimensions", image[0], mask, "image must be"
    yield "integers", (image * 255).to(torch.uint8), mask, r"uint8 \(1,3,64,64\)"
    yield "range", image * 255, mask, r"Divide by its full scale"
    yield "nan", image * math.nan, mask, "image must be RGB in"
    yield "bool mask", image, mask.bool(), r"got bool .*Convert it with mask\.float"
    yield "mask channels", image, mask.expand(-1, 3, -1, -1), "mask must be"
    yield "mask range", image, mask * 255, "1 = hole and 0 = keep"
    yield "gray mask", image, mask * 0.5, "threshold it"
    yield "sizes", image, mask[..., :32], "one size"
    yield "batch", image.expand(2, -1, -1, -1), mask, "one size"
    yield "empty", image[..., :0], mask[..., :0], "image must be"


@pytest.mark.parametrize(("image", "mask", "message"), [pytest.param(*rest, id=name) for name, *rest in bad_inputs()])
def test_inputs_that_break_the_conventions_are_explained(image, mask, message):
    with pytest.raises(ValueError, match=message):
        make()(image, mask)


def test_conditions_must_match_the_levels():
    with pytest.raises(ValueError, match="one mapping per level: 2; got 1"):
        make()(*scene(), conditions=[{}])


def test_conditions_reach_the_front():
    seen = []

    class Conditioned(Toy):
        def front(self, level):
            seen.append(level.conditions["edges"].sum().item())
            return super().front(level)

    image, mask = scene(batch=2)
    edges = [{"edges": torch.tensor([[1.0], [10.0]])}, {"edges": torch.tensor([[2.0], [20.0]])}]
    make(Conditioned(), steps=1)(image, mask, conditions=edges)
    assert seen == [1.0, 2.0, 10.0, 20.0]


def test_double_precision_backbone():
    image, mask = scene()
    result = make(Shift().double(), steps=2)(image.double(), mask.double())
    assert result.image.dtype == torch.float64
    assert result.levels[1].losses[-1] < result.levels[1].losses[0]


def test_tolerance_ends_a_level_that_has_settled():
    image, mask = scene()
    result = make(Shift(), steps=40, lr=0.05, tolerance=0.05)(image, mask)
    level = result.levels[1]
    updates = level.updates.item()
    assert 3 <= updates < 40
    assert level.losses.shape == (updates + 1, 1)
    losses = level.losses[:, 0]
    assert losses[-4] - losses[-1] < 0.05 * losses[-4]
    assert all(losses[k - 3] - losses[k] >= 0.05 * losses[k - 3] for k in range(3, updates))


def test_losses_of_images_that_ended_early_repeat_in_a_batch():
    image, mask = scene(batch=2)
    mask[1, :, 20:44, 20:28] = 0
    image[1] = 0.1
    refiner = make(Shift(), steps=40, lr=[0.05], tolerance=0.05)
    level = refiner(image, mask).levels[1]
    alone = [refiner(image[b : b + 1], mask[b : b + 1]).levels[1] for b in range(2)]
    for b in range(2):
        losses = alone[b].losses[:, 0]
        assert torch.equal(level.losses[: len(losses), b], losses)
        assert (level.losses[len(losses) :, b] == losses[-1]).all()


@pytest.mark.parametrize("tolerance", [-0.1, 1, 2])
def test_a_tolerance_out_of_range_is_refused(tolerance):
    with pytest.raises(ValueError, match=r"refiner\.tolerance"):
        make(tolerance=tolerance)


class Product(Toy):
    """A product and a sine, which keep their inputs."""

    def rear(self, features):
        return (features.z["plane"] * self.weight).sin() * features.z["plane"] + features.z["other"]


def compiled():
    return make(Product(), steps=3, compile=True)(*scene(seed=5)), make(Product(), steps=3)(*scene(seed=5))


def test_compilation_takes_the_place_of_the_rules(monkeypatch):
    calls = []
    real = torch.compile

    def watched(function, **settings):
        eager = real(function, backend="aot_eager", **settings)
        return lambda *args: (calls.append(torch.is_grad_enabled()), eager(*args))[1]

    monkeypatch.setattr(torch, "compile", watched)
    got, expected = compiled()
    assert calls == [True] * 3  # neither the coarsest level nor the final forward pass is worth it
    assert torch.equal(got.image, expected.image)


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_in_earnest():
    got, expected = compiled()
    assert (got.image - expected.image).abs().max() < 1e-5


@pytest.mark.parametrize("how", [{"gradient_checkpointing": True}, {"precision": "bf16"}])
def test_compilation_stands_alone(how):
    with pytest.raises(ValueError, match=r"refiner\.compile=true excludes"):
        make(compile=True, **how)
