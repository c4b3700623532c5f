"""The images of a run as Lightning takes them."""

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
        threads: Number of threads that read ahead.
    """

    def __init__(self, dataset: PairDataset, sampler: Sampler[int], threads: int = 0) -> None:
        super().__init__()
        self.images = ReadAhead(dataset, sampler, threads)
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer images than processes

    def predict_dataloader(self) -> ReadAhead:
        """Images in the order of the sampler; a batch is one image."""
        return self.images

    def transfer_batch_to_device(
        self, batch: Sample | Failure, device: torch.device, dataloader_idx: int
    ) -> Sample | Failure:
        """Move a sample; Lightning itself does not move frozen dataclasses."""
        return batch if isinstance(batch, Failure) else batch.to(device)
