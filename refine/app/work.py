"""One photo refined for one user: what a thread does, how far it is, and what came out, for the page to read."""

import functools
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from torch import Tensor

from refine.app.notices import noticed
from refine.app.photos import Photo, jpeg, make_sample
from refine.app.words import Facts, list_of, verdict
from refine.config import first_line
from refine.core.memory import refine_in_memory
from refine.core.per_level import at_level
from refine.core.refiner import Refiner
from refine.core.types import Refinement, Sample, Step
from refine.data.dataset import encoded
from refine.inference.logging.console import log
from refine.inference.panels import composited, marked, resized, shown_size, to_bytes
from refine.metrics.evaluator import Evaluator, enlarged_into

KEPT = 4  # pictures of a level's course, besides the one before the first update
OFTEN = 0.3  # s between two pictures that are only for the eye
LOSSY = "jpg"  # the one format that is written with a loss
State = Literal["waiting", "running", "done", "stopped", "failed"]


class Stopped(Exception):
    """The user wants no more of it."""


@dataclass
class Progress:
    """How far a refinement is.

    Attributes:
        text: What is done now.
        share: Share of the updates of all levels that is done, in [0, 1].
        losses: Losses by index of the level.
        picture: JPEG of the latest iterate in the photo.
    """

    text: str = "Waiting"
    share: float = 0.0
    losses: dict[int, list[float]] = field(default_factory=dict)
    picture: bytes | None = None


class Canvas:
    """Draws what is in the hole into a small copy of the photo.

    Args:
        sample: Sample at full size.
        side: Longest side of the pictures, px.
    """

    def __init__(self, sample: Sample, side: int) -> None:
        size = shown_size((sample.image.shape[-2], sample.image.shape[-1]), side)
        self.image, self.mask = resized(sample.image, size), resized(sample.mask, size)

    def draw(self, prediction: Tensor) -> bytes:
        """A JPEG.

        Args:
            prediction: ``(1, 3, h, w)`` at any size.
        """
        return jpeg(to_bytes(composited(prediction, self.image, self.mask)))

    def empty(self) -> bytes:
        """A JPEG of the photo with its hole painted over."""
        return jpeg(to_bytes(marked(self.image, self.mask)))


