"""Multiscale feature refinement: Algorithm 1 of Kulshreshtha, Pugh and Jiddi (2022).

``multiscale_inpaint`` of the paper is :meth:`Refiner._refine_image`, ``predict_and_refine`` is
:meth:`Refiner._refine_level`. This is the only file that differentiates.
"""

import functools
import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from refine.autograd import selective as frozen
from refine.autograd.precision import checked_precision, run_in
from refine.core.backbone import FrontRear
from refine.core.history import OptimizationHistory
from refine.core.objective import Objective
from refine.core.per_level import at_level, numbers
from refine.core.pyramid import Pyramid, enlarge
from refine.core.types import Features, Level, LevelResult, Refinement, Sample, Step, check_inputs

FLOAT16_SCALE = 2**12  # of the loss
OnStep = Callable[[Step], None]


class Refiner:
    """Fills holes with a trained network and refines the fill level by level.

    Args:
        backbone: The network, cut in front and rear.
        pyramid: Builds the levels.
        objective: What agreement with the coarser level means.
        optimize: Names of the tensors at the cut that move, out of ``backbone.layers``; None for all of them.
        steps: Updates per level. A list gives one number per refined level, coarse to fine; its last entry goes on
            for any further level.
        lr: Learning rate; a list as for ``steps``.
        optimizer: Takes the tensors and ``lr``.
        keep: Which iterate becomes the result. ``best`` takes the one of lowest loss. ``last`` takes the last, as the
            paper does, unless its loss is non-finite or above the one the level began with; then the best.
        frozen: Differentiate the rear by the rules of :mod:`refine.autograd.selective`: the same gradient, bit by bit,
            from a fraction of the memory. False is the control.
        checkpoint: Keep still less of the rear and compute it again for the gradient.
        precision: ``32``, or ``bf16`` or ``16`` for the network alone: Fourier transforms, loss, z and optimizer stay
            in float32.
        compile: Run the rear through ``torch.compile`` in place of the rules: it needs a C++ compiler on the CPU, takes
            minutes for the first update at each size, and keeps more than the rules do.
        tolerance: End a level when its loss fell by less than this share of itself over three updates; 0 for never.

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
        frozen: bool = True,
        checkpoint: bool = False,
        precision: str | int = "32",
        tolerance: float = 0.0,
        compile: bool = False,
    ) -> None:
        self.backbone = backbone
        self.pyramid = pyramid
        self.objective = objective
        self.steps = numbers("refiner.steps", steps, int, "an integer >= 0", lambda n: n >= 0)
        self.lr = numbers("refiner.lr", lr, float, "a number > 0", lambda x: 0 < x < math.inf)
        self.optimize = self._checked_layers(optimize)
        self.optimizer = optimizer
        if keep not in ("best", "last"):
            raise ValueError(f"refiner.keep must be 'best' or 'last'; got {keep!r}.")
        self.keep = keep
        self.checkpoint = checkpoint
        self.precision = checked_precision(precision)
        if not 0 <= tolerance < 1:
            raise ValueError(f"refiner.tolerance must be in [0, 1), a share of the loss; got {tolerance}.")
        self.tolerance = tolerance
        if compile and (checkpoint or self.precision != "32"):
            raise ValueError(
                f"refiner.compile=true compiles the rear as a whole in float32; got checkpoint={checkpoint}, precision="
                f"{self.precision}. Set refiner.checkpoint=false and refiner.precision=32, or refiner.compile=false."
            )
        self._compiled = torch.compile(backbone.rear, dynamic=False) if compile else None
        self.rules = frozen and not compile
        self._warned = False

    def _checked_layers(self, optimize: Sequence[str] | None) -> tuple[str, ...]:
        layers = self.backbone.layers
        name = self.backbone.name or type(self.backbone).__name__
        if optimize is None:
            chosen: Sequence[str] = layers
        else:
            chosen = [optimize] if isinstance(optimize, str) else optimize
        for layer in chosen:
            if layer not in layers:
                raise ValueError(
                    f"backbone '{name}' has no layer '{layer}'; it exposes: {', '.join(layers) or 'none'}. "
                    "Set refiner.optimize to some of these."
                )
        if not chosen and any(self.steps):
            raise ValueError(
                f"backbone '{name}' is given nothing to optimize; it exposes: {', '.join(layers) or 'none'}. Use "
                "preset=off, or set refiner.optimize to some of these."
            )
        return tuple(chosen)

    def to(self, device: torch.device | str) -> "Refiner":
        """Move the backbone; images given later follow it.

        Args:
            device: For example ``cuda``.
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
            image: ``(B, 3, H, W)`` RGB in [0, 1].
            mask: ``(B, 1, H, W)``, 1 = hole, 0 = known.
            conditions: Extra inputs of the backbone, one mapping per level; None lets the backbone make them.
            on_step: Told every evaluation of the loss.
            key: Seeds what is random in the backbone's conditions.

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
        plain = torch.autocast(device.type, enabled=False)
        with torch.inference_mode(False), torch.no_grad(), plain:
            image, mask = _ordinary(image), _ordinary(mask)
            refined = []
            for b in range(image.shape[0]):
                sample = Sample(key, image[b : b + 1].to(device, dtype), mask[b : b + 1].to(device, dtype))
                own = conditions and [{k: v[b : b + 1] for k, v in level.items()} for level in conditions]
                refined.append(self._refine_image(sample, own, on_step))
            result = Refinement.stack(refined)
            return replace(result, image=torch.where(mask > 0, result.image.to(image), image))

    def _levels(self, sample: Sample, conditions: Sequence[Mapping[str, Tensor]] | None) -> tuple[Level, ...]:
        backbone = self.backbone
        levels = self.pyramid(sample.image, sample.mask, backbone.multiple_of, backbone.minimum_side)
        if conditions is None:
            conditions = backbone.conditions(sample, levels)
        if len(conditions) != len(levels):
            raise ValueError(f"conditions must hold one mapping per level: {len(levels)}; got {len(conditions)}.")
        return tuple(replace(level, conditions=own) for level, own in zip(levels, conditions, strict=True))

    def _refine_image(
        self, sample: Sample, conditions: Sequence[Mapping[str, Tensor]] | None, on_step: OnStep | None
    ) -> Refinement:
        """``multiscale_inpaint`` of Algorithm 1, for one image."""
        levels = self._levels(sample, conditions)
        self._warn_if_single(levels)
        if not sample.mask.any():
            return Refinement(sample.image, tuple(_untouched(level) for level in levels))
        results = [self._predict(levels[0])]
        for index, level in enumerate(levels[1:], start=1):
            tell = _teller(on_step, index, len(levels), at_level(self.steps, index))
            results.append(self._refine_level(level, results[-1].image, index, tell))
        return Refinement(results[-1].image, tuple(results))

    def _predict(self, level: Level) -> LevelResult:
        """The plain prediction of the coarsest level; no graph is built."""
        start = time.perf_counter()
        prediction = level.crop(self._rear(level, self._front(level)))
        if not prediction.isfinite().all():
            raise FloatingPointError(
                "the backbone's plain prediction has non-finite values; check its weights, or use refiner.precision=32."
            )
        return _result(level, prediction, [], 0, 0.0, start)

    def _refine_level(self, level: Level, guide: Tensor, index: int, tell: Callable[..., None]) -> LevelResult:
        """``predict_and_refine`` of Algorithm 1."""
        start = time.perf_counter()
        comparison = self.objective.prepare(level, guide)
        features = self._front(level)
        z = {name: _leaf(features.z[name]) for name in self.optimize}
        features = replace(features, z={**features.z, **z})
        steps = at_level(self.steps, index) if bool(comparison.has_pixels) else 0
        optimizer = self.optimizer(z.values(), lr=at_level(self.lr, index)) if steps else None
        iterates = OptimizationHistory(self.keep)
        for update in range(steps + 1):
            with torch.set_grad_enabled(update < steps):  # the last is the final forward pass
                prediction = self._rear(level, features)
                loss = comparison.loss(prediction).sum()
            value, seen = loss.item(), level.crop(prediction.detach())
            finite = iterates.add(value, seen)
            tell(update, value, seen)
            if not finite or optimizer is None or update == steps or iterates.settled(self.tolerance):
                break
            optimizer.zero_grad()
            self._differentiate(loss, z.values())
            optimizer.step(_once(loss))
        prediction, kept = iterates.chosen(fallback=lambda: enlarge(guide, level.size))
        losses = iterates.losses if bool(comparison.has_pixels) else []
        return _result(level, prediction, losses, kept, float(comparison.guided_fraction), start)

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
        blocks = self.backbone.blocks if self.checkpoint else None
        rear = self._compiled if self._compiled and torch.is_grad_enabled() else self.backbone.rear
        if self.precision == "32" and self.backbone.dtype in (torch.float16, torch.bfloat16):  # z is wider, see _leaf
            z = {name: features.z[name].to(self.backbone.dtype) for name in self.optimize}
            features = replace(features, z={**features.z, **z})
        within = functools.partial(run_in, self.precision, level.image.device)
        return frozen.run(rear, features, rules=self.rules, blocks=blocks, within=within).to(level.image.dtype)

    def _warn_if_single(self, levels: tuple[Level, ...]) -> None:
        if len(levels) > 1 or self._warned or self.pyramid.max_levels == 1:
            return
        self._warned = True
        height, width = levels[0].size
        warnings.warn(
            f"image {width}x{height} gives one level (smallest_side={self.pyramid.smallest_side}): nothing to refine "
            "against; returned the plain prediction.",
            stacklevel=4,
        )


