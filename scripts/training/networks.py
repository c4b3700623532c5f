"""Networks: the generator to train, its batch norms, its weights on disk, and the discriminator."""

from collections.abc import Iterable
from pathlib import Path

import torch
from omegaconf import DictConfig
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from refine.backbones import aot_gan
from refine.backbones.lama.fourier import FFCBlock, FourierUnit
from refine.backbones.lama.generator import LaMaConfig, RegularBlock, build

RESIDUAL = 0.2  # weight of a block's last norm at the start: near-identity blocks learn faster


class FloatFourierUnit(FourierUnit):
    """A Fourier unit that stays in float32 under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        """Transform in float32, whatever autocast says."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    """All batch norms; an AOT-GAN has none."""
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def sizes_of(network: DictConfig) -> LaMaConfig | aot_gan.AOTGANConfig:
    """Sizes of the network that the setting ``network`` describes."""
    if network.kind == "aot_gan":
        return aot_gan.AOTGANConfig(network.width, network.blocks, tuple(network.rates))
    channels = network.width * 2**network.downsamplings
    share = int(channels * network.global_share) if network.kind == "ffc" else 0
    return LaMaConfig(network.kind, network.width, network.downsamplings, network.blocks, share)


def generator(sizes: LaMaConfig | aot_gan.AOTGANConfig, init: str | None) -> nn.Module:
    """A generator to train: float32 transforms, near-identity blocks.

    Args:
        sizes: Sizes of the network; their type chooses LaMa or AOT-GAN.
        init: Safetensors file of the initial weights; None for random ones.
    """
    model = build(sizes) if isinstance(sizes, LaMaConfig) else aot_gan.Generator(sizes)
    for module in model.modules():
        if isinstance(module, FourierUnit):
            module.__class__ = FloatFourierUnit
        elif isinstance(module, FFCBlock | RegularBlock):
            _soften(module)
    if isinstance(model, aot_gan.Generator):
        _keep_scale(model)
    if init is not None:
        state = {key.removeprefix("model."): value for key, value in load_file(init).items()}
        model.load_state_dict(state | {k: v for k, v in model.state_dict().items() if k.endswith("tracked")})
    return model


def _soften(block: FFCBlock | RegularBlock) -> None:
    """Initialize a residual block near the identity."""
    last = (
        [block.conv_block[-1]] if isinstance(block, RegularBlock) else [block.conv2.bn_l, block.conv2.bn_g or nn.ReLU()]
    )
    for norm in last:
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.constant_(norm.weight, RESIDUAL)


@torch.no_grad()
def _keep_scale(model: aot_gan.Generator) -> None:
    """Initialize a network without norms: activations keep their scale, and the first predictions are near gray."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    model.decoder[-1].weight.mul_(RESIDUAL)


@torch.no_grad()
def even_upsampling(model: nn.Module) -> None:
    """Change the transposed convolutions as little as possible so that a constant feature map stays constant.

    A kernel of 3 that doubles the size reaches an output pixel with 1, 2, 2 or 4 of its taps, depending on whether row
    and column are even. Where these sums differ, flat content shows a grid with the period of the stride.

    Args:
        model: Network; its transposed convolutions have kernels of 3 and strides of 2.

    Raises:
        ValueError: If it has none.
    """
    ups = [module for module in model.modules() if isinstance(module, nn.ConvTranspose2d)]
    if not ups:
        raise ValueError("network.even_upsampling=true: this network has no transposed convolutions; set it to false.")
    phases = [(slice(1, 2), slice(1, 2)), (slice(1, 2), slice(0, 3, 2)), (slice(0, 3, 2), slice(1, 2))]
    phases.append((slice(0, 3, 2), slice(0, 3, 2)))
    for up in ups:
        taps = [up.weight[..., rows, columns] for rows, columns in phases]
        sums = [tap.sum(dim=(-2, -1)) for tap in taps]
        counts = [tap[0, 0].numel() for tap in taps]
        # The common sum that costs the least: each phase spreads its difference evenly over its taps.
        common = sum(total / count for total, count in zip(sums, counts, strict=True)) / sum(1 / n for n in counts)
        for tap, total, count in zip(taps, sums, counts, strict=True):
            tap += ((common - total) / count)[..., None, None]


@torch.no_grad()
def calibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Measure the statistics of the norms anew; running ones lag behind weights that move fast.

    Args:
        model: Network; its mode (training or evaluation) stays. Without norms nothing is done.
        batches: Inputs of the network, ``(B, 4, h, w)``.
    """
    if not norms(model):
        return
    training, momenta = model.training, [norm.momentum for norm in norms(model)]
    for norm in norms(model):
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over the batches
    model.train()
    for batch in batches:
        model(batch)
    model.train(training)
    for norm, momentum in zip(norms(model), momenta, strict=True):
        norm.momentum = momentum


class PatchCritic(nn.Module):
    """PatchGAN discriminator with spectral norms; its receptive field is 30 px.

    Args:
        width: Channels of the first layer.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = [4, width, 2 * width, 4 * width]
        strides = [2, 2, 1]
        self.layers = nn.ModuleList(
            nn.utils.parametrizations.spectral_norm(nn.Conv2d(a, b, 4, s, 1))
            for a, b, s in zip(channels, channels[1:], strides, strict=False)
        )
        self.judge = nn.utils.parametrizations.spectral_norm(nn.Conv2d(channels[-1], 1, 3, 1, 1))

    def forward(self, image: Tensor, mask: Tensor) -> list[Tensor]:
        """Features of each layer, then the score of each patch, ``(B, 1, h, w)``, positive for real."""
        x, features = torch.cat([image * 2 - 1, mask], dim=1), []
        for layer in self.layers:
            x = nn.functional.leaky_relu(layer(x), 0.2)
            features.append(x)
        return [*features, self.judge(x)]


def to_network(model: nn.Module, image: Tensor, mask: Tensor) -> Tensor:
    """Input of the network, ``(B, 4, h, w)``, as its adapter makes it."""
    if isinstance(model, aot_gan.Generator):
        return aot_gan.to_network(image, mask)
    return torch.cat([image * (1 - mask), mask], dim=1)


def predict(model: nn.Module, image: Tensor, mask: Tensor) -> Tensor:
    """The prediction ``(B, 3, h, w)`` on the nominal [0, 1] scale, float32."""
    output = model(to_network(model, image, mask)).float()
    return aot_gan.from_network(output) if isinstance(model, aot_gan.Generator) else output


def save_weights(model: nn.Module, path: Path) -> None:
    """Save a generator with the names of the official ones: LaMa's begin with ``model.``, AOT-GAN's do not."""
    prefix = "" if isinstance(model, aot_gan.Generator) else "model."
    state = model.state_dict()
    tensors = {prefix + name: state[name].float().cpu().contiguous() for name in state if not name.endswith("tracked")}
    save_file(tensors, path)
