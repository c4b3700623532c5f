"""The images of a run as Lightning takes them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import lightning as L
import torch
from torch.utils.data import Sampler

from refine.core.types import Sample
from refine.data.dataset import PairDataset
from refine.data.pairs import Failure
from refine.inference.beside import ReadAhead


class PairDataModule(L.LightningDataModule):
    """Gives the predict loop one image at a time: refinement outweighs reading by far.

    Args:
        dataset: Image and mask pairs that are still to be refined, the same in every process.
        sampler: Sampler of this process's own.
        batch: Number of images of one size that may be refined together, >= 1.
        threads: Number of threads that read ahead.
    """

    def __init__(self, dataset: PairDataset, sampler: Sampler[int], batch: int = 1, threads: int = 0) -> None:
        super().__init__()
        self.batch = batch
        self.images = ReadAhead(dataset, sampler, threads)
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer images than processes

    def predict_dataloader(self) -> "ReadAhead | Neighbors":
        """Images in the order of the sampler; a batch of Lightning is one image."""
        return Neighbors(self.images, self.batch) if self.batch > 1 else self.images

    def transfer_batch_to_device(
        self, batch: Sample | Failure, device: torch.device, dataloader_idx: int
    ) -> Sample | Failure:
        """Move a sample; Lightning itself does not move frozen dataclasses."""
        return batch if isinstance(batch, Failure) else batch.to(device)


class Neighbors:
    """Tells images of one size that follow each other of each other, so that they may be refined together.

    They still come one by one: who reads, scores and writes them knows nothing of it.

    Args:
        images: Samples in their order, and failures.
        batch: Largest number of images that are told of each other, >= 2.
    """

    def __init__(self, images: ReadAhead | Sequence[Sample | Failure], batch: int) -> None:
        self.images, self.batch = images, batch

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Sample | Failure]:
        waiting: list[Sample] = []
        for image in self.images:
            if isinstance(image, Failure):
                yield image
                continue
            if len(waiting) == self.batch or (waiting and waiting[0].image.shape != image.image.shape):
                yield from _acquainted(waiting)
                waiting = []
            waiting.append(image)
        yield from _acquainted(waiting)


def _acquainted(samples: Iterable[Sample]) -> list[Sample]:
    together = tuple(samples)
    return [replace(sample, together=together if len(together) > 1 else ()) for sample in together]
