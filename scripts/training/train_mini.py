"""Train a small generator on procedural scenes and photos: how the bundled weights were made.

    python scripts/training/train_mini.py out=runs/mini photos=<folder>
    python scripts/training/train_mini.py name=mini_aot network.kind=aot_gan out=runs/mini_aot photos=<folder>

An epoch is ``interval`` steps; each ends with a validation, a row of ``curves.csv``, a checkpoint and the averaged
weights. The same command resumes after a kill, without a break in the curve: every crop follows from the seed and
its number, and the phase of the training from the step.
"""

import csv
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import hydra
import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import l1_loss, max_pool2d, relu
from torch.utils.data import DataLoader, Dataset, Sampler

from refine.backbones import aot_gan
from refine.backbones.lama.fourier import FFCBlock, FourierUnit
from refine.backbones.lama.generator import LaMaConfig, RegularBlock, build

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from training import scenes

Image = NDArray[np.uint8]
CONFIGS = str(Path(__file__).resolve().parents[2] / "configs")
PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
VALIDATION = 10**9  # scenes from this number on are never trained on
RESIDUAL = 0.2  # weight of a block's last norm at the start: near-identity blocks learn faster


# ---------------------------------------------------------------- data


class Pool:
    """Scenes, rendered when first asked for; kept in memory and in a folder that all workers and runs share.

    Args:
        seed: Of the scenes.
        size: Side in px.
        folder: For the files.
    """

    def __init__(self, seed: int, size: int, folder: Path) -> None:
        self._seed, self._size, self._folder = seed, size, folder
        self._kept: dict[int, Image] = {}

    def __getitem__(self, index: int) -> Image:
        if index not in self._kept:
            self._kept[index] = self._read_or_render(index)
        return self._kept[index]

    def _read_or_render(self, index: int) -> Image:
        path = self._folder / f"{self._seed}-{index}-{self._size}.png"
        if path.exists():
            return cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)  # type: ignore[no-any-return]
        image = scenes.render([self._seed, index], self._size)
        encoded = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
        self._folder.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda part: part.write_bytes(encoded))
        return image


def read_photos(folder: str | None, crop: int) -> list[Image]:
    """All photos of a folder in the order of their names, RGB ``(h, w, 3)``.

    Args:
        folder: Where they are; None for none.
        crop: Smallest side they must have, in px.

    Raises:
        ValueError: If the folder holds no photo of that size.
    """
    if folder is None:
        return []
    names = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in PHOTOS)
    photos = [cv2.imread(str(path), cv2.IMREAD_COLOR_RGB) for path in names]
    photos = [photo for photo in photos if photo is not None and min(photo.shape[:2]) >= crop]
    if not photos:
        raise ValueError(
            f"photos={folder}: got {len(names)} files {'/'.join(PHOTOS)}, expected at least one photo with sides of "
            f"{crop} px or more. Set photos to such a folder, or to null to train on scenes alone."
        )
    return photos


def split_photos(photos: list[Image], held_out: int) -> tuple[list[Image], list[Image]]:
    """Photos to train on, and every n-th of them for validation instead.

    Args:
        photos: All of them.
        held_out: How many are kept for validation.

    Raises:
        ValueError: If none would be left to train on.
    """
    if not photos:
        return [], []
    if not 0 < held_out < len(photos):
        raise ValueError(
            f"data.held_out={held_out}: got {len(photos)} photos, expected 1 to {len(photos) - 1} of them to be held "
            "out. Change data.held_out."
        )
    held = {i * len(photos) // held_out for i in range(held_out)}
    return [p for i, p in enumerate(photos) if i not in held], [photos[i] for i in sorted(held)]


def cut(rng: np.random.Generator, image: Image, crop: int, zoom: float) -> Image:
    """A random square of an image, ``(crop, crop, 3)``, downscaled by up to ``zoom``, perhaps mirrored."""
    most = min(*image.shape[:2], crop * zoom)
    side = round(crop * math.exp(rng.uniform(0, math.log(most / crop)))) if most > crop else crop
    y, x = (int(rng.integers(n - side + 1)) for n in image.shape[:2])
    part = image[y : y + side, x : x + side]
    part = cv2.resize(part, (crop, crop), interpolation=cv2.INTER_AREA) if side != crop else part
    return part[:, ::-1] if rng.uniform() < 0.5 else part


def to_tensors(image: Image, hole: Image) -> tuple[Tensor, Tensor]:
    """Image ``(3, h, w)`` in [0, 1] and mask ``(1, h, w)``, 1 = hole."""
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float() / 255
    return pixels, torch.from_numpy(hole)[None].float()


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """Crops of photos and scenes with holes; a crop follows from its number alone.

    Args:
        photos: To cut from.
        seed: Of everything.
        crop: Side in px.
        photo_share: Share of the crops that are cut from photos.
        zoom: See :func:`cut`.
        pool: Scenes, which the other crops are cut from.
        count: Number of scenes.
    """

    def __init__(
        self, photos: list[Image], seed: int, crop: int, photo_share: float, zoom: float, pool: Pool, count: int
    ) -> None:
        self.photos, self.seed, self.crop, self.zoom = photos, seed, crop, zoom
        self.photo_share = photo_share if photos else 0.0
        self.pool, self.count = pool, count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([self.seed, index])
        if rng.uniform() < self.photo_share:
            image = self.photos[int(rng.integers(len(self.photos)))]
        else:
            image = np.rot90(self.pool[int(rng.integers(self.count))], int(rng.choice([0, 0, 1, 3])))
        hole = scenes.hole([self.seed, index], self.crop)
        return to_tensors(cut(rng, image, self.crop, self.zoom), hole)


class Order(Sampler[int]):
    """The numbers of an epoch's crops; Lightning tells the epoch."""

    def __init__(self, length: int) -> None:
        self.length, self.epoch = length, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.epoch * self.length, (self.epoch + 1) * self.length))

    def __len__(self) -> int:
        return self.length