class Work:
    """The refinement of one photo. One thread runs it, others read its attributes and may stop it.

    Args:
        photo: Photo that is to be refined.
        hole: ``(H, W)`` bool, True = hole.
        choice: Names of backbone and preset, as the page shows them.
        make_refiner: Function that makes the refiner; it may take long.
        side: Longest side of the pictures for the page, px.

    Attributes:
        state: State of the work.
        message: What is to be said at its end, HTML.
        notices: Warnings that its user should read.
        progress: How far it is.
        views: JPEG by name: hole, plain, upscaled, refined, and steps of the levels.
        files: Bytes of the downloads by name; the first is in the photo's own format.
        ended: Set at its end.
    """

    def __init__(
        self,
        photo: Photo,
        hole: np.ndarray,
        choice: tuple[str, str],
        make_refiner: Callable[[], Refiner],
        side: int,
    ) -> None:
        self.photo, self.hole, self.choice, self.side = photo, hole, choice, side
        self._make_refiner = make_refiner
        self.state: State = "waiting"
        self.message = ""
        self.notices: list[str] = []
        self.progress = Progress()
        self.views: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.ended = threading.Event()
        self._stop = threading.Event()
        self._lock = threading.Lock()  # of the way from waiting to what comes next
        self._latest: Step | None = None
        self._drawn = 0.0

    def stop(self) -> None:
        """End it: at once while it waits, before the next update while it runs."""
        with self._lock:
            self._stop.set()
            if self.state == "waiting":
                self._end("stopped", list_of(["Stopped while it waited; there is no result"]))

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop and has not ended."""
        return self._stop.is_set() and not self.ended.is_set()

    def run(self) -> None:
        """Do it; no exception leaves this method."""
        with self._lock:
            if self.ended.is_set():
                return
            self.state = "running"
        try:
            with noticed() as self.notices:
                state, message = self._run()
            self._end(state, message)
        except (ValueError, MemoryError, FloatingPointError) as error:
            self._end("failed", list_of([str(error) or "Memory ran out"], "fault"))
        except Exception as error:
            log.error("refine app: %s", traceback.format_exc())
            text = f"{type(error).__name__}: {first_line(error)} (the terminal of refine app has more)"
            self._end("failed", list_of([text], "fault"))
        finally:
            self._latest = None  # of a large photo it is large

    def _end(self, state: State, message: str) -> None:
        """Whoever waits for the end finds all that there is to know."""
        self.message, self.state = message, state
        self.ended.set()

    def _run(self) -> tuple[State, str]:
        """Refine the photo: how it ended, and what is to be said, HTML."""
        self.progress.text = "Loading the network"
        refiner = self._make_refiner()
        sample = make_sample(self.photo, self.hole)
        canvas = Canvas(sample, self.side)
        self.views["hole"] = canvas.empty()
        start = time.perf_counter()
        try:
            refinement = self._refine(refiner, sample, canvas)
        except Stopped:
            return "stopped", list_of([self._keep_what_there_is(refiner, sample, canvas)])
        self.views["refined"] = canvas.draw(refinement.image)
        self._write(refinement.image, sample)
        planned = [at_level(refiner.steps, index) for index in range(1, len(refinement.levels))]
        facts = Facts(self.choice, planned, time.perf_counter() - start, refiner.keep_detail != ())
        return "done", verdict(refinement, facts)

    def _refine(self, refiner: Refiner, sample: Sample, canvas: Canvas) -> Refinement:
        """The refinement and, where there are several levels, its controls."""
        several = len(refiner.pyramid.sizes(sample.image.shape[-2], sample.image.shape[-1])) > 1
        self._check()
        if several:
            self.progress.text = "The network alone, for comparison"
            plain = Evaluator(refiner).plain(sample.image, sample.network_mask, key=sample.key).image
            self.views["plain"] = self.progress.picture = canvas.draw(plain)
            self._check()
        self.progress.text = "The coarsest level"
        on_step = functools.partial(self._on_step, canvas)
        refinement = refine_in_memory(refiner, sample.image, sample.network_mask, key=sample.key, on_step=on_step)
        if several:
            self.views["upscaled"] = canvas.draw(enlarged_into(sample, refinement.levels[0].image))
        return refinement

    def _on_step(self, canvas: Canvas, step: Step) -> None:
        self._check()
        if step.step == 0:
            self.progress.losses[step.level] = []  # a level again, or its next window
        self.progress.losses[step.level].append(step.loss)
        self.progress.text = (
            f"Level {step.level + 1} of {step.levels}, update {step.step} of {step.steps}, loss {step.loss:.4g}"
        )
        within = step.step / step.steps if step.steps else 1
        self.progress.share = (step.level - 1 + within) / (step.levels - 1)
        self._latest = step
        kept = step.step % max(1, step.steps // KEPT) == 0 or step.step == step.steps
        if kept or time.perf_counter() - self._drawn > OFTEN:
            self._drawn = time.perf_counter()
            self.progress.picture = picture = canvas.draw(step.prediction())
            if kept:
                self.views[f"level {step.level + 1}, update {step.step}"] = picture

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _write(self, image: Tensor, sample: Sample) -> None:
        image, hole = image.cpu(), (sample.mask[0, 0] > 0).cpu().numpy()
        self.files[self.photo.result_name] = encoded(image, hole, sample.source, self.photo.format)
        if self.photo.format == LOSSY:
            self.files[f"{self.photo.upload.stem}_inpainted.png"] = encoded(image, hole, sample.source, "png")

    def _keep_what_there_is(self, refiner: Refiner, sample: Sample, canvas: Canvas) -> str:
        """The latest iterate, enlarged, as the result; what is to be said of it."""
        step = self._latest
        if step is None:
            return "Stopped before the first update; there is no result"
        where = f"Stopped at level {step.level + 1} of {step.levels}, update {step.step} of {step.steps}"
        if refiner.windows is not None:
            return f"{where}. Windows are refined one after the other, so there is no result yet"
        image = enlarged_into(sample, step.prediction())
        self.views["stopped"] = canvas.draw(image)
        self._write(image, sample)
        return f"{where}. The result is what was there then" + (
            ", enlarged, which blurs it" if step.level + 1 < step.levels else ""
        )
