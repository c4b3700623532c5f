"""The rules give autograd's own gradients, bit by bit, and keep next to nothing."""

import copy
import functools
import gc
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from refine.autograd.bits import pack, pack_on_device, unpack
from refine.autograd.functions import LEAKY, THRESHOLD, Reflection, memory_format
from refine.autograd.selective import RULES, Frozen, run
from refine.backbones.conformance.checks import example
from refine.backbones.lama.adapter import LaMa
from refine.backbones.lama.fold import fold
from refine.backbones.lama.generator import LaMaConfig
from refine.config import CONFIGS, compose
from refine.core.objective import MultiscaleL1
from refine.core.pyramid import Pyramid
from refine.core.refiner import Refiner
from refine.core.types import Features, Level
from refine.factory import make_backbone

DRAW = torch.Generator().manual_seed(0)


def rand(*shape):
    return torch.randn(*shape, generator=DRAW, dtype=torch.float64)


W, W1, WT, WG = rand(4, 3, 3, 3), rand(4, 3, 2), rand(3, 4, 3, 2), rand(6, 1, 3, 3)
BIAS, MEAN, VAR = rand(4), rand(3), rand(3).abs() + 0.1


def conv(x, w, b=None, f=F.conv2d, **how):
    return f(x, w.to(x), None if b is None else b.to(x), **how)


def group_norm(input):
    return F.group_norm(input, 2, BIAS.to(input), BIAS.to(input).square(), 0.1)


