"""How a network is run: its front and its rear, in the precision and with the differentiation that are set."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from refine.autograd import selective
from refine.autograd.precision import run_in
from refine.core.backbone import FrontRear
from refine.core.types import Features, Level

FLOAT16_SCALE = 2**12  # of the loss


@dataclass(frozen=True)
class Execution:
    """A network with the settings it runs under.

    Attributes:
        backbone: Network, cut into front and rear.
        optimize: Names of the tensors at the cut that are optimized.
        precision: Precision of the network, ``32``, ``bf16`` or ``16``.
        rules: True differentiates the rear by the rules of :mod:`refine.autograd.selective`.
        gradient_checkpointing: True computes the rear again for the gradient.
        compiled: Rear that ``torch.compile`` made; None for the rear as it is.
    """

    backbone: FrontRear
    optimize: tuple[str, ...]
    precision: str = "32"
    rules: bool = True
    gradient_checkpointing: bool = False
    compiled: Callable[[Features], Tensor] | None = None

    def front(self, level: Level) -> Features:
        """Run the network up to the cut.

        Args:
            level: Level, its image ``(B, 3, h, w)`` in any precision.
        """
        dtype = self.backbone.dtype
        with run_in(self.precision, level.image.device):
            return self.backbone.front(replace(level, image=level.image.to(dtype), mask=level.mask.to(dtype)))

    def rear(self, level: Level, features: Features) -> Tensor:
        """Run the network from the cut on; under ``torch.enable_grad`` so that z can be differentiated cheaply.

        Args:
            level: Level, for its device and precision.
            features: Tensors at the cut.

        Returns:
            Raw padded prediction, ``(B, 3, h, w)``, in the precision of the level.
        """
        blocks = self.backbone.blocks if self.gradient_checkpointing else None
        rear = self.compiled if self.compiled and torch.is_grad_enabled() else self.backbone.rear
        if self.precision == "32" and self.backbone.dtype in (torch.float16, torch.bfloat16):  # z is float32
            z = {name: features.z[name].to(self.backbone.dtype) for name in self.optimize}
            features = replace(features, z={**features.z, **z})
        within = functools.partial(run_in, self.precision, level.image.device)
        return selective.run(rear, features, rules=self.rules, blocks=blocks, within=within).to(level.image.dtype)

    @property
    def loss_scale(self) -> int:
        """Factor of the loss: its means make the gradient small, too small for float16 unless scaled."""
        half = self.precision == "16" or self.backbone.dtype == torch.float16
        return FLOAT16_SCALE if half else 1