class Upscaler(Refiner):
    """The control of the paper's Fig. 3: the coarsest result, enlarged and composited, without refinement."""

    def _levels(self, sample: Sample, conditions: Sequence[Mapping[str, Tensor]] | None) -> tuple[Level, ...]:
        levels = super()._levels(sample, conditions)
        return levels if len(levels) == 1 else (levels[0], levels[-1])

    def _refine_level(self, level: Level, guide: Tensor, index: int, tell: Callable[..., None]) -> LevelResult:
        start = time.perf_counter()
        return _result(level, enlarge(guide, level.size), [], 0, 0.0, start)


def _leaf(tensor: Tensor) -> Tensor:
    """A copy to optimize, at least in float32; contiguous, as optimizers such as L-BFGS want it and its gradient."""
    wide = torch.promote_types(tensor.dtype, torch.float32)
    return tensor.detach().to(wide, copy=True, memory_format=torch.contiguous_format).requires_grad_()


def _once(loss: Tensor) -> Callable[[], float]:
    """Tells an optimizer that asks, such as L-BFGS, the loss whose gradient z has already; an update is one evaluation.

    Raises:
        ValueError: From the closure, if it asks again in the same update.
    """
    given = [loss.item()]

    def closure() -> float:
        if not given:
            raise ValueError(
                "refiner.optimizer evaluates the loss several times per update, but an update is one evaluation; for "
                "torch.optim.LBFGS set +refiner.optimizer.max_iter=1 and no line search."
            )
        return given.pop()

    return closure


def _ordinary(tensor: Tensor) -> Tensor:
    return tensor.clone() if tensor.is_inference() else tensor


def _teller(on_step: OnStep | None, level: int, levels: int, steps: int) -> Callable[..., None]:
    def tell(step: int, loss: float, prediction: Tensor) -> None:
        if on_step is not None:
            on_step(Step(level, levels, step, steps, loss, lambda: prediction.clone()))

    return tell


def _result(
    level: Level, prediction: Tensor, losses: list[float], kept: int, guided_fraction: float, start: float
) -> LevelResult:
    """Clamp, composite and account for one level of one image."""
    known = level.crop(level.image)
    return LevelResult(
        prediction=prediction,
        image=torch.where(level.crop(level.mask) > 0, prediction.clamp(0, 1), known),
        losses=torch.tensor(losses, dtype=torch.float64).unsqueeze(1),
        updates=torch.tensor([max(0, len(losses) - 1)]),
        kept=torch.tensor([kept]),
        guided_fraction=torch.tensor([guided_fraction]),
        seconds=time.perf_counter() - start,
    )


def _untouched(level: Level) -> LevelResult:
    """The level of an image without a hole."""
    return _result(level, level.crop(level.image), [], 0, 0.0, time.perf_counter())