# name -> (shape, function, what its graph may keep for each element of x, in bits)
CASES = {
    "conv": ((2, 3, 7, 5), lambda x: conv(x, W, BIAS, padding=1), 0),
    "conv strided, dilated": ((1, 3, 9, 8), lambda x: conv(x, W, stride=(2, 1), padding=(2, 1), dilation=2), 0),
    "conv 1x1": ((2, 3, 5, 4), lambda x: conv(x, W[:, :, :1, :1]), 0),
    "conv valid": ((1, 3, 5, 4), lambda x: conv(x, W[:, :, :1, :1], padding=0), 0),
    "conv grouped": ((2, 3, 5, 5), lambda x: conv(x, WG, groups=3), 0),
    "conv1d": ((2, 3, 7), lambda x: conv(x, W1, BIAS, F.conv1d, padding=1), 0),
    "conv3d": ((1, 3, 4, 3, 5), lambda x: conv(x, W[..., None], BIAS, F.conv3d, padding=(1, 1, 0)), 0),
    "channels last": ((2, 3, 6, 5), lambda x: conv(x.contiguous(memory_format=torch.channels_last), W).relu(), 2),
    "transposed": (
        (2, 3, 5, 4),
        lambda x: conv(x, WT, BIAS, F.conv_transpose2d, stride=2, padding=1, output_padding=1, dilation=(1, 2)),
        0,
    ),
    "transposed 1d": ((2, 4, 7), lambda x: conv(x, W1, BIAS[:3], F.conv_transpose1d, stride=2), 0),
    "transposed 3d": ((1, 4, 3, 2, 3), lambda x: conv(x, W[..., None], f=F.conv_transpose3d, padding=(1, 0, 0)), 0),
    "batch norm": ((2, 3, 5, 4), lambda x: F.batch_norm(x, MEAN.to(x), VAR.to(x), VAR.to(x), MEAN.to(x)), 0),
    "batch norm, bare": ((3, 3), lambda x: F.batch_norm(x, MEAN.to(x), VAR.to(x), eps=0.1), 0),
    # the input of the norm and, per group, mean and deviation; without rules twice as much
    "group norm, silu": ((2, 4, 5, 6), lambda x: F.silu(group_norm(x)), 68),
    "group norm, gelu": ((2, 4, 5, 6), lambda x: F.gelu(group_norm(input=x), approximate="tanh"), 68),
    "layer norm, gelu": ((2, 4, 30), lambda x: F.gelu(F.layer_norm(x, (30,), eps=0.1)), 70),
    "layer norm, silu": ((4, 6, 3), lambda x: F.silu(F.layer_norm(x, (6, 3), W1.view(8, 3)[:6].to(x))), 80),
    "mean pool": ((2, 3, 8, 7), lambda x: F.avg_pool2d(x, 2), 0),
    "mean pool, padded": ((1, 3, 8, 7), lambda x: F.avg_pool2d(x, (3, 2), 2, (1, 0), True, False), 0),
    "reflect": ((2, 3, 5, 4), lambda x: F.pad(x, (1, 2, 3, 0), mode="reflect"), 0),
    "reflect 1d": ((2, 3, 5), lambda x: F.pad(x, (4, 2), mode="reflect"), 0),
    "replicate": ((1, 3, 3, 2), lambda x: F.pad(x, (4, 2, 0, 3), "replicate"), 0),
    "reflecting conv": (
        (1, 2, 5, 4),
        lambda x: nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect", dtype=x.dtype).requires_grad_(False)(x),
        0,
    ),
    "relu": ((2, 3, 5, 3), F.relu, 1),
    "relu method": ((2, 3, 5, 3), lambda x: x.relu(), 1),
    "relu in place": ((2, 3, 5, 3), lambda x: F.relu((x * 2), inplace=True) + 1, 1),
    "relu_": ((2, 3, 5, 3), lambda x: (x * 2).relu_(), 1),
    "leaky relu": ((2, 3, 5, 3), lambda x: F.leaky_relu(x, 0.3), 1),
    "leaky relu in place": ((2, 3, 5, 3), lambda x: nn.LeakyReLU(0.3, inplace=True)(x * 2), 1),
    "leaky_relu_": ((2, 3, 5, 3), lambda x: F.leaky_relu_(x * 2, 0.3), 1),
    "relu functions": ((2, 3, 4, 4), lambda x: torch.relu_(torch.relu(x - 0.1) * 2 - 0.5), 2),
    "clip": ((2, 3, 4, 4), lambda x: torch.clip((x * 2).clip(-1, 1), -0.5, 0.7), 2),
    "clamp": ((2, 3, 5, 3), lambda x: x.clamp(-0.5, 0.7), 1),
    "clamp below": ((2, 3, 5, 3), lambda x: torch.clamp(x, min=0.2), 1),
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
    "sigmoid": ((2, 3, 4), torch.sigmoid, 64),
    "tanh": ((2, 3, 4), torch.tanh, 64),
    "softmax": ((2, 3, 4), lambda x: x.softmax(-1), 64),
    "silu alone": ((2, 3, 4), F.silu, 64),
    "attention": ((1, 2, 40, 4), lambda x: F.scaled_dot_product_attention(x, x, x), 64 * 2 + 16),  # not 40 x 40
}


def derivative(function, x, frozen):
    """The result and the gradient of its weighted sum."""
    x = x.clone().requires_grad_()
    torch.manual_seed(0)  # for modules made inside
    with Frozen() if frozen else torch.enable_grad():
        y = function(x * 1)
    return y, torch.autograd.grad(y, x, torch.linspace(-1, 1, y.numel()).to(y).view(y.shape))[0]


def kept(y, *weights):
    """Bytes that a graph keeps, but for weights and numbers: a walk over its nodes, what they save and hold."""
    ours = {weight.untyped_storage().data_ptr() for weight in weights}
    nodes, todo, sizes = set(), [y.grad_fn], {}
    while todo:
        node = todo.pop()
        if node is None or node in nodes:
            continue
        nodes.add(node)
        todo += [previous for previous, _ in node.next_functions]
        held = [getattr(node, name) for name in dir(node) if name.startswith("_saved_")]
        held += [*getattr(node, "saved_tensors", ()), *getattr(node, "__dict__", {}).values()]
        for tensor in tree_leaves(held):
            if isinstance(tensor, torch.Tensor) and tensor.ndim and not isinstance(tensor, nn.Parameter):
                sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(size for pointer, size in sizes.items() if pointer not in ours)


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

    assert torch.autograd.gradcheck(frozen, x, fast_mode=True)  # along random directions: seconds less


