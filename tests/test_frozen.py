"""The rules give autograd's own gradients, bit by bit, and keep next to nothing."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from refine.adapters.ffc import Sizes
from refine.adapters.lama import LaMa
from refine.frozen import Frozen, run
from refine.rules import pack, unpack
from refine.types import Level

DRAW = torch.Generator().manual_seed(0)


def rand(*shape):
    return torch.randn(*shape, generator=DRAW, dtype=torch.float64)


W, W1, WT, WG = rand(4, 3, 3, 3), rand(4, 3, 2), rand(3, 4, 3, 2), rand(6, 1, 3, 3)
BIAS, MEAN, VAR = rand(4), rand(3), rand(3).abs() + 0.1


def conv(x, w, b=None, f=F.conv2d, **how):
    return f(x, w.to(x), None if b is None else b.to(x), **how)


# name -> (shape, function, what the rule may keep for each element of x, in bytes)
CASES = {
    "conv": ((2, 3, 7, 5), lambda x: conv(x, W, BIAS, padding=1), 0),
    "conv strided, dilated": ((1, 3, 9, 8), lambda x: conv(x, W, stride=(2, 1), padding=(2, 1), dilation=2), 0),
    "conv 1x1": ((2, 3, 5, 4), lambda x: conv(x, W[:, :, :1, :1]), 0),
    "conv valid": ((1, 3, 5, 4), lambda x: conv(x, W[:, :, :1, :1], padding=0), 0),
    "conv grouped": ((2, 3, 5, 5), lambda x: conv(x, WG, groups=3), 0),
    "conv1d": ((2, 3, 7), lambda x: conv(x, W1, BIAS, F.conv1d, padding=1), 0),
    "conv3d": ((1, 3, 4, 3, 5), lambda x: conv(x, W[..., None], BIAS, F.conv3d, padding=(1, 1, 0)), 0),
    "channels last": ((2, 3, 6, 5), lambda x: conv(x.contiguous(memory_format=torch.channels_last), W).relu(), 1 / 4),
    "transposed": (
        (2, 3, 5, 4),
        lambda x: conv(x, WT, BIAS, F.conv_transpose2d, stride=2, padding=1, output_padding=1, dilation=(1, 2)),
        0,
    ),
    "batch norm": ((2, 3, 5, 4), lambda x: F.batch_norm(x, MEAN.to(x), VAR.to(x), VAR.to(x), MEAN.to(x)), 0),
    "batch norm, bare": ((3, 3), lambda x: F.batch_norm(x, MEAN.to(x), VAR.to(x), eps=0.1), 0),
    "reflect": ((2, 3, 5, 4), lambda x: F.pad(x, (1, 2, 3, 0), mode="reflect"), 0),
    "reflect 1d": ((2, 3, 5), lambda x: F.pad(x, (4, 2), mode="reflect"), 0),
    "replicate": ((1, 3, 3, 2), lambda x: F.pad(x, (4, 2, 0, 3), "replicate"), 0),
    "reflecting conv": (
        (1, 2, 5, 4),
        lambda x: nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect", dtype=x.dtype).requires_grad_(False)(x),
        0,
    ),
    "relu": ((2, 3, 5, 3), F.relu, 1 / 8),
    "relu method": ((2, 3, 5, 3), lambda x: x.relu(), 1 / 8),
    "relu in place": ((2, 3, 5, 3), lambda x: F.relu((x * 2), inplace=True) + 1, 1 / 8),
    "relu_": ((2, 3, 5, 3), lambda x: (x * 2).relu_(), 1 / 8),
    "leaky relu": ((2, 3, 5, 3), lambda x: F.leaky_relu(x, 0.3), 1 / 8),
    "leaky relu in place": ((2, 3, 5, 3), lambda x: nn.LeakyReLU(0.3, inplace=True)(x * 2), 1 / 8),
    "clamp": ((2, 3, 5, 3), lambda x: x.clamp(-0.5, 0.7), 1 / 8),
    "clamp below": ((2, 3, 5, 3), lambda x: torch.clamp(x, min=0.2), 1 / 8),
    "rfftn": ((2, 3, 5, 4), lambda x: torch.view_as_real(torch.fft.rfftn(x, dim=(-2, -1), norm="ortho")), 0),
    "rfftn, every axis": ((2, 3, 4, 5), lambda x: torch.view_as_real(torch.fft.rfftn(x, norm="forward")), 0),
    "rfft2": ((2, 3, 4, 5), lambda x: torch.view_as_real(torch.fft.rfft2(x)), 0),
    "rfft": ((2, 5, 4), lambda x: torch.view_as_real(torch.fft.rfft(x, dim=1)), 0),
    "complex": ((2, 3, 4), lambda x: torch.view_as_real(torch.complex(x, 2 * x)), 0),
    # without a rule: autograd keeps nothing of the input either
    "irfftn": ((2, 3, 4), lambda x: torch.fft.irfftn(torch.fft.fftn(x, dim=(1, 2)), s=(3, 5), dim=(1, 2)), 0),
    "view as complex": ((2, 3, 2), lambda x: torch.view_as_real(torch.view_as_complex(x) * 2), 0),
    "cat": ((2, 3, 4), lambda x: torch.cat([x, 2 * x, x + 1], 1), 0),
    "sum in place": ((2, 3, 4), lambda x: (2 * x).add_(x), 0),
    "linear": ((2, 4, 3), lambda x: F.linear(x, W1[:, :, 0].to(x), BIAS.to(x)), 0),
    "constant": ((2, 3, 4), lambda x: F.pad(x, (1, 2), value=3.0), 0),
    "nearest": ((1, 2, 3, 4), lambda x: F.interpolate(x, scale_factor=2), 0),
    "bilinear": ((1, 2, 3, 4), lambda x: F.interpolate(x, size=(5, 5), mode="bilinear"), 0),
    "sigmoid": ((2, 3, 4), torch.sigmoid, 1),
    "tanh": ((2, 3, 4), torch.tanh, 1),
}
WITHOUT_RULE = list(CASES)[list(CASES).index("irfftn") :]


def derivative(function, x, frozen):
    """The result and the gradient of its weighted sum."""
    x = x.clone().requires_grad_()
    torch.manual_seed(0)  # for modules made inside
    with Frozen() if frozen else torch.enable_grad():
        y = function(x * 1)
    return y, torch.autograd.grad(y, x, torch.linspace(-1, 1, y.numel()).to(y).view(y.shape))[0]


def kept(function, x):
    """Bytes of activations that the graph of a function keeps, weights not counted."""
    weights = {t.untyped_storage().data_ptr() for t in (W, W1, WT, WG, BIAS, MEAN, VAR)}
    x = x.clone().requires_grad_()
    sizes = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and tensor.shape != x.new_empty(0).shape:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with Frozen(), torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        y = function(x * 1)
    return sum(sizes.values()), y


@pytest.mark.parametrize("name", CASES)
def test_gradients_equal_autograds_bit_by_bit(name):
    shape, function, _ = CASES[name]
    x = rand(*shape).float()
    (y, grad), (y0, grad0) = derivative(function, x, frozen=True), derivative(function, x, frozen=False)
    assert torch.equal(y, y0) and y.stride() == y0.stride()
    assert torch.equal(grad, grad0) and grad.dtype == grad0.dtype


@pytest.mark.parametrize("name", CASES)
def test_gradcheck(name):
    shape, function, _ = CASES[name]
    x = rand(*shape).requires_grad_()

    def frozen(x):
        torch.manual_seed(0)
        with Frozen():
            return function(x * 1)

    assert torch.autograd.gradcheck(frozen, x)
