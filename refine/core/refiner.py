"""Multiscale feature refinement: Algorithm 1 of Kulshreshtha, Pugh and Jiddi (2022).

``multiscale_inpaint`` of the paper is :meth:`Refiner._refine_image`; ``predict_and_refine`` is
:class:`refine.core.level_refinement.LevelRefinement`, and an update of it stands in :mod:`refine.core.updates`.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from refine.autograd.precision import checked_precision
from refine.core.backbone import FrontRear
from refine.core.blend import Blend, blended, checked_blend
from refine.core.choices import Keep, check_compile, check_graph, checked_auto, checked_keep, choice
from refine.core.composite import composite
from refine.core.execution import Execution
from refine.core.graphs import Graphs
from refine.core.history import Tell
from refine.core.inputs import check_inputs, checked_keys
from refine.core.level_refinement import LevelRefinement, unrefined
from refine.core.notices import warn_of_levels, warn_of_one_level
from refine.core.numerics import numerics
from refine.core.objective import Objective
from refine.core.optimization import keeps_images_apart
from refine.core.per_level import at_level, numbers, positive
from refine.core.pyramid import Pyramid, make_level
from refine.core.types import Level, LevelResult, Refinement, Sample, Step
from refine.core.window import Window
from refine.core.windows import Windows, in_windows

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
            bit, from a fraction of the memory. False is the control. ``auto`` takes the rules, except on a GPU whose
            memory is known to hold what ordinary autograd keeps (:class:`refine.analysis.memory_limit.MemoryLimit`).
        gradient_checkpointing: True keeps still less of the rear and computes it again for the gradient.
        precision: Precision of the network, ``32``, ``bf16`` or ``16``; Fourier transforms, loss and z keep float32.
        tolerance: Relative decrease of the loss over 3 updates below which a level ends, in [0, 1), or a list; 0 never.
        window: ``auto`` refines finer levels around their holes alone, see :mod:`refine.core.windows`; a number is also
            the largest side of a window, px. None refines whole levels, as the paper does.
        context: Width of what a window shows around its hole, px of the level, >= 1; None for half the native size.
        blend: How the error at the hole's rim is taken off the final result, see :func:`refine.core.blend.blended`.
        compile: True runs the rear through ``torch.compile`` in place of the rules: it needs a C++ compiler on the CPU,
            takes minutes for the first update at each size, and keeps more than the rules do.
        graph: Whether updates are captured as CUDA graphs, see :mod:`refine.core.graphs`; ``auto`` does so on CUDA.
            Where that cannot be, a warning says why and updates are started one by one.
        tf32: True lets a GPU round the factors of float32 products to TF32, False forbids it; None leaves torch's own
            setting, which rounds those of convolutions alone.
        deterministic: True gives the same bytes each time on a GPU, see :func:`refine.core.numerics.numerics`.

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
        keep: Keep = "best",
        keep_detail: float | Sequence[float] | None = None,
        frozen: bool | Literal["auto"] = "auto",
        gradient_checkpointing: bool = False,
        precision: str | int = "32",
        tolerance: float | Sequence[float] = 0.0,
        compile: bool = False,
        window: int | Literal["auto"] | None = None,
        context: int | None = None,
        blend: Blend = "none",
        graph: bool | Literal["auto"] = False,
        tf32: bool | None = None,
        deterministic: bool = False,
    ) -> None:
        self.backbone, self.pyramid, self.objective = backbone, pyramid, objective
        self.steps = numbers("refiner.steps", steps, int, "an integer >= 0", lambda n: n >= 0)
        self.lr = numbers("refiner.lr", lr, float, "a number > 0", positive)
        self.optimize = backbone.checked_layers(optimize, needed=any(self.steps))
        self.optimizer, self.gradient_checkpointing = optimizer, gradient_checkpointing
        self.keep = checked_keep(keep)
        self.keep_detail: tuple[float, ...] = ()
        if keep_detail is not None:
            self.keep_detail = numbers("refiner.keep_detail", keep_detail, float, "px > 0 or null", positive)
        self.precision = checked_precision(precision)
        self.tolerance = numbers("refiner.tolerance", tolerance, float, "a share in [0, 1)", lambda x: 0 <= x < 1)
        check_compile(compile, gradient_checkpointing, self.precision)
        self.blend = checked_blend(blend)
        self.compiled = torch.compile(backbone.rear, dynamic=False) if compile else None
        self.windows = Windows.of(window, context, backbone)
        self.frozen = checked_auto("refiner.frozen", frozen)
        self.rules = bool(self.frozen) and not compile
        self.graph, self.graphs = checked_auto("refiner.graph", graph), Graphs()
        self.tf32, self.deterministic = tf32, deterministic
        self._warned = False

    def to(self, device: torch.device | str) -> "Refiner":
        """Move the backbone; each image is moved to it when it is refined.

        Args:
            device: Torch device, such as ``cuda``.

        Raises:
            ValueError: If ``refiner.graph=true`` is set and the device is not CUDA.
        """
        check_graph(self.graph, torch.device(device))
        self.graphs.clear()
        self.backbone.to(device)
        return self

    def __call__(
        self,
        image: Tensor,
        mask: Tensor,
        conditions: Sequence[Mapping[str, Tensor]] | None = None,
        on_step: OnStep | None = None,
        key: str | Sequence[str] = "",
    ) -> Refinement:
        """Fill the hole of each image. Works under ``no_grad``, ``inference_mode`` and ``autocast`` alike.

        Args:
            image: Image, ``(B, 3, H, W)``, RGB in [0, 1].
            mask: Mask, ``(B, 1, H, W)``, 1 = hole, 0 = known.
            conditions: Extra inputs of the backbone, one mapping per level; None if the backbone makes them itself.
            on_step: Function called at every evaluation of the loss.
            key: Name of the sample, or of each of the batch; it seeds what is random in the backbone's conditions.

        Returns:
            The result at the input's size and on its device.

        Raises:
            ValueError: If image or mask breaks the conventions, or ``refiner.graph=true`` is set without CUDA.
            FloatingPointError: If the backbone's plain prediction is not finite.
        """
        check_inputs(image, mask)
        device = self.backbone.device
        check_graph(self.graph, device)
        dtype = torch.promote_types(image.dtype, torch.float32)
        keys = checked_keys(key, image.shape[0])
        # Inference tensors cannot take part in differentiation; leaving the mode and cloning makes ordinary ones.
        no_autocast = torch.autocast(device.type, enabled=False)
        exact = numerics(device, self.tf32, self.deterministic)
        with torch.inference_mode(False), torch.no_grad(), no_autocast, exact:
            image, mask = (tensor.clone() if tensor.is_inference() else tensor for tensor in (image, mask))
            refined = []
            for part in self._parts(mask):
                ones = [slice(b, b + 1) for b in part]
                samples = [Sample(keys[b.start], image[b].to(device, dtype), mask[b].to(device, dtype)) for b in ones]
                inputs = [conditions and [{k: v[b] for k, v in level.items()} for level in conditions] for b in ones]
                tell = on_step and functools.partial(_tell, on_step, part[0])
                refined.append(self._refine_image(samples, inputs, tell))
            return self._in_image(Refinement.stack(refined), image, mask)

    def _in_image(self, result: Refinement, image: Tensor, mask: Tensor) -> Refinement:
        """The result with the known pixels of the image as it was given."""
        if self.blend == "none" and (image.device, image.dtype) == (result.image.device, result.image.dtype):
            return result  # they are there already
        final = blended(result.levels[-1].prediction, image, mask, self.blend)
        return replace(result, image=composite(final, image, mask))

    @property
    def graphed(self) -> bool:
        """Whether updates are captured; by themselves not in windows, most of whose sizes do not come again."""
        suits = choice(self.backbone.device).graph and self.compiled is None and self.windows is None
        return suits if self.graph == "auto" else self.graph is True

    @property
    def together(self) -> bool:
        """Whether images of a batch are refined together: on a GPU, as whole levels, if they do not meet."""
        suits = choice(self.backbone.device).together and self.windows is None
        return suits and keeps_images_apart(self.optimizer)

    def _parts(self, mask: Tensor) -> list[list[int]]:
        """Which images of a batch are refined together: all, or each by itself."""
        if self.together and bool(mask.flatten(1).any(1).all()):
            return [list(range(mask.shape[0]))]
        return [[b] for b in range(mask.shape[0])]

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
        self,
        samples: Sequence[Sample],
        conditions: Sequence[Sequence[Mapping[str, Tensor]] | None],
        tell: Callable[..., None] | None,
    ) -> Refinement:
        """``multiscale_inpaint`` of Algorithm 1, for one image or for several of one size."""
        each = [self._levels(sample, inputs) for sample, inputs in zip(samples, conditions, strict=True)]
        levels = [Level.stack(same) for same in zip(*each, strict=True)]
        if len(levels) == 1 and not self._warned and self.pyramid.max_levels != 1:
            self._warned = True
            warn_of_one_level(levels[0].size, self.pyramid.smallest_side)
        if not any(sample.mask.any() for sample in samples):
            start = time.perf_counter()
            return Refinement(samples[0].image.clone(), tuple(unrefined(x, x.crop(x.image), start) for x in levels))
        results: list[LevelResult] = []
        for index, level in enumerate(levels):
            guide = results[-1].image if results else level.image
            told = tell and functools.partial(tell, index, len(levels), at_level(self.steps, index))
            if level.windows:
                part = functools.partial(self._refine_window, samples[0].key, level, index, told)
                results.append(in_windows(level, guide, part))
            else:
                results.append(self._refine_level(level, guide, index, told) if index else self._predict(level))
        refinement = Refinement(results[-1].image, tuple(results))
        warn_of_levels(refinement, [sample.key for sample in samples])
        return refinement

    def _refine_window(
        self, key: str, level: Level, index: int, tell: Callable[..., None] | None, window: Window, guide: Tensor
    ) -> LevelResult:
        """One window of a level; of a level alone, whose guide is itself, the plain prediction."""
        sample = Sample(key, window.of(level.image), window.of(level.mask))
        part = self.backbone.level_of(sample, self.pyramid.padding)
        tell = tell and functools.partial(tell, place=functools.partial(window.placed, level.image))
        return self._refine_level(part, guide, index, tell) if index else self._predict(part)

    def _predict(self, level: Level) -> LevelResult:
        """The plain prediction of the coarsest level; no graph is built."""
        start, run = time.perf_counter(), self._execution()
        prediction = level.crop(run.rear(level, run.front(level)))
        if not prediction.isfinite().all():
            raise FloatingPointError(
                "the backbone's plain prediction has non-finite values; check its weights, or use refiner.precision=32."
            )
        return unrefined(level, prediction, start)

    def _refine_level(self, level: Level, guide: Tensor, index: int, tell: Tell | None) -> LevelResult:
        """``predict_and_refine`` of Algorithm 1."""
        sigma = at_level(self.keep_detail, index) * self.pyramid.factor if self.keep_detail else None
        refine = LevelRefinement(
            self._execution(), self.objective, at_level(self.steps, index), at_level(self.lr, index), self.optimizer,
            self.keep, sigma, at_level(self.tolerance, index), self.graphs if self.graphed else None,
        )  # fmt: skip
        return refine(level, guide, tell)

    def _execution(self) -> Execution:
        return Execution(
            self.backbone, self.optimize, self.precision, self.rules, self.gradient_checkpointing, self.compiled
        )


def _tell(
    on_step: OnStep, first: int, level: int, levels: int, steps: int,
    image: int, step: int, loss: float, prediction: Tensor, place: Callable[[Tensor], Tensor] = torch.clone,
) -> None:  # fmt: skip
    on_step(Step(level, levels, step, steps, loss, lambda: place(prediction), first + image))