def validation_sets(photos: list[Image], crop: int, zoom: float, count: int = 30) -> dict[str, list[Any]]:
    """Fixed crops with holes: one of each held-out photo, and scenes of their own; the same for every seed."""
    images = {
        "photos": [cut(np.random.default_rng(i), photo, crop, zoom) for i, photo in enumerate(photos)],
        "scenes": [scenes.render([0, VALIDATION + i], crop) for i in range(count)],
    }
    return {
        name: [to_tensors(image, scenes.hole([VALIDATION, i], crop)) for i, image in enumerate(group)]
        for name, group in images.items()
        if group
    }


# ---------------------------------------------------------------- networks


class FloatFourierUnit(FourierUnit):
    """A Fourier unit that stays in float32 under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        """See :class:`FourierUnit`."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    """All batch norms; an AOT-GAN has none."""
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def sizes_of(network: DictConfig) -> LaMaConfig | aot_gan.AOTGANConfig:
    """The sizes that ``network`` asks for."""
    if network.kind == "aot_gan":
        return aot_gan.AOTGANConfig(network.width, network.blocks, tuple(network.rates))
    channels = network.width * 2**network.downsamplings
    share = int(channels * network.global_share) if network.kind == "ffc" else 0
    return LaMaConfig(network.kind, network.width, network.downsamplings, network.blocks, share)


def generator(sizes: LaMaConfig | aot_gan.AOTGANConfig, init: str | None) -> nn.Module:
    """A generator to train: float32 transforms, near-identity blocks.

    Args:
        sizes: What to build.
        init: Weights to start from; None for random ones.
    """
    model = build(sizes) if isinstance(sizes, LaMaConfig) else aot_gan.Generator(sizes)
    for module in model.modules():
        if isinstance(module, FourierUnit):
            module.__class__ = FloatFourierUnit
        elif isinstance(module, FFCBlock | RegularBlock):
            _soften(module)
    if isinstance(model, aot_gan.Generator):
        _scale(model)
    if init is not None:
        state = {key.removeprefix("model."): value for key, value in load_file(init).items()}
        model.load_state_dict(state | {k: v for k, v in model.state_dict().items() if k.endswith("tracked")})
    return model


def _soften(block: FFCBlock | RegularBlock) -> None:
    last = (
        [block.conv_block[-1]] if isinstance(block, RegularBlock) else [block.conv2.bn_l, block.conv2.bn_g or nn.ReLU()]
    )
    for norm in last:
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.constant_(norm.weight, RESIDUAL)


@torch.no_grad()
def _scale(model: aot_gan.Generator) -> None:
    """Let a network without norms keep the scale of what flows through it, and start from gray."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    model.decoder[-1].weight.mul_(RESIDUAL)  # type: ignore[operator, union-attr]


