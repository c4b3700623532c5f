"""Lightning module of the training: generator, discriminator and the average of the generator's weights."""

import math
import time
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.functional import l1_loss, relu

from training.data import VALIDATION, Bank
from training.losses import Perceptual, gradient_loss, hole_psnr, in_hole, patches, sharpness
from training.networks import (
    PatchCritic,
    calibrate,
    even_upsampling,
    generator,
    norms,
    predict,
    sizes_of,
    to_network,
)


@dataclass
class Schedule:
    """Learning rate and phases as functions of the step, or of the seconds where a training has a budget of them.

    Attributes:
        steps: Steps of the whole training.
        warmup: Steps of the linear warmup.
        time: Seconds of the whole training; None to count steps.
        spent: Seconds spent so far, by earlier runs too.
    """

    steps: int
    warmup: int
    time: float | None = None
    spent: float = 0.0

    def over(self, step: int) -> float:
        """Share of the training that is over, >= 0; 1 at its end."""
        return step / self.steps if self.time is None else self.spent / self.time

    def rate(self, step: int) -> float:
        """Factor of the learning rate, in [0, 1]: linear warmup, then half a cosine to zero."""
        cosine = 0.5 + 0.5 * math.cos(math.pi * min(self.over(step), 1))
        return min((step + 1) / (self.warmup + 1), 1) * cosine

    def past(self, share: float, step: int) -> bool:
        """Whether a share of the training, in [0, 1], is over."""
        return self.over(step) >= share


