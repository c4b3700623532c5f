"""The images of a run as Lightning takes them."""

from operator import itemgetter

import lightning as L
import torch
from torch.utils.data import DataLoader

from refine.core.types import Sample
from refine.data.dataset import PairDataset
from refine.data.pairs import Failure


class PairDataModule(L.LightningDataModule):
    """Gives the predict loop one image at a time: refinement outweighs reading by far.

    Args:
        dataset: Image and mask pairs that this process refines.
    """

    def __init__(self, dataset: PairDataset) -> None:
        super().__init__()
        self.dataset = dataset

    def predict_dataloader(self) -> DataLoader[Sample | Failure]:
        """Images in the order of the dataset; Lightning wants a batch sampler, so a batch is one image."""
        return DataLoader(self.dataset, batch_size=1, collate_fn=itemgetter(0))

    def transfer_batch_to_device(
        self, batch: Sample | Failure, device: torch.device, dataloader_idx: int
    ) -> Sample | Failure:
        """Move a sample; Lightning itself does not move frozen dataclasses."""
        return batch if isinstance(batch, Failure) else batch.to(device)