@torch.no_grad()
def calibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Measure the statistics of the norms anew; running ones lag behind weights that move fast.

    Args:
        model: Left in its mode; without norms there is nothing to do.
        batches: Inputs ``(B, 4, h, w)``.
    """
    if not norms(model):
        return
    trained, momenta = model.training, [norm.momentum for norm in norms(model)]
    for norm in norms(model):
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over the batches
    model.train()
    for batch in batches:
        model(batch)
    model.train(trained)
    for norm, momentum in zip(norms(model), momenta, strict=True):
        norm.momentum = momentum


class PatchCritic(nn.Module):
    """Says of patches whether they are real: PatchGAN with spectral norms, 30 px of sight."""

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
        """Features of each layer, then the verdict ``(B, 1, h, w)``, positive for real."""
        x, features = torch.cat([image * 2 - 1, mask], dim=1), []
        for layer in self.layers:
            x = nn.functional.leaky_relu(layer(x), 0.2)
            features.append(x)
        return [*features, self.judge(x)]


# ---------------------------------------------------------------- losses


def in_hole(difference: Tensor, mask: Tensor) -> Tensor:
    """Mean of a difference ``(B, C, h, w)`` over the pixels of a mask ``(B, 1, h, w)``."""
    return (difference * mask).sum() / (mask.sum() * difference.shape[1]).clamp(min=1)


def gradient_loss(prediction: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """L1 of the differences between neighbors in the hole."""
    error = prediction - image
    across, down = error.diff(dim=-1).abs(), error.diff(dim=-2).abs()
    return in_hole(across, mask[..., 1:]) + in_hole(down, mask[..., 1:, :])


def hole_psnr(prediction: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """PSNR of each image inside its hole, dB, ``(B,)``."""
    squared = ((prediction.clamp(0, 1) - image) ** 2 * mask).sum(dim=(1, 2, 3)) / (3 * mask.sum(dim=(1, 2, 3)))
    return -10 * torch.log10(squared.clamp(min=1e-10))


def sharpness(prediction: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Gradients in the hole, predicted over true; 1 is as sharp as the image."""
    inner = mask[..., 1:] * mask[..., :-1]
    return in_hole(prediction.diff(dim=-1).abs(), inner) / in_hole(image.diff(dim=-1).abs(), inner).clamp(min=1e-6)


# ---------------------------------------------------------------- training


@dataclass
class Schedule:
    """What depends on the step, and on nothing else."""

    steps: int
    warmup: int

    def rate(self, step: int) -> float:
        """Share of the learning rate: linear warmup, then half a cosine to zero."""
        cosine = 0.5 + 0.5 * math.cos(math.pi * min(step / self.steps, 1))
        return min((step + 1) / (self.warmup + 1), 1) * cosine

    def past(self, share: float, step: int) -> bool:
        """Whether a share of the training is over."""
        return step >= share * self.steps