def test_no_rule_is_left_out():
    used = set()

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            used.add(func)
            return func(*args, **(kwargs or {}))

    for shape, function, _ in CASES.values():
        with Watch():
            function(rand(*shape))
    assert set(RULES) <= used


@pytest.mark.parametrize("name", CASES)
def test_keeps_no_more_than_it_needs(name):
    shape, function, bits = CASES[name]
    x = rand(*shape).requires_grad_()
    with Frozen():
        y = function(x * 1)
    assert kept(y, W, W1, WT, WG, BIAS, MEAN, VAR) <= (x.numel() * bits + 7) // 8


def network(x, training=False):
    """Rules, ordinary autograd and a complex part, in a row."""
    x = F.relu(F.batch_norm(conv(F.pad(x, (1, 1, 1, 1), "reflect"), W[:3]), MEAN.to(x), VAR.to(x)), inplace=True)
    spectrum = torch.fft.rfftn(x, dim=(-2, -1))
    return torch.fft.irfftn(torch.complex(spectrum.real, spectrum.imag * 2), s=x.shape[-2:], dim=(-2, -1)) * x.sigmoid()


@pytest.mark.parametrize("change", [lambda y: y.mul_(2), lambda y: y[:, :2].relu_(), lambda y: F.silu(y, inplace=True)])
def test_what_was_changed_since_the_norm_is_not_made_by_the_norm(change):
    def changed(x):
        y = group_norm(x)
        change(y)
        return F.silu(y)

    x = rand(2, 4, 3, 3).float()
    (y, a), (y0, b) = derivative(changed, x, True), derivative(changed, x, False)
    assert torch.equal(y, y0) and torch.equal(a, b)


def test_what_a_norm_read_must_not_be_overwritten_as_ever():
    x = rand(2, 4, 3, 3).requires_grad_() * 1
    with Frozen():
        y = F.silu(group_norm(x))
        x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_activation_behind_a_norm_under_autocast(dtype):
    def cast(x):
        with torch.autocast("cpu", dtype):
            return F.silu(group_norm(conv(x, W, BIAS)))

    x = rand(2, 3, 8, 8).float()
    (y, a), (y0, b) = derivative(cast, x, True), derivative(cast, x, False)
    assert torch.equal(y, y0) and torch.equal(a, b)
    with torch.autocast("cpu", dtype):  # the gradient too
        assert torch.equal(derivative(cast, x, True)[1], derivative(cast, x, False)[1])


def test_a_norm_that_autocast_widens_as_on_cuda_keeps_one_wide_copy():
    x = rand(1, 4, 9, 9).to(torch.bfloat16).requires_grad_()
    y = RULES[F.group_norm](lambda: F.group_norm(x.float(), 2), x, 2)
    with Frozen():
        y = F.silu(y)
    assert y.dtype == torch.float32 and kept(y) <= 4 * x.numel() + 16
    expected = F.silu(F.group_norm(x.float(), 2))
    assert torch.equal(*(torch.autograd.grad(out.sum(), x)[0] for out in (y, expected)))


def test_without_a_graph_the_mode_has_no_effect():
    x = rand(1, 3, 6, 6)
    with Frozen(), torch.no_grad():
        assert torch.equal(network(x), network(x.requires_grad_()))
        assert not network(x).requires_grad
    with Frozen(), torch.inference_mode():
        assert not F.relu(x).requires_grad


def test_nested_modes_agree():
    def nested(x):
        with Frozen(), Frozen():
            return network(x)

    x = rand(1, 3, 7, 6).float()
    assert torch.equal(derivative(nested, x, True)[1], derivative(network, x, False)[1])


