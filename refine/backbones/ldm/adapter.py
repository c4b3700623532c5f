"""Latent diffusion for inpainting (Rombach et al. 2022, ``inpainting_big``), its sampler included.

The networks see RGB in [-1, 1], the hole black, and the mask in [-1, 1], 1 = hole (CompVis/latent-diffusion at commit
a506df5). The encoder turns the known pixels into a latent; the U-Net takes it and the mask, shrunk to its size by
picking, beside a latent of noise, which DDIM denoises step by step; a lookup replaces each of its elements by the
nearest code, and the decoder makes the image.

Where it can be cut, in the order of the run; each name says before what:

- ``denoise``: z is the latent before the last ``last_steps`` steps; behind are these steps, the lookup and the decoder.
  The only cut at which the U-Net, which knows what images look like, has a say in an update, and the dearest. Through
  the lookup, which is piecewise constant, the gradient passes straight, as at training: it is that of the decoder at
  the nearest codes, so that an update sees no change until an element arrives at its next code.
- ``decode``: z is the latent after the lookup, 3 channels at a quarter of the resolution; behind is the decoder. Exact
  and smooth: nothing is looked up again. The default, as in LaMa the end of what invents and the start of what draws.
- ``up_0``, ``up_1``, ``up_2``: z is the decoder's features before each of its levels, 512 or 256 channels at 1/4, 1/2
  and all of the resolution.
"""

import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refine.backbones.build import sized_network
from refine.backbones.ldm.files import read
from refine.backbones.ldm.networks import LATENT, LDMConfig, build, schedule
from refine.backbones.ldm.noise import shared_noise
from refine.core.backbone import FrontRear
from refine.core.randomness import seeded_by
from refine.core.types import Features, Level, Sample
from refine.weights.checkpoint import hash_state


