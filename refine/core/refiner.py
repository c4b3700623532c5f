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
from refine.core.optimization import coarse_change, single_evaluation, trainable_copy
from refine.core.per_level import at_level, numbers, positive
from refine.core.pyramid import Pyramid, enlarge
from refine.core.types import Features, Level, LevelResult, Refinement, Sample, Step, check_inputs

FLOAT16_SCALE = 2**12  # of the loss
OnStep = Callable[[Step], None]


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
        precision: Precision of the network, ``32``, ``bf16`` or ``16``; Fourier transforms, loss, z and optimizer stay
            in float32.
        tolerance: Relative decrease of the loss over 3 updates below which a level ends, in [0, 1), or a list; 0 never.
        compile: True runs the rear through ``torch.compile`` in place of the rules: it needs a C++ compiler on the CPU,
            takes minutes for the first update at each size, and keeps more than the rules do.

    Raises:
        ValueError: If a name is not one of the backbone's layers, a number is out of range, or settings exclude each
            other.
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
    ) -> None:
        self.backbone = backbone
        self.pyramid = pyramid
        self.objective = objective
        self.steps = numbers("refiner.steps", steps, int, "an integer >= 0", lambda n: n >= 0)
        self.lr = numbers("refiner.lr", lr, float, "a number > 0", positive)
        self.optimize = self._checked_layers(optimize)
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
                "refiner.compile=true compiles the rear as a whole in float32; got gradient_checkpointing="
                f"{gradient_checkpointing}, precision={self.precision}. Set refiner.gradient_checkpointing=false and "
                "refiner.precision=32, or refiner.compile=false."
            )
        self._compiled = torch.compile(backbone.rear, dynamic=False) if compile else None
        self.rules = frozen and not compile
        self._warned = False

    def _checked_layers(self, optimize: Sequence[str] | None) -> tuple[str, ...]:
        layers = self.backbone.layers
        name = self.backbone.name or type(self.backbone).__name__
        selected = layers if optimize is None else [optimize] if isinstance(optimize, str) else optimize
        available = ", ".join(layers) or "none"
        for layer in selected:
            if layer not in layers:
                raise ValueError(
                    f"backbone '{name}' has no layer '{layer}'; it exposes: {available}. "
                    "Set refiner.optimize to some of these."
                )
        if not selected and any(self.steps):
            raise ValueError(
                f"backbone '{name}' is given nothing to optimize; it exposes: {available}. Use preset=plain, or set "
                "refiner.optimize to some of these."
            )
        return tuple(selected)

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
            return replace(result, image=composite(result.image, image, mask))

    def _levels(self, sample: Sample, conditions: Sequence[Mapping[str, Tensor]] | None) -> tuple[Level, ...]:
        backbone = self.backbone
        levels = self.pyramid(sample.image, sample.mask, backbone.multiple_of, backbone.minimum_side)
        if conditions is None:
            conditions = backbone.conditions(sample, levels)
        if len(conditions) != len(levels):
            raise ValueError(f"conditions must hold one mapping per level: {len(levels)}; got {len(conditions)}.")
        return tuple(replace(level, conditions=c) for level, c in zip(levels, conditions, strict=True))

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
            unchanged = (LevelResult.of(level, level.crop(level.image), start) for level in levels)
            return Refinement(sample.image, tuple(unchanged))
        results = [self._predict(levels[0])]
        for index, level in enumerate(levels[1:], start=1):
            report = _reporter(on_step, index, len(levels), at_level(self.steps, index))
            results.append(self._refine_level(level, results[-1].image, index, report))
        refinement = Refinement(results[-1].image, tuple(results))
        if refinement.nothing_refined:
            warn_of_nothing_refined(sample.key, levels[-1].size, len(levels) - 1)
        return refinement

    def _predict(self, level: Level) -> LevelResult:
        """The plain prediction of the coarsest level; no graph is built."""
        start = time.perf_counter()
        prediction = level.crop(self._rear(level, self._front(level)))
        if not prediction.isfinite().all():
            raise FloatingPointError(
                "the backbone's plain prediction has non-finite values; check its weights, or use refiner.precision=32."
            )
        return LevelResult.of(level, prediction, start)

    def _refine_level(self, level: Level, guide: Tensor, index: int, report: Callable[..., None]) -> LevelResult:
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
            if update == 0 and self.keep_detail:
                before = detached
            report(update, value, detached)
            if not finite or optimizer is None or update == steps or history.settled(at_level(self.tolerance, index)):
                break
            optimizer.zero_grad()
            self._differentiate(loss, z.values())
            optimizer.step(single_evaluation(loss))
        prediction, kept = history.result(fallback=lambda: enlarge(guide, level.size))
        if self.keep_detail and kept > 0:
            sigma = at_level(self.keep_detail, index) * self.pyramid.factor
            prediction = coarse_change(before, prediction, level.crop(level.mask), sigma)
        losses = history.losses if bool(comparison.has_pixels) else []
        guided_fraction = float(comparison.guided_fraction)
        return LevelResult.of(level, prediction, start, losses, kept, guided_fraction, skipped=steps < planned)

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
        rear = self._compiled if self._compiled and torch.is_grad_enabled() else self.backbone.rear
        if self.precision == "32" and self.backbone.dtype in (torch.float16, torch.bfloat16):  # z is float32
            z = {name: features.z[name].to(self.backbone.dtype) for name in self.optimize}
            features = replace(features, z={**features.z, **z})
        within = functools.partial(run_in, self.precision, level.image.device)
        return selective.run(rear, features, rules=self.rules, blocks=blocks, within=within).to(level.image.dtype)


class Upscaler(Refiner):
    """The control of the paper's Fig. 3: the coarsest result, enlarged and composited, without refinement."""

    def _levels(self, sample: Sample, conditions: Sequence[Mapping[str, Tensor]] | None) -> tuple[Level, ...]:
        levels = super()._levels(sample, conditions)
        return levels if len(levels) == 1 else (levels[0], levels[-1])

    def _refine_level(self, level: Level, guide: Tensor, index: int, report: Callable[..., None]) -> LevelResult:
        start = time.perf_counter()
        return LevelResult.of(level, enlarge(guide, level.size), start)


def _ordinary(tensor: Tensor) -> Tensor:
    return tensor.clone() if tensor.is_inference() else tensor


def _reporter(on_step: OnStep | None, level: int, levels: int, steps: int) -> Callable[..., None]:
    def report(step: int, loss: float, prediction: Tensor) -> None:
        if on_step is not None:
            on_step(Step(level, levels, step, steps, loss, lambda: prediction.clone()))

    return report
