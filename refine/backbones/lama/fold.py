"""Batch norm folded into the convolutions: less work for the same prediction, up to rounding (relative L2 below 1e-6).

Batch norm in eval mode is a scale and a shift per channel; folded, it saves a pass over every feature map, forward and
backward. The gradient is the same function. In float32 it jumps where rounding turns the sign of a ReLU's input, as it
does with any other order of sums, another number of threads for one: by 1e-3 of itself (relative L2) on Big-LaMa with
random weights. The state dict changes its keys, so load first.
"""

from itertools import pairwise

import torch
from torch import nn

from refine.backbones.lama.fourier import FFCNormAct, FourierUnit

Convolution = nn.Conv2d | nn.ConvTranspose2d


def fold(model: nn.Module) -> None:
    """Fold every batch norm of a LaMa generator, in place.

    Args:
        model: Generator from :func:`refine.backbones.lama.generator.build`, its weights loaded.
    """
    for module in list(model.modules()):
        if isinstance(module, FFCNormAct):
            _fold_ffc(module)
        elif isinstance(module, FourierUnit):
            module.register_module("bn", _absorbed(module.bn, module.conv_layer))
        elif isinstance(module, nn.Sequential):
            for i, (conv, norm) in enumerate(pairwise(list(module))):
                if isinstance(conv, Convolution) and isinstance(norm, nn.BatchNorm2d):
                    module[i + 1] = _absorbed(norm, conv)


def _fold_ffc(module: FFCNormAct) -> None:
    """The norm of each branch follows a sum of two convolutions: both take its scale, one its shift."""
    ffc = module.ffc
    module.register_module("bn_l", _absorbed(module.bn_l, ffc.convl2l, ffc.convg2l))
    if module.bn_g is not None:
        spectral = None if ffc.convg2g is None else ffc.convg2g.conv2
        module.register_module("bn_g", _absorbed(module.bn_g, ffc.convl2g, spectral))


@torch.no_grad()
def _absorbed(norm: nn.Module, first: nn.Module | None, second: nn.Module | None = None) -> nn.Identity:
    """Scale the convolutions, shift the first, and leave nothing to do for the norm."""
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.double() - norm.running_mean.double() * scale
    for conv in (first, second):
        if conv is None:
            continue
        assert isinstance(conv, Convolution)
        shape = (1, -1, 1, 1) if isinstance(conv, nn.ConvTranspose2d) else (-1, 1, 1, 1)
        conv.weight.copy_(conv.weight.double() * scale.view(shape))
        bias = torch.zeros_like(shift) if conv.bias is None else conv.bias.double() * scale
        if conv is first or conv.bias is not None:
            conv.bias = nn.Parameter((bias + shift if conv is first else bias).to(conv.weight), requires_grad=False)
    return nn.Identity()