@pytest.mark.parametrize("make", [lambda: nn.Conv2d(3, 4, 3), lambda: nn.BatchNorm2d(3)])
def test_trainable_parameters_and_batch_statistics_keep_ordinary_autograd(make):
    module, x = make(), rand(2, 3, 5, 5).float()
    with Frozen():
        y = module(x.requires_grad_())
    y.square().sum().backward()
    assert module.weight.grad is not None and x.grad is not None
    frozen = make().requires_grad_(False).train()
    if isinstance(frozen, nn.BatchNorm2d):
        (_, a), (_, b) = derivative(frozen, x.detach(), True), derivative(frozen, x.detach(), False)
        assert torch.equal(a, b)


def test_in_place_on_a_leaf_is_refused_as_ever():
    x = rand(3, 4).requires_grad_()
    with Frozen(), pytest.raises(RuntimeError, match="leaf"):
        F.relu(x, inplace=True)


def test_in_place_on_a_view_changes_its_base():
    def halves(x):
        y = x * 1
        y[:, :2].relu_()
        return y

    x = rand(2, 4, 3).float()
    (y, a), (y0, b) = derivative(halves, x, True), derivative(halves, x, False)
    assert torch.equal(y, y0) and torch.equal(a, b)


def test_overwriting_what_another_function_kept_is_an_error_as_ever():
    x = rand(3, 4).requires_grad_()
    with Frozen():
        y = F.relu(x.tanh(), inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 0.0, -0.0])
@pytest.mark.parametrize("function", [F.relu, F.leaky_relu, lambda x: x.clamp(0, 1), F.relu6])
def test_special_values(value, function):
    (_, a), (_, b) = (derivative(function, torch.tensor([value, 1.0, -1.0]), frozen) for frozen in (True, False))
    assert torch.equal(a.nan_to_num(7), b.nan_to_num(7))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_decides_the_dtype_as_ever(dtype):
    def cast(x):
        with torch.autocast("cpu", dtype):
            y = conv(F.relu(conv(x, W[:3], padding=1)), WT[..., :2].contiguous(), f=F.conv_transpose2d)
            return F.batch_norm(y, BIAS.to(x), BIAS.to(x).square() + 0.1, BIAS.to(x))

    x = rand(2, 3, 8, 8).float()
    (y, a), (y0, b) = derivative(cast, x, True), derivative(cast, x, False)
    assert y.dtype == y0.dtype == dtype and a.dtype == torch.float32
    assert torch.equal(y, y0) and torch.equal(a, b)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 64, 1001])
def test_packed_bits_come_back(n):
    flags = torch.rand(n, generator=DRAW) > 0.4
    bits = pack(flags)
    assert bits.dtype == torch.uint8 and bits.numel() == (n + 7) // 8
    assert torch.equal(unpack(bits, n), flags.byte())
    assert torch.equal(pack_on_device(flags), bits)


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_kernels_that_take_flags_as_they_are_give_the_same(slope):
    """As on CUDA, where no stand-in for the input is written."""
    grad = torch.tensor([1.5, -2.0, float("nan"), float("inf"), -0.0, 3.0])
    flags = torch.tensor([1, 0, 0, 0, 0, 1], dtype=torch.uint8)
    kernel, *numbers = (LEAKY, slope, False) if slope else (THRESHOLD, 0)
    got, expected = kernel(grad, flags, *numbers), kernel(grad, flags.float(), *numbers)
    assert got.dtype == torch.float32
    assert got.numpy().tobytes() == expected.numpy().tobytes()


