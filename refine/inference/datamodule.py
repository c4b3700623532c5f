"""The images of a run as Lightning takes them."""

from operator import itemgetter

import lightning as L
import torch
from torch.utils.data import DataLoader, Sampler

from refine.core.types import Sample
from refine.data.dataset import PairDataset
from refine.data.pairs import Failure


class PairDataModule(L.LightningDataModule):
    """Gives the predict loop one image at a time: refinement outweighs reading by far.

    Args:
        dataset: Image and mask pairs that are still to be refined, the same in every process.
        sampler: Sampler of this process's own.
    """

    def __init__(self, dataset: PairDataset, sampler: Sampler[int]) -> None:
        super().__init__()
        self.dataset, self.sampler = dataset, sampler
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer images than processes

    def predict_dataloader(self) -> DataLoader[Sample | Failure]:
        """Images in the order of the sampler; Lightning wants a batch sampler, so a batch is one image."""
        return DataLoader(self.dataset, batch_size=1, sampler=self.sampler, collate_fn=itemgetter(0))

    def transfer_batch_to_device(
        self, batch: Sample | Failure, device: torch.device, dataloader_idx: int
    ) -> Sample | Failure:
        """Move a sample; Lightning itself does not move frozen dataclasses."""
        return batch if isinstance(batch, Failure) else batch.to(device)