class Training(lightning.LightningModule):
    """L1, later with a discriminator; optimizers take turns by hand.

    Args:
        config: See ``configs/train_mini.yaml``.
        groups: Names of the validation sets.
    """

    def __init__(self, config: DictConfig, groups: list[str]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.config, self.groups = config, groups
        self.schedule = Schedule(config.steps, config.optimizer.warmup)
        memory = torch.channels_last if config.channels_last else torch.contiguous_format
        self.model = generator(sizes_of(config.network), config.init).to(memory_format=memory)
        self.average = generator(sizes_of(config.network), None).to(memory_format=memory)
        self.average.load_state_dict(self.model.state_dict())
        self.average.requires_grad_(False)
        self.critic = PatchCritic(config.loss.width).to(memory_format=memory)
        self.memory = memory
        self.settled = False  # whether the norms have the statistics that they keep

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Called by Lightning."""
        checkpoint["settled"] = self.settled

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Called by Lightning."""
        self.settled = checkpoint.get("settled", False)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One for the generator, one for the discriminator."""
        at = self.config.optimizer
        return [
            torch.optim.AdamW(self.model.parameters(), at.lr, (0.9, 0.99), weight_decay=at.weight_decay),
            torch.optim.AdamW(self.critic.parameters(), self.config.loss.lr, (0.5, 0.99), weight_decay=0.0),
        ]

    def on_train_epoch_start(self) -> None:
        """Norms use the statistics of the batch at first; later those they had when they froze."""
        self.model.train()
        self.average.eval()
        if self._frozen(self.current_epoch):
            if not self.settled:
                self._calibrate(self.model)
                self.settled = True
            for norm in norms(self.model):
                norm.eval()

    def on_validation_start(self) -> None:
        """Give the average statistics of its own, or those that the norms froze with."""
        if self._frozen(self.current_epoch):
            self.average.load_state_dict(dict(self.average.named_parameters()) | dict(self.model.named_buffers()))
        else:
            self._calibrate(self.average)

    def _frozen(self, epoch: int) -> bool:
        return self.schedule.past(self.config.optimizer.freeze_norms, epoch * self.config.interval)

    def _calibrate(self, model: nn.Module) -> None:
        crops, size = self.trainer.train_dataloader.dataset, self.config.data.batch  # type: ignore[union-attr]
        count = self.config.optimizer.calibration

        def inputs() -> Iterator[Tensor]:
            for first in range(VALIDATION, VALIDATION + count * size, size):
                image, mask = (torch.stack(part) for part in zip(*(crops[first + i] for i in range(size)), strict=True))
                yield to_network(model, image, mask).to(self.device, memory_format=self.memory)

        with self.trainer.precision_plugin.forward_context():
            calibrate(model, inputs())

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """One step of the generator, and later one of the discriminator."""
        step = self.current_epoch * self.config.interval + index
        image, mask = (tensor.contiguous(memory_format=self.memory) for tensor in batch)
        own, others = self.optimizers()  # type: ignore[misc]
        prediction = self.predict(self.model, image, mask)
        terms = self._reconstruction(prediction, image, mask)
        loss = terms["hole"] + self.config.loss.known * terms["known"] + self.config.loss.gradient * terms["gradient"]
        if self.schedule.past(self.config.loss["from"], step):
            filled = image + mask * (prediction - image)
            terms |= self._adversarial(filled, image, mask)
            loss = loss + self.config.loss.adversarial * terms["adversarial"]
            loss = loss + self.config.loss.features * terms["features"]
            self._update(own, self.model, loss, step, self.config.optimizer.lr)
            terms["critic"] = self._critic_loss(filled.detach(), image, mask)
            self._update(others, self.critic, terms["critic"], step, self.config.loss.lr)
        else:
            self._update(own, self.model, loss, step, self.config.optimizer.lr)
        self._follow(step)
        values = {f"train/{name}": value.detach() for name, value in terms.items()}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=image.shape[0])

    @staticmethod
    def predict(model: nn.Module, image: Tensor, mask: Tensor) -> Tensor:
        """The prediction ``(B, 3, h, w)`` on the nominal [0, 1] scale, float32."""
        output = model(to_network(model, image, mask)).float()
        return aot_gan.from_network(output) if isinstance(model, aot_gan.Generator) else output

    def _reconstruction(self, prediction: Tensor, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        error = (prediction - image).abs()
        return {
            "hole": in_hole(error, mask),
            "known": in_hole(error, 1 - mask),
            "gradient": gradient_loss(prediction, image, mask),
        }

    def _adversarial(self, filled: Tensor, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        self.critic.requires_grad_(False)
        with torch.no_grad():
            real = self.critic(image, mask)
        fake = self.critic(filled, mask)
        self.critic.requires_grad_(True)
        near = [l1_loss(a.float(), b.float()) for a, b in zip(fake[:-1], real[:-1], strict=True)]
        return {
            "adversarial": in_hole(-fake[-1].float(), patches(mask, fake[-1])),
            "features": torch.stack(near).mean(),
        }

    def _critic_loss(self, filled: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        verdict = self.critic(torch.cat([image, filled]), torch.cat([mask, mask]))[-1].float()
        real, fake = verdict.chunk(2)
        return relu(1 - real).mean() + in_hole(relu(1 + fake), patches(mask, fake))

    def _update(self, optimizer: Any, model: nn.Module, loss: Tensor, step: int, lr: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = lr * self.schedule.rate(step)
        optimizer.zero_grad()
        self.manual_backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), self.config.optimizer.clip)
        optimizer.step()

    @torch.no_grad()
    def _follow(self, step: int) -> None:
        """Let the average follow the model; quickly at first."""
        decay = min(self.config.optimizer.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int, dataloader_idx: int = 0) -> None:
        """Score the averaged network."""
        image, mask = batch
        prediction = self.predict(self.average, image, mask)
        values = {"psnr": hole_psnr(prediction, image, mask).mean(), "sharpness": sharpness(prediction, image, mask)}
        group = self.groups[dataloader_idx]
        self.log_dict(
            {f"val/{group}_{name}": value for name, value in values.items()},
            batch_size=image.shape[0],
            add_dataloader_idx=False,
        )


def to_network(model: nn.Module, image: Tensor, mask: Tensor) -> Tensor:
    """What the network sees, ``(B, 4, h, w)``, as its adapter shows it."""
    if isinstance(model, aot_gan.Generator):
        return aot_gan.to_network(image, mask)
    return torch.cat([image * (1 - mask), mask], dim=1)


def patches(mask: Tensor, verdict: Tensor) -> Tensor:
    """The mask as the discriminator's verdict sees it: a patch is fake where it meets the hole."""
    factor = mask.shape[-1] // verdict.shape[-1]
    small = max_pool2d(mask, factor)
    return nn.functional.interpolate(small, verdict.shape[-2:])


# ---------------------------------------------------------------- what is kept


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file so that a kill leaves the old one or the new one, whole."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    write(part)
    os.replace(part, path)


class Keep(Callback):
    """After each epoch: a row of ``curves.csv``, the averaged weights, the checkpoint to resume from.

    Args:
        out: Folder.
        name: Of the weights.
        interval: Steps of an epoch.
    """

    def __init__(self, out: Path, name: str, interval: int) -> None:
        self.curves, self.weights, self.last = out / "curves.csv", out / f"{name}.safetensors", out / "last.ckpt"
        self.interval = interval
        self.started = time.perf_counter()

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Take the time."""
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Keep everything; the checkpoint last, since it vouches for the rest."""
        assert isinstance(module, Training)
        step = (trainer.current_epoch + 1) * self.interval
        values = {name: f"{value:.6g}" for name, value in sorted(trainer.callback_metrics.items())}
        seconds = f"{time.perf_counter() - self.started:.1f}"
        row = {"step": str(step), "seconds": seconds, "rate": f"{module.schedule.rate(step):.4g}"} | values
        rows = [old for old in read_curves(self.curves) if int(old["step"]) < step]
        replace_file(self.curves, lambda path: _write_curves(path, [*rows, row]))
        replace_file(self.weights, lambda path: save_weights(module.average, path))
        replace_file(self.last, trainer.save_checkpoint)
        print("  ".join(f"{name}={value}" for name, value in row.items()), flush=True)


def read_curves(path: Path) -> list[dict[str, str]]:
    """The rows of ``curves.csv``; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _write_curves(path: Path, rows: list[dict[str, str]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)


def save_weights(model: nn.Module, path: Path) -> None:
    """Save a generator with the names of the official ones: LaMa's begin with ``model.``, AOT-GAN's do not."""
    prefix = "" if isinstance(model, aot_gan.Generator) else "model."
    state = model.state_dict()
    kept = {prefix + name: state[name].float().cpu().contiguous() for name in state if not name.endswith("tracked")}
    save_file(kept, path)


def loaders(config: DictConfig) -> tuple[DataLoader[Any], dict[str, DataLoader[Any]]]:
    """The training crops, and the validation sets by name."""
    data = config.data
    photos, held_out = split_photos(read_photos(config.photos, data.crop), data.held_out)
    pool = Pool(config.seed, data.scene_size, Path(config.out) / "scenes")
    crops = Crops(photos, config.seed, data.crop, data.photo_share, data.zoom, pool, data.scenes)
    training = DataLoader(
        crops,
        data.batch,
        sampler=Order(config.interval * data.batch),
        num_workers=data.workers,
        persistent_workers=data.workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
    groups = validation_sets(held_out, data.crop, data.zoom)
    return training, {name: DataLoader(group, data.batch) for name, group in groups.items()}  # type: ignore[arg-type]


def train(config: DictConfig) -> None:
    """Train, or go on training.

    Args:
        config: See ``configs/train_mini.yaml``.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    cv2.setNumThreads(1)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    replace_file(out / "config.yaml", lambda path: OmegaConf.save(config, path))
    torch.manual_seed(config.seed)
    training, validation = loaders(config)
    keep = Keep(out, config.name, config.interval)
    trainer = lightning.Trainer(
        **config.trainer,
        devices=1,
        max_epochs=math.ceil(config.steps / config.interval),
        callbacks=[keep],
        logger=_logger(config),
        default_root_dir=out,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    resume = str(keep.last) if keep.last.exists() else None
    trainer.fit(Training(config, list(validation)), training, list(validation.values()), ckpt_path=resume)


def _logger(config: DictConfig) -> WandbLogger | bool:
    if config.wandb is None:
        return False
    try:
        return WandbLogger(project=config.wandb, name=config.name, id=config.name, save_dir=config.out, resume="allow")
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"wandb={config.wandb}: the package wandb is not installed. Install it, or set wandb to null: the curves "
            "are in curves.csv either way."
        ) from None


@hydra.main(version_base=None, config_path=CONFIGS, config_name="train_mini")
def main(config: DictConfig) -> None:
    """See the top of the file."""
    train(config)


if __name__ == "__main__":
    main()