class Training(lightning.LightningModule):
    """Training with L1 and gradient losses, later also with a discriminator.

    Args:
        config: Settings, as in ``configs/train_mini.yaml``.
        bank: Images and holes to train on.
        groups: Names of the validation sets, in the order of their loaders.
    """

    def __init__(self, config: DictConfig, bank: Bank, groups: list[str]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.config, self.bank, self.groups = config, bank, groups
        self.schedule = Schedule(config.steps, config.optimizer.warmup, config.time)
        memory = torch.channels_last if config.channels_last else torch.contiguous_format
        self.model = generator(sizes_of(config.network), config.init).to(memory_format=memory)
        if config.network.even_upsampling:
            even_upsampling(self.model)
        self.average = generator(sizes_of(config.network), None).to(memory_format=memory)
        self.average.load_state_dict(self.model.state_dict())
        self.average.requires_grad_(False)
        self.critic = PatchCritic(config.loss.width).to(memory_format=memory)
        self.perceptual = None
        if config.loss.perceptual:
            self.perceptual = Perceptual(config.loss.vgg).to(memory_format=memory)
        self.memory = memory
        self.settled = False  # whether the norms have their final statistics
        self.step = 0  # steps made so far
        self.clock = 0.0  # when the seconds spent were last counted
        self.finished: torch.cuda.Event | None = None  # the end of the last step, on a GPU

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save whether the norms have their final statistics, and the seconds spent."""
        checkpoint["settled"], checkpoint["spent"] = self.settled, self.schedule.spent

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load whether the norms have their final statistics, and the seconds spent."""
        self.settled, self.schedule.spent = checkpoint["settled"], checkpoint["spent"]

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One for the generator, one for the discriminator."""
        settings = self.config.optimizer
        return [
            torch.optim.AdamW(self.model.parameters(), settings.lr, (0.9, 0.99), weight_decay=settings.weight_decay),
            torch.optim.AdamW(self.critic.parameters(), self.config.loss.lr, (0.5, 0.99), weight_decay=0.0),
        ]

    def on_train_start(self) -> None:
        """Start the clock."""
        self.clock = time.perf_counter()

    def on_train_epoch_start(self) -> None:
        """Let the norms use the statistics of the batch at first, and fixed ones once they are frozen."""
        self.model.train()
        self.average.eval()
        if self.schedule.past(self.config.optimizer.freeze_norms, self.current_epoch * self.config.interval):
            if not self.settled:
                self._calibrate(self.model)
                self.settled = True
            for norm in norms(self.model):
                norm.eval()

    def on_validation_start(self) -> None:
        """Measure the batch statistics of the averaged network, or copy the frozen ones."""
        if self.settled:
            self.average.load_state_dict(dict(self.average.named_parameters()) | dict(self.model.named_buffers()))
        else:
            self._calibrate(self.average)

    def _calibrate(self, model: nn.Module) -> None:
        numbers = range(VALIDATION, VALIDATION + self.config.optimizer.calibration)
        batches = (self.bank.batch(number, self.config.data.batch) for number in numbers)
        inputs = (to_network(model, image, mask).to(memory_format=self.memory) for image, mask in batches)
        with self.trainer.precision_plugin.forward_context():
            calibrate(model, inputs)

    def training_step(self, index: int) -> None:
        """One step of the generator, and later one of the discriminator; ``index`` counts within the epoch."""
        self._count_seconds()
        busy = self._busy()
        step = self.current_epoch * self.config.interval + index
        self.step = step + 1
        batch = self.bank.batch(step, self.config.data.batch)
        image, mask = (tensor.contiguous(memory_format=self.memory) for tensor in batch)
        generator_optimizer, critic_optimizer = self.optimizers()
        prediction = predict(self.model, image, mask)
        terms = self._reconstruction(prediction, image, mask)
        loss = terms["hole"] + self.config.loss.known * terms["known"] + self.config.loss.gradient * terms["gradient"]
        filled = image + mask * (prediction - image)
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(filled, image)
            loss = loss + self.config.loss.perceptual * terms["perceptual"]
        if self.schedule.past(self.config.loss["from"], step):
            terms |= self._adversarial(filled, image, mask)
            loss = loss + self.config.loss.adversarial * terms["adversarial"]
            loss = loss + self.config.loss.features * terms["features"]
            self._update(generator_optimizer, self.model, loss, step, self.config.optimizer.lr)
            terms["critic"] = self._critic_loss(filled.detach(), image, mask)
            self._update(critic_optimizer, self.critic, terms["critic"], step, self.config.loss.lr)
        else:
            self._update(generator_optimizer, self.model, loss, step, self.config.optimizer.lr)
        if self.config.network.even_upsampling:
            even_upsampling(self.model)
        self._update_average(step)
        values = {f"train/{name}": value.detach() for name, value in terms.items()}
        values |= busy
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=image.shape[0])
        if self.finished is not None:
            self.finished.record()

    def _busy(self) -> dict[str, float]:
        """Whether a GPU still worked at the last step when this one began: 1 on average means that it never waits."""
        if self.device.type != "cuda":
            return {}
        if self.finished is None:
            self.finished = torch.cuda.Event()
            return {}
        return {"train/busy": float(not self.finished.query())}

    def _count_seconds(self) -> None:
        now = time.perf_counter()
        self.schedule.spent, self.clock = self.schedule.spent + now - self.clock, now
        if self.schedule.time is not None and self.schedule.spent >= self.schedule.time:
            self.trainer.should_stop = True

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
        distances = [l1_loss(a.float(), b.float()) for a, b in zip(fake[:-1], real[:-1], strict=True)]
        return {
            "adversarial": in_hole(-fake[-1].float(), patches(mask, fake[-1])),
            "features": torch.stack(distances).mean(),
        }

    def _critic_loss(self, filled: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        score = self.critic(torch.cat([image, filled]), torch.cat([mask, mask]))[-1].float()
        real, fake = score.chunk(2)
        return relu(1 - real).mean() + in_hole(relu(1 + fake), patches(mask, fake))

    def _update(self, optimizer: Any, model: nn.Module, loss: Tensor, step: int, lr: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = lr * self.schedule.rate(step)
        optimizer.zero_grad()
        self.manual_backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), self.config.optimizer.clip)
        optimizer.step()

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        """Exponential moving average of the weights; it follows quickly at first."""
        decay = min(self.config.optimizer.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int, dataloader_idx: int = 0) -> None:
        """Score the averaged network."""
        image, mask = batch
        prediction = predict(self.average, image, mask)
        values = {"psnr": hole_psnr(prediction, image, mask).mean(), "sharpness": sharpness(prediction, image, mask)}
        group = self.groups[dataloader_idx]
        self.log_dict(
            {f"val/{group}_{name}": value for name, value in values.items()},
            batch_size=image.shape[0],
            add_dataloader_idx=False,
        )