@pytest.mark.parametrize("pad", [(1, 2, 3, 0), (0, 0, 2, 2), (4, 4, 4, 4)])
def test_reflection_is_folded_back(pad):
    """The way that adds in the same order each time on CUDA."""
    x = rand(2, 3, 6, 7).requires_grad_()
    weights = rand(2, 3, 6 + pad[2] + pad[3], 7 + pad[0] + pad[1])
    padded = functools.partial(F.pad, mode="reflect")
    (expected,) = torch.autograd.grad((padded(x, pad) * weights).sum(), x)
    folded = Reflection.of(x, lambda: padded(x.detach(), pad), pad)
    (got,) = torch.autograd.grad((folded * weights).sum(), x)
    torch.testing.assert_close(got, expected)


SIZES = {
    "ffc": LaMaConfig(width=8, downsamplings=2, blocks=3, global_channels=24),
    "local": LaMaConfig(width=4, downsamplings=2, blocks=2, global_channels=0),
    "regular": LaMaConfig("regular", width=4, downsamplings=2, blocks=2, global_channels=0),
}


@pytest.fixture(params=SIZES)
def backbone(request):
    with pytest.warns(UserWarning, match="RANDOM"):
        return LaMa("random", sizes=SIZES[request.param], native_size=32, fold=False, channels_last=False)


def features_of(backbone, height=40, width=56):
    draw = torch.Generator().manual_seed(1)
    image, mask = torch.rand(1, 3, height, width, generator=draw), torch.zeros(1, 1, height, width)
    mask[..., 8:24, 10:30] = 1
    return backbone.front(Level(image, mask, (height, width)))


def rear_gradients(backbone, **how):
    features = features_of(backbone)
    z = [tensor.requires_grad_() for tensor in features.z.values()]
    y = run(backbone.rear, features, **how)
    # Looking at what a checkpoint saves would compute it.
    saved = 0 if "blocks" in how else kept(y, y, *backbone.parameters(), *backbone.buffers(), *z)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), z)], saved


def trunk(backbone):
    return [m for m in backbone.modules() if type(m).__name__ in ("FFCBlock", "RegularBlock")]


def test_lama_has_the_same_gradients_and_keeps_bits(backbone):
    (a, small), (b, large) = rear_gradients(backbone, rules=True), rear_gradients(backbone, rules=False)
    assert all(map(torch.equal, a, b))
    assert small < large / 32


@pytest.mark.parametrize("rules", [True, False])
def test_checkpoints_are_exact(backbone, rules):
    expected, _ = rear_gradients(backbone, rules=False)
    whole, _ = rear_gradients(backbone, rules=rules, blocks=())
    blocks, _ = rear_gradients(backbone, rules=rules, blocks=trunk(backbone))
    assert all(map(torch.equal, whole, expected)) and all(map(torch.equal, blocks, expected))
    assert not any("forward" in vars(block) for block in trunk(backbone))


def test_recomputing_enters_the_rules_again(backbone, monkeypatch):
    used = []
    features = features_of(backbone)
    for tensor in features.z.values():
        tensor.requires_grad_()
    y = run(backbone.rear, features, blocks=())
    before = Frozen.__torch_function__
    monkeypatch.setattr(Frozen, "__torch_function__", lambda *a: (used.append(a[1]), before(*a))[1])
    y.sum().backward()
    assert F.conv2d in used


def test_a_block_keeps_a_forward_of_its_own(backbone):
    block = trunk(backbone)[0]
    original = block.forward
    own = block.forward = lambda *args: original(*args)
    run(lambda: None, blocks=[block])
    assert vars(block)["forward"] is own


@pytest.mark.parametrize(
    "function",
    [
        lambda x, out: torch.clamp(x.detach(), 0, 1, out=out),
        lambda x, out: torch.clip(x.detach(), min=0.2, out=out),
        lambda x, _: F.conv2d(x, torch.ones(2, 2, 2, 2), stride=np.int64(2)),
        lambda x, _: F.conv_transpose2d(x, torch.ones(2, 2, 2, 2), stride=torch.tensor(2)),
    ],
)
def test_unusual_arguments_are_taken_as_without_rules(function):
    x = torch.rand(1, 2, 6, 6, requires_grad=True)
    outs = torch.empty(2, 1, 2, 6, 6)
    assert torch.equal(*(run(function, x, out, rules=rules) for rules, out in zip((True, False), outs, strict=True)))


