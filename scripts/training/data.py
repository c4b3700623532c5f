"""Training data: random crops of photos and scenes, each with a hole; validation sets; data loaders."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from refine.io.files import write_atomic
from training import scenes

Image = NDArray[np.uint8]
PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
VALIDATION = 10**9  # scenes from this number on are never trained on


class Pool:
    """Scenes, rendered when first used; kept in memory and in a folder that all workers and runs share.

    Args:
        seed: Seed of the scenes.
        size: Side of a scene, in px.
        folder: Folder of the files.
    """

    def __init__(self, seed: int, size: int, folder: Path) -> None:
        self._seed, self._size, self._folder = seed, size, folder
        self._scenes: dict[int, Image] = {}

    def __getitem__(self, index: int) -> Image:
        if index not in self._scenes:
            self._scenes[index] = self._read_or_render(index)
        return self._scenes[index]

    def _read_or_render(self, index: int) -> Image:
        path = self._folder / f"{self._seed}-{index}-{self._size}.png"
        if path.exists():
            return cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        image = scenes.render([self._seed, index], self._size)
        encoded = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, encoded, self._folder)
        return image


def read_photos(folder: str | None, crop: int) -> list[Image]:
    """All photos of a folder in the order of their names, RGB ``(h, w, 3)``.

    Args:
        folder: Folder of the photos; None for no photos.
        crop: Smallest side of a photo, in px; smaller ones are left out.

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
        photos: All photos, RGB, ``(h, w, 3)``.
        held_out: Number of photos kept for validation.

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
    indices = {i * len(photos) // held_out for i in range(held_out)}
    return [p for i, p in enumerate(photos) if i not in indices], [photos[i] for i in sorted(indices)]


def cut(rng: np.random.Generator, image: Image, crop: int, zoom: float) -> Image:
    """A random square of an image, ``(crop, crop, 3)``, downscaled by up to ``zoom``, perhaps mirrored."""
    most = min(*image.shape[:2], crop * zoom)
    side = round(crop * math.exp(rng.uniform(0, math.log(most / crop)))) if most > crop else crop
    y, x = (int(rng.integers(n - side + 1)) for n in image.shape[:2])
    part = image[y : y + side, x : x + side]
    part = cv2.resize(part, (crop, crop), interpolation=cv2.INTER_AREA) if side != crop else part
    return part[:, ::-1] if rng.uniform() < 0.5 else part


def to_tensors(image: Image, hole: Image) -> tuple[Tensor, Tensor]:
    """Convert to an image, ``(3, h, w)``, in [0, 1], and a mask, ``(1, h, w)``, 1 = hole."""
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float() / 255
    return pixels, torch.from_numpy(hole)[None].float()


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """Crops of photos and scenes with holes; a crop follows from its number alone.

    Args:
        photos: Photos, RGB, ``(h, w, 3)``.
        seed: Seed of crops and holes.
        crop: Side of a crop, in px.
        photo_share: Share of the crops that are cut from photos, in [0, 1].
        zoom: Largest downscaling of a crop, >= 1.
        pool: Scenes that the other crops are cut from.
        count: Number of scenes used.
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


class EpochSampler(Sampler[int]):
    """Numbers of the crops of an epoch: each crop is used once.

    Args:
        length: Crops per epoch.
    """

    def __init__(self, length: int) -> None:
        self.length, self.epoch = length, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls it before each."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.epoch * self.length, (self.epoch + 1) * self.length))

    def __len__(self) -> int:
        return self.length


def validation_sets(photos: list[Image], crop: int, zoom: float, count: int = 30) -> dict[str, list[Any]]:
    """Fixed crops with holes: one of each held-out photo, and scenes never trained on; the same for every seed."""
    images = {
        "photos": [cut(np.random.default_rng(i), photo, crop, zoom) for i, photo in enumerate(photos)],
        "scenes": [scenes.render([0, VALIDATION + i], crop) for i in range(count)],
    }
    return {
        name: [to_tensors(image, scenes.hole([VALIDATION, i], crop)) for i, image in enumerate(group)]
        for name, group in images.items()
        if group
    }


def loaders(config: DictConfig) -> tuple[DataLoader[Any], dict[str, DataLoader[Any]]]:
    """Loader of the training crops, and loaders of the validation sets by name."""
    data = config.data
    photos, held_out = split_photos(read_photos(config.photos, data.crop), data.held_out)
    pool = Pool(config.seed, data.scene_size, Path(config.out) / "scenes")
    crops = Crops(photos, config.seed, data.crop, data.photo_share, data.zoom, pool, data.scenes)
    training = DataLoader(
        crops,
        data.batch,
        sampler=EpochSampler(config.interval * data.batch),
        num_workers=data.workers,
        persistent_workers=data.workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
    groups = validation_sets(held_out, data.crop, data.zoom)
    return training, {name: DataLoader(group, data.batch) for name, group in groups.items()}
