"""Multiscale feature refinement: Algorithm 1 of Kulshreshtha, Pugh and Jiddi (2022).

``multiscale_inpaint`` of the paper is :meth:`Refiner._refine_image`, ``predict_and_refine`` is
:meth:`Refiner._refine_level`. This is the only file that computes gradients.
"""

import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from refine.autograd import selective
from refine.autograd.precision import checked_precision, run_in
from refine.core.backbone import FrontRear
from refine.core.composite import composite
from refine.core.history import OptimizationHistory
from refine.core.notices import warn_of_nothing_refined, warn_of_one_level
from refine.core.objective import Objective
from refine.core.optimization import changed, single_evaluation, trainable_copy
from refine.core.per_level import at_level, numbers, positive
from refine.core.pyramid import Pyramid, enlarge, make_level
from refine.core.types import Features, Level, LevelResult, Refinement, Sample, Step, check_inputs
from refine.core.window import Window
from refine.core.windows import Windows, in_windows

FLOAT16_SCALE = 2**12  # of the loss
OnStep = Callable[[Step], None]
Tell = Callable[..., None]  # of update, loss and prediction


class Refiner:
    """Fills holes with a trained network and refines the fill level by level, coarse to fine.

    The coarsest level is the network's plain prediction (paper, section 2). At each further level the features
    ``z_0 = front(image, mask)`` are computed once, then moved against the gradient of the objective L::

        z_(k+1) = Adam(z_k, dL/dz (z_k)),    k = 0 ... n - 1
        result  = composite(rear(z_m)),      m = n for keep="last",  m = argmin_k L(z_k) for keep="best"

    With n = ``steps`` updates rear and loss are evaluated n + 1 times: once before each update, with gradient, and once
    for the final forward pass, without. The result is the guide of the next level. The paper has n = 15 and a learning
    rate of 0.002 (section 3; its Algorithm 1 names 0.001), and returns the last iterate. ``keep_detail`` composites
    ``rear(z_0) + G * (rear(z_m) - rear(z_0))`` instead, G a Gaussian: structure of the guide, detail of the network.

    Args:
        backbone: Network, cut into front and rear.
        pyramid: Pyramid that makes the levels.
        objective: Loss L between a prediction and the result of the coarser level.
        optimize: Names of the tensors at the cut that are optimized, out of ``backbone.layers``; None for all of them.
        steps: Updates per level, >= 0. A list gives one number per refined level, coarse to fine; its last entry holds
            for all further levels.
        lr: Learning rate, > 0; a list as for ``steps``.
        optimizer: Function that makes an optimizer of a list of tensors and ``lr``.
        keep: Iterate that becomes the result. ``best`` has the lowest loss; ``last`` is the last, unless its loss is
            not finite or above the loss before the first update: then the best.
        keep_detail: Standard deviation of G, px of the guide, > 0, or a list; None for rear(z_m) itself, as the paper.
        frozen: True differentiates the rear by the rules of :mod:`refine.autograd.selective`: the same gradient, bit by
            bit, from a fraction of the memory. False is the control.
        gradient_checkpointing: True keeps still less of the rear and computes it again for the gradient.
        precision: Precision of the network, ``32``, ``bf16`` or ``16``; Fourier transforms, loss and z keep float32.
        tolerance: Relative decrease of the loss over 3 updates below which a level ends, in [0, 1), or a list; 0 never.
        window: ``auto`` refines finer levels around their holes alone, see :mod:`refine.core.windows`; a number is also
            the largest side of a window, px. None refines whole levels, as the paper does.
        context: Width of what a window shows around its hole, px of the level, >= 1; None for half the native size.
        compile: True runs the rear through ``torch.compile`` in place of the rules: it needs a C++ compiler on the CPU,
            takes minutes for the first update at each size, and keeps more than the rules do.

    Raises:
        ValueError: If there is no such layer, a number is out of range, or settings exclude each other.
    """

    def __init__(
        self,
        backbone: FrontRear,
        pyramid: Pyramid,
        objective: Objective,
        optimize: Sequence[str] | None = None,
        steps: int | Sequence[int] = 15,
        lr: float | Sequence[float] = 2e-3,
        optimizer: Callable[..., Optimizer] = Adam,
        keep: Literal["best", "last"] = "best",
        keep_detail: float | Sequence[float] | None = None,
        frozen: bool = True,
        gradient_checkpointing: bool = False,
        precision: str | int = "32",
        tolerance: float | Sequence[float] = 0.0,
        compile: bool = False,
        window: int | Literal["auto"] | None = None,
        context: int | None = None,
    ) -> None:
        self.backbone = backbone
        self.pyramid = pyramid
        self.objective = objective
        self.steps = numbers("refiner.steps", steps, int, "an integer >= 0", lambda n: n >= 0)
        self.lr = numbers("refiner.lr", lr, float, "a number > 0", positive)
        self.optimize = backbone.checked_layers(optimize, needed=any(self.steps))
        self.optimizer = optimizer
        if keep not in ("best", "last"):
            raise ValueError(f"refiner.keep must be 'best' or 'last'; got {keep!r}.")
        self.keep = keep
        self.keep_detail: tuple[float, ...] = ()
        if keep_detail is not None:
            self.keep_detail = numbers("refiner.keep_detail", keep_detail, float, "px > 0 or null", positive)
        self.gradient_checkpointing = gradient_checkpointing
        self.precision = checked_precision(precision)
        self.tolerance = numbers("refiner.tolerance", tolerance, float, "a share in [0, 1)", lambda x: 0 <= x < 1)
        if compile and (gradient_checkpointing or self.precision != "32"):
            raise ValueError(
                "refiner.compile=true excludes refiner.gradient_checkpointing=true and a refiner.precision other than "
                f"32; got gradient_checkpointing={gradient_checkpointing}, precision={self.precision}."
            )
        self.windows = Windows.of(window, context, backbone)
        self.compiled = torch.compile(backbone.rear, dynamic=False) if compile else None
        self.rules = frozen and not compile
        self._warned = False

    def to(self, device: torch.device | str) -> "Refiner":
        """Move the backbone; each image is moved to it when it is refined.

        Args:
            device: Torch device, such as ``cuda``.
        """
        self.backbone.to(device)
        return self

    def __call__(
        self,
        image: Tensor,
        mask: Tensor,
        conditions: Sequence[Mapping[str, Tensor]] | None = None,
        on_step: OnStep | None = None,
        key: str = "",
    ) -> Refinement:
        """Fill the hole of each image. Works under ``no_grad``, ``inference_mode`` and ``autocast`` alike.

        Args:
            image: Image, ``(B, 3, H, W)``, RGB in [0, 1].
            mask: Mask, ``(B, 1, H, W)``, 1 = hole, 0 = known.
            conditions: Extra inputs of the backbone, one mapping per level; None if the backbone makes them itself.
            on_step: Function called at every evaluation of the loss.
            key: Name of the sample; it seeds what is random in the backbone's conditions.

        Returns:
            The result at the input's size and on its device.

        Raises:
            ValueError: If image or mask breaks the conventions.
            FloatingPointError: If the backbone's plain prediction is not finite.
        """
        check_inputs(image, mask)
        device = self.backbone.device
        dtype = torch.promote_types(image.dtype, torch.float32)
        # Inference tensors cannot take part in differentiation; leaving the mode and cloning makes ordinary ones.
        no_autocast = torch.autocast(device.type, enabled=False)
        with torch.inference_mode(False), torch.no_grad(), no_autocast:
            image, mask = _ordinary(image), _ordinary(mask)
            refined = []
            for b in range(image.shape[0]):
                sample = Sample(key, image[b : b + 1].to(device, dtype), mask[b : b + 1].to(device, dtype))
                inputs = conditions and [{k: v[b : b + 1] for k, v in level.items()} for level in conditions]
                refined.append(self._refine_image(sample, inputs, on_step))
            result = Refinement.stack(refined)
            same = (image.device, image.dtype) == (device, dtype)  # then known pixels are this image's already
            return result if same else replace(result, image=composite(result.image, image, mask))

    def _scales(self, sample: Sample) -> list[tuple[Tensor, Tensor]]:
        return self.pyramid.scales(sample.image, sample.mask)

    def _levels(self, sample: Sample, conditions: Sequence[Mapping[str, Tensor]] | None) -> tuple[Level, ...]:
        """The levels; one that is refined in windows is not padded and has no conditions, its parts will."""
        scales = self._scales(sample)
        cover = self.windows.cover([mask for _, mask in scales]) if self.windows else [()] * len(scales)
        pairs = zip(scales, cover, strict=True)
        levels = [replace(make_level(*s), windows=found) if found else self._padded(*s) for s, found in pairs]
        whole = [level for level in levels if not level.windows]
        if conditions is None:
            conditions = self.backbone.conditions(sample, whole)
        if len(conditions) != len(whole):
            raise ValueError(f"conditions must hold one mapping per level: {len(whole)}; got {len(conditions)}.")
        given = iter(conditions)
        return tuple(level if level.windows else replace(level, conditions=next(given)) for level in levels)

    def _padded(self, image: Tensor, mask: Tensor) -> Level:
        return make_level(image, mask, self.backbone.multiple_of, self.backbone.minimum_side, self.pyramid.padding)

    def _refine_image(
        self, sample: Sample, conditions: Sequence[Mapping[str, Tensor]] | None, on_step: OnStep | None
    ) -> Refinement:
        """``multiscale_inpaint`` of Algorithm 1, for one image."""
        levels = self._levels(sample, conditions)
        if len(levels) == 1 and not self._warned and self.pyramid.max_levels != 1:
            self._warned = True
            warn_of_one_level(levels[0].size, self.pyramid.smallest_side)
        if not sample.mask.any():
            start = time.perf_counter()
            return Refinement(sample.image.clone(), tuple(LevelResult.of(x, x.crop(x.image), start) for x in levels))
        results: list[LevelResult] = []
        for index, level in enumerate(levels):
            guide = results[-1].image if results else level.image
            tell = functools.partial(_tell, on_step, index, len(levels), at_level(self.steps, index))
            if level.windows:
                part = functools.partial(self._refine_window, sample.key, level, index, tell)
                results.append(in_windows(level, guide, part))
            else:
                results.append(self._refine_level(level, guide, index, tell) if index else self._predict(level))
        refinement = Refinement(results[-1].image, tuple(results))
        if refinement.nothing_refined:
            warn_of_nothing_refined(sample.key, levels[-1].size, len(levels) - 1)
        return refinement

    def _refine_window(
        self, key: str, level: Level, index: int, tell: Tell, window: Window, guide: Tensor
    ) -> LevelResult:
        """One window of a level; of a level alone, whose guide is itself, the plain prediction."""
        sample = Sample(key, window.of(level.image), window.of(level.mask))
        part = self.backbone.level_of(sample, self.pyramid.padding)
        tell = functools.partial(tell, place=functools.partial(window.placed, level.image))
        return self._refine_level(part, guide, index, tell) if index else self._predict(part)

    def _predict(self, level: Level) -> LevelResult:
        """The plain prediction of the coarsest level; no graph is built."""
        start = time.perf_counter()
        prediction = level.crop(self._rear(level, self._front(level)))
        if not prediction.isfinite().all():
            raise FloatingPointError(
                "the backbone's plain prediction has non-finite values; check its weights, or use refiner.precision=32."
            )
        return LevelResult.of(level, prediction, start)

    def _refine_level(self, level: Level, guide: Tensor, index: int, tell: Tell) -> LevelResult:
        """``predict_and_refine`` of Algorithm 1."""
        start = time.perf_counter()
        comparison = self.objective.prepare(level, guide)
        features = self._front(level)
        z = {name: trainable_copy(features.z[name]) for name in self.optimize}
        features = replace(features, z={**features.z, **z})
        planned = at_level(self.steps, index)
        steps = planned if bool(comparison.has_pixels) else 0
        optimizer = self.optimizer(z.values(), lr=at_level(self.lr, index)) if steps else None
        history = OptimizationHistory(self.keep)
        for update in range(steps + 1):
            with torch.set_grad_enabled(update < steps):  # the last is the final forward pass
                prediction = self._rear(level, features)
                loss = comparison.loss(prediction).sum()
            value, detached = loss.item(), level.crop(prediction.detach())
            finite = history.add(value, detached)
            if update == 0:
                first = detached
            tell(update, value, detached)
            if not finite or optimizer is None or update == steps or history.settled(at_level(self.tolerance, index)):
                break
            optimizer.zero_grad()
            self._differentiate(loss, z.values())
            optimizer.step(single_evaluation(loss))
        prediction, kept = history.result(fallback=lambda: enlarge(guide, level.size))
        if kept > 0:
            sigma = at_level(self.keep_detail, index) * self.pyramid.factor if self.keep_detail else None
            prediction = changed(first, prediction, level.crop(level.mask), comparison.refined, sigma)
        losses = history.losses if bool(comparison.has_pixels) else []
        guided = float(comparison.guided_fraction)
        return LevelResult.of(level, prediction, start, losses, kept, guided, skipped=steps < planned)

    def _differentiate(self, loss: Tensor, z: Iterable[Tensor]) -> None:
        """Give z its gradient; the means in the loss make it small, too small for float16 unless scaled."""
        scale = FLOAT16_SCALE if self.precision == "16" or self.backbone.dtype == torch.float16 else 1
        loss.backward(torch.full_like(loss, scale))  # type: ignore[no-untyped-call]
        for tensor in z if scale > 1 else ():
            if tensor.grad is not None:
                tensor.grad /= scale

    def _front(self, level: Level) -> Features:
        dtype = self.backbone.dtype
        with run_in(self.precision, level.image.device):
            return self.backbone.front(replace(level, image=level.image.to(dtype), mask=level.mask.to(dtype)))

    def _rear(self, level: Level, features: Features) -> Tensor:
        blocks = self.backbone.blocks if self.gradient_checkpointing else None
        rear = self.compiled if self.compiled and torch.is_grad_enabled() else self.backbone.rear
        if self.precision == "32" and self.backbone.dtype in (torch.float16, torch.bfloat16):  # z is float32
            z = {name: features.z[name].to(self.backbone.dtype) for name in self.optimize}
            features = replace(features, z={**features.z, **z})
        within = functools.partial(run_in, self.precision, level.image.device)
        return selective.run(rear, features, rules=self.rules, blocks=blocks, within=within).to(level.image.dtype)


def _ordinary(tensor: Tensor) -> Tensor:
    return tensor.clone() if tensor.is_inference() else tensor


def _tell(
    on_step: OnStep | None, level: int, levels: int, steps: int,
    step: int, loss: float, prediction: Tensor, place: Callable[[Tensor], Tensor] = torch.clone,
) -> None:  # fmt: skip
    if on_step is not None:
        on_step(Step(level, levels, step, steps, loss, lambda: place(prediction)))