def test_wrong_norm_is_refused_by_torch_itself():
    x = torch.rand(1, 2, 6, 6, requires_grad=True)
    with pytest.raises(RuntimeError, match="normalization mode"):
        run(lambda: torch.fft.rfftn(x, norm="bla"))


def test_blocks_are_whole_again_after_an_error(backbone):
    blocks = trunk(backbone)
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 / 0, blocks=blocks)
    assert not any("forward" in vars(block) for block in blocks)


def test_folded_norms_change_rounding_alone(backbone):
    with pytest.warns(UserWarning, match="RANDOM"):
        folded = LaMa("random", sizes=backbone.sizes, native_size=32)
    draw = torch.Generator().manual_seed(2)
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.running_mean.copy_(torch.randn(norm.num_features, generator=draw) / 9)
        norm.running_var.copy_(torch.rand(norm.num_features, generator=draw) + 0.3)
    (y, *gradients), _ = rear_gradients(copy.deepcopy(backbone))
    before = backbone.weights_hash
    features = features_of(backbone)
    fold(backbone.model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in [*backbone.modules(), *folded.modules()])
    assert backbone.weights_hash == before == folded.weights_hash
    z = [tensor.requires_grad_() for tensor in features.z.values()]
    again = run(backbone.rear, features)
    for a, b in zip([again, *torch.autograd.grad(again.square().sum(), z)], [y, *gradients], strict=True):
        assert (a - b).norm() / b.norm() < 1e-5