class LDM(FrontRear):
    """Encoder, DDIM loop, lookup and decoder.

    Conditions of a level: ``noise``, the latent from which DDIM starts (the original's x_T), ``(B, 3, h / 4, w / 4)``;
    with ``eta`` above 0 also ``step_noise``, that of each step, ``(B, steps, 3, h / 4, w / 4)``. Standard normal, in
    the network's own layout; see :mod:`refine.backbones.ldm.noise` for those that it makes itself.

    Args:
        weights: Official ``last.ckpt``, a folder of diffusers with ``unet`` and ``vqvae``, or ``random`` for seeded
            random weights of the sizes given.
        cut: Place at which the network is opened, ``denoise``, ``decode``, ``up_0`` ...; a list opens it at several.
        steps: DDIM steps, 1 ... 999. The original takes 50.
        last_steps: Number of these that lie behind the cut ``denoise``, 1 ... steps.
        eta: Share of a step's noise that is drawn anew, in [0, 1]; 0 is DDIM, 1 the diffusion as trained.
        seed: Seed of the noise, beside the sample's key, and of random weights.
        heads: Heads of attention, which the weights do not tell.
        native_size: Short side in px at which the pyramid starts.
        sizes: Used with ``weights=random`` alone.
        name: Name of the backbone in messages.

    Raises:
        UnusableWeights: If the file or folder holds something else, or half of it.
        ModuleNotFoundError: The extra is not installed; naming it.
        ValueError: If a setting is out of range.
    """

    output_settings = ("cuts", "sizes", "steps", "last_steps", "eta", "seed", "heads")

    def __init__(
        self,
        weights: str | PathLike[str] | None,
        cut: str | Sequence[str] = "decode",
        steps: int = 50,
        last_steps: int = 2,
        eta: float = 0.0,
        seed: int = 0,
        heads: int = 8,
        native_size: int = 512,
        sizes: LDMConfig | None = None,
        name: str = "ldm",
    ) -> None:
        super().__init__()
        _check_sampling(steps, last_steps, eta)
        files = "the official last.ckpt, or a folder of diffusers with unet and vqvae"
        load, make = functools.partial(read, heads=heads), functools.partial(build, heads=heads)
        self.sizes, self.network = sized_network(weights, load, make, sizes or LDMConfig(), seed, name, files)
        self.weights_hash = hash_state(self.network.state_dict())
        self.steps, self.last_steps, self.eta, self.seed, self.heads = steps, last_steps, float(eta), seed, heads
        self.scheduler = schedule(steps)
        self.layers = self.cuts = _checked_cuts(cut, self.places)
        self.native_size = native_size
        self.multiple_of = self.minimum_side = self.sizes.stride * self.sizes.coarsest
        self.freeze()

    @property
    def places(self) -> tuple[str, ...]:
        """Where the network can be cut, in the order of the run."""
        return ("denoise", "decode", *(f"up_{i}" for i in range(len(self.sizes.vq_channels))))

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Residual blocks and attention: of each the input alone is kept, in place of that of both its norms."""
        parts = self.network.modules() if "denoise" in self.cuts else self.network.vq.decoder.modules()
        return [module for module in parts if type(module).__name__ in ("ResnetBlock2D", "Attention")]

    def cuts_available(self) -> Iterator[tuple[str, FrontRear]]:
        """See :class:`FrontRear`."""
        for place in self.places:
            opened = copy.copy(self)
            opened.layers = opened.cuts = (place,)
            yield place, opened
        yield from self._cut_together(self.cuts)

    def conditions(self, sample: Sample, levels: Sequence[Level]) -> list[Mapping[str, Tensor]]:
        """See :class:`FrontRear`; the images of a batch, which have one key, have one noise."""
        draw = seeded_by(self.seed, sample.key)
        drawn = [{"noise": noise} for noise in shared_noise(levels, self.sizes.stride, (LATENT,), draw)]
        if self.eta:
            more = shared_noise(levels, self.sizes.stride, (self.steps, LATENT), draw)
            drawn = [{**noise, "step_noise": steps} for noise, steps in zip(drawn, more, strict=True)]
        batch = sample.image.shape[0]
        return [
            {name: noise.to(level.image).expand(batch, *noise.shape) for name, noise in of_level.items()}
            for level, of_level in zip(levels, drawn, strict=True)
        ]

    def front(self, level: Level) -> Features:
        """See :class:`FrontRear`; no graph is built here, nothing in front of the cut is differentiated."""
        first, *others = self.cuts
        with torch.no_grad():
            x, given = self._begun(level)
            for place in self.places[: self.places.index(first)]:
                x = self._behind(place, x, given)
            z = {first: x} | {place: x.new_zeros(self._shape(place, given)) for place in others}
        return Features(z, given if first == "denoise" else {})

    def rear(self, features: Features) -> Tensor:
        """See :class:`FrontRear`."""
        first, *others = self.cuts
        x = features.z[first]
        for place in self.places[self.places.index(first) :]:
            x = self._behind(place, x + features.z[place] if place in others else x, features.context)
        decoder = self.network.vq.decoder
        return _from_network(decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(x))))

    def whole(self, level: Level) -> Tensor:
        """See :class:`FrontRear`; the decoder is the library's, which looks the codes up by itself."""
        x, given = self._begun(level)
        return _from_network(self.network.vq.decode(self._denoised(x, given, last=True)).sample)

    def _begun(self, level: Level) -> tuple[Tensor, dict[str, Tensor]]:
        """The latent before the last steps, and what they are told."""
        given = self._given(level)
        return self._denoised(_noise(level, "noise", given["condition"][:, :LATENT]), given, last=False), given

    def _behind(self, place: str, x: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """What follows a place, up to the next one."""
        vq = self.network.vq
        if place == "denoise":
            return self.network.quantized(self._denoised(x, given, last=True))
        if place == "decode":
            return vq.decoder.mid_block(vq.decoder.conv_in(vq.post_quant_conv(x)))  # type: ignore[no-any-return]
        return vq.decoder.up_blocks[int(place.removeprefix("up_"))](x)  # type: ignore[no-any-return]

    def _shape(self, place: str, given: Mapping[str, Tensor]) -> tuple[int, ...]:
        """Shape of what enters the network at a place."""
        batch, _, *sides = given["condition"].shape
        if place in ("denoise", "decode"):
            return (batch, LATENT, *sides)
        level = int(place.removeprefix("up_"))
        channels = self.network.vq.decoder.up_blocks[level].resnets[0].in_channels
        return (batch, channels, *(side * 2**level for side in sides))

    def _given(self, level: Level) -> dict[str, Tensor]:
        """What the steps are told of a level: ``condition`` and, with ``eta``, ``step_noise``."""
        known = 2 * level.image * (1 - level.mask) - 1
        encoded = self.network.vq.encode(known).latents.to(known)  # latents are as wide as images, whatever runs within
        hole = F.interpolate(2 * level.mask - 1, size=encoded.shape[-2:])
        given = {"condition": torch.cat([encoded, hole.to(encoded)], dim=1)}
        if self.eta:
            each = encoded.unsqueeze(1).expand(-1, self.steps, -1, -1, -1)
            given["step_noise"] = _noise(level, "step_noise", each)
        return given

    def _denoised(self, x: Tensor, given: Mapping[str, Tensor], last: bool) -> Tensor:
        """A latent after the ``last_steps`` steps, or after all others."""
        split = self.steps - self.last_steps
        for i in range(split, self.steps) if last else range(split):
            t = int(self.scheduler.timesteps[i])
            noise = self.network.unet(torch.cat([x, given["condition"]], dim=1), t, return_dict=False)[0].to(x)
            anew = given["step_noise"][:, i] if self.eta else None
            x = self.scheduler.step(noise, t, x, eta=self.eta, variance_noise=anew, return_dict=False)[0]
        return x


def _from_network(output: Tensor) -> Tensor:
    """The decoder's image ``(B, 3, h, w)``, from [-1, 1] to [0, 1]."""
    return (output + 1) / 2


def _noise(level: Level, name: str, like: Tensor) -> Tensor:
    """A condition of a level, checked, in the dtype and on the device of the latent."""
    noise = level.conditions.get(name)
    if noise is None or noise.shape != like.shape:
        got = "nothing" if noise is None else tuple(noise.shape)
        raise ValueError(
            f"latent diffusion needs the condition {name!r} of shape {tuple(like.shape)} at a level of "
            f"{level.image.shape[-1]}x{level.image.shape[-2]} px; got {got}. Take it from LDM.conditions, or draw it "
            "from the standard normal distribution."
        )
    return noise.to(like)


def _check_sampling(steps: int, last_steps: int, eta: float) -> None:
    if not 1 <= steps <= 999:  # of 1000, the first of which the original skips
        raise ValueError(f"backbone.steps must be in 1 ... 999; got {steps}.")
    if not 1 <= last_steps <= steps:
        raise ValueError(f"backbone.last_steps must be in 1 ... backbone.steps={steps}; got {last_steps}.")
    if not 0 <= eta <= 1:
        raise ValueError(f"backbone.eta must be in [0, 1]; got {eta}.")


def _checked_cuts(cut: str | Sequence[str], places: Sequence[str]) -> tuple[str, ...]:
    cuts = [cut] if isinstance(cut, str) or not isinstance(cut, Sequence) else list(cut)
    if not cuts or not set(cuts) <= set(places) or len(set(cuts)) < len(cuts):
        raise ValueError(
            f"backbone.cut={cut!r}: expected one of {', '.join(places)}, before which this network can be cut, or a "
            "list of different ones."
        )
    return tuple(sorted(cuts, key=places.index))