@pytest.mark.parametrize("name", ["lama", "mini_regular", "mini_aot"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("wanted", [True, False])
def test_networks_are_channels_last_on_a_cpu_alone(name, device, wanted):
    backbone = shipped(name, f"backbone.channels_last={wanted}").to(device)
    level = example(backbone)
    level = replace(level, image=level.image.to(device), mask=level.mask.to(device))
    formats = []
    for layer, module in backbone.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and not layer.endswith(".fu.conv_layer"):
            module.register_forward_hook(lambda _, given, __: formats.append(memory_format(given[0])))
    for work in (lambda: backbone.rear(backbone.front(level)), lambda: backbone.whole(level)):
        work()
        assert set(formats) == {torch.channels_last if wanted and device == "cpu" else torch.contiguous_format}
        formats.clear()
    z = {name: x.contiguous() for name, x in backbone.front(level).z.items()}  # as somebody else may make them
    formats.clear()
    backbone.rear(Features(z))
    assert set(formats) == {torch.channels_last if wanted and device == "cpu" else torch.contiguous_format}


NAMES = sorted(file.stem for file in (CONFIGS / "backbone").glob("*.yaml"))
AS_IT_IS = "backbone.fold=false backbone.channels_last=false"


def shipped(name, *overrides):
    return make_backbone(compose("check", [f"backbone={name}", *overrides]).backbone, tiny=True)


def leaves(backbone, level=None):
    """Features of the front, whose z are leaves."""
    features = backbone.front(level or example(backbone))
    z = {name: tensor.detach().clone().requires_grad_() for name, tensor in features.z.items()}
    return Features(z, features.context)


def update(backbone, **how):
    """Prediction and gradients of one update of its rear."""
    features = leaves(backbone)
    y = run(backbone.rear, features, **how)
    gradients = torch.autograd.grad(y.square().sum(), list(features.z.values()), allow_unused=True)
    return [y.detach(), *(g for g in gradients if g is not None)]


def memory(backbone, level, **how):
    """Bytes that are alive for one update of its rear, beside the features."""
    features = leaves(backbone, level)
    before = alive()
    prediction = run(backbone.rear, features, **how)
    grown = alive() - before
    assert prediction.requires_grad  # so that its graph was alive
    return grown


def alive():
    """Bytes of all tensors that the garbage collector finds, so that nothing hides in a closure or on a context.

    Those of ``torch.compile``, which another test may have left, have no memory.
    """
    gc.collect()
    kinds = ((thing, type(thing)) for thing in gc.get_objects())
    tensors = [thing for thing, kind in kinds if issubclass(kind, torch.Tensor) and not issubclass(kind, FakeTensor)]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


@pytest.mark.parametrize("name", [*NAMES, *(f"{name} {AS_IT_IS}" for name in ("lama", "mini_regular"))])
def test_every_shipped_backbone_has_autograds_gradients(name):
    backbone = shipped(*name.split())
    if not backbone.layers:
        pytest.skip("no layers to optimize")
    expected = update(backbone, rules=False)
    assert len(expected) > 1 and all(bool(g.any()) for g in expected[1:])
    for how in ({}, {"blocks": backbone.blocks}, {"blocks": ()}, {"blocks": backbone.blocks, "rules": False}):
        got = update(backbone, **how)
        assert all(map(torch.equal, got, expected)), how


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_backbones_gradient_is_the_derivative(name):
    backbone = shipped(name).double()
    features = backbone.front(example(backbone))
    z = {name: tensor.detach().clone().requires_grad_() for name, tensor in features.z.items()}
    if not z:
        pytest.skip("no layers to optimize")

    def loss(*tensors):
        return run(backbone.rear, Features(dict(zip(z, tensors, strict=True)), features.context)).square().mean()

    assert torch.autograd.gradcheck(loss, tuple(z.values()), fast_mode=True, atol=1e-6)


@pytest.mark.parametrize("name", ["big_lama", "lama", "lama_fourier", "mini", "mini_regular"])
def test_folding_is_exact_but_for_rounding(name):
    """In float32 a gradient may jump where rounding turns the sign of a ReLU's input; hence float64."""
    plain = shipped(name, "backbone.fold=false").double()
    folded = copy.deepcopy(plain)
    fold(folded.model)
    for a, b in zip(update(folded), update(plain, rules=False), strict=True):
        assert (a - b).norm() / b.norm() < 1e-9
    (a, *_), (b, *_) = update(shipped(name)), update(shipped(name, "backbone.fold=false"))
    assert 0 < (a - b).norm() / b.norm() < 1e-6


@pytest.mark.parametrize("kind", ["ffc", "regular", "aot_gan", "ldm"])
def test_checkpoints_keep_less(kind):
    """One rung below the rules alone, and the control far above both."""
    gc.collect()
    gc.freeze()  # what was there before is not looked at again and again
    sizes = LaMaConfig(kind, width=4, downsamplings=3, blocks=18, global_channels=24 if kind == "ffc" else 0)
    backbone = shipped(kind) if kind in ("aot_gan", "ldm") else LaMa("random", sizes=sizes, native_size=32)
    level = example(backbone, (64 // backbone.multiple_of,) * 2)
    kept = [memory(backbone, level, **how) for how in ({"blocks": backbone.blocks}, {}, {"rules": False})]
    assert kept[0] < kept[1] < kept[2] / 2


def test_the_refiner_gives_the_same_image(backbone):
    draw = torch.Generator().manual_seed(3)
    image, mask = torch.rand(1, 3, 64, 70, generator=draw), torch.zeros(1, 1, 64, 70)
    mask[..., 20:50, 20:50] = 1
    arms = [
        Refiner(backbone, Pyramid(32), MultiscaleL1(3), steps=3, **how)(image, mask)
        for how in (
            {},
            {"frozen": False},
            {"gradient_checkpointing": True},
            {"gradient_checkpointing": True, "frozen": False},
        )
    ]
    assert arms[0].levels[-1].updates.item() == 3
    assert all(torch.equal(arm.image, arms[0].image) for arm in arms[1:])
