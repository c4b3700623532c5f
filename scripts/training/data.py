"""Training data: a bank of photos, scenes and holes on the device, which makes the crops; and validation sets."""

import math
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader

from refine.io.files import write_atomic
from training import scenes

Image = NDArray[np.uint8]
PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
VALIDATION = 10**9  # scenes and batches from this number on are never trained on


def _read_or_render(index: int, seed: int, size: int, folder: Path) -> Image:
    path = folder / f"{seed}-{index}-{size}.png"
    if not path.exists():
        encoded = cv2.imencode(".png", scenes.render([seed, index], size)[..., ::-1])[1].tobytes()
        write_atomic(path, encoded, folder)
    return cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)


def read_scenes(count: int, seed: int, size: int, folder: Path, workers: int) -> list[Image]:
    """Scenes ``(size, size, 3)``; those that the folder lacks are rendered first, 0.6 s each, and kept there.

    Args:
        count: Number of scenes.
        seed: Seed of the scenes.
        size: Side of a scene, in px.
        folder: Folder of the files; trainings with the same seed and size may share one.
        workers: Processes that render beside each other; 0 to render in this one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    read = partial(_read_or_render, seed=seed, size=size, folder=folder)
    if workers == 0:
        return [read(i) for i in range(count)]
    with get_context("spawn").Pool(workers) as pool:  # a fork of a process with threads of torch may hang
        return pool.map(read, range(count), chunksize=1)


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


class Bank(nn.Module):
    """All that a training sees, as bytes on the device of the module; its batches are cut there by indexing alone.

    Each image is kept at several scales, so that a crop is never resampled. A batch follows from the seed and its
    number, on any device.

    Args:
        photos: Photos, RGB, ``(h, w, 3)``, at least as large as a crop.
        drawn: Scenes, RGB, ``(h, w, 3)``, as large too.
        seed: Seed of crops and holes.
        data: Settings, as ``data`` in ``configs/train_mini.yaml``.

    Raises:
        ValueError: If there are neither photos nor scenes.
    """

    pixels: Tensor  # (pixels of all images at all scales, 3)
    holes: Tensor  # (pixels of all holes, 1)

    def __init__(self, photos: list[Image], drawn: list[Image], seed: int, data: DictConfig) -> None:
        super().__init__()
        if not photos and not drawn:
            raise ValueError("got neither photos nor scenes. Set photos to a folder, or data.scenes to 1 or more.")
        self.seed, self.crop, self.photos = seed, data.crop, len(photos)
        self.photo_share = data.photo_share if photos and drawn else float(bool(photos))
        scaled = [
            [_shrink(image, zoom, data.crop) for zoom in np.geomspace(1, data.zoom, data.scales)]
            for image in [*photos, *drawn]
        ]
        lengths = np.array([[part.shape[0] * part.shape[1] for part in parts] for parts in scaled])
        sizes = np.array([[part.shape[:2] for part in parts] for parts in scaled])
        starts = np.cumsum(lengths).reshape(lengths.shape) - lengths
        # Per image and scale: its first pixel, height and width.
        self.places = np.concatenate([starts[..., None], sizes], axis=-1)
        pixels = np.concatenate([part.reshape(-1, 3) for parts in scaled for part in parts])
        holes = np.concatenate([scenes.hole([seed, i], data.crop).reshape(-1, 1) for i in range(data.holes)])
        self.register_buffer("pixels", torch.from_numpy(pixels), persistent=False)
        self.register_buffer("holes", torch.from_numpy(holes), persistent=False)

    def batch(self, number: int, size: int) -> tuple[Tensor, Tensor]:
        """Images ``(size, 3, h, w)`` in [0, 1] and masks ``(size, 1, h, w)``, 1 = hole, both channels last.

        Args:
            number: Number of the batch.
            size: Crops of the batch.
        """
        rng = np.random.default_rng([self.seed, number])
        photo = rng.random(size) < self.photo_share
        first, count = np.where(photo, 0, self.photos), np.where(photo, self.photos, len(self.places) - self.photos)
        image = first + (rng.random(size) * count).astype(np.int64)
        start, height, width = self.places[image, rng.integers(self.places.shape[1], size=size)].T
        y, x = ((rng.random(size) * (side - self.crop + 1)).astype(np.int64) for side in (height, width))
        turned = ~photo & (rng.random(size) < 0.5)  # scenes look right when they lie on a side, photos do not
        upside_down, mirrored = turned & (rng.random(size) < 0.5), rng.random(size) < 0.5
        hole = rng.integers(len(self.holes) // self.crop**2, size=size) * self.crop**2
        crops = np.stack([start + y * width + x, width, turned, upside_down, mirrored])
        masks = np.stack([hole, np.full(size, self.crop), *(rng.random((3, size)) < 0.5)])
        drawn = torch.from_numpy(np.stack([crops, masks])).to(self.pixels.device, non_blocking=True)
        images, masks = self._squares(self.pixels, *drawn[0]), self._squares(self.holes, *drawn[1])
        return images / 255, masks

    def _squares(self, flat: Tensor, *drawn: Tensor) -> Tensor:
        """Squares ``(B, C, crop, crop)`` of images whose pixels lie in ``flat`` ``(n, C)``, channels last, float32."""
        start, width, turned, upside_down, mirrored = (part.view(-1, 1, 1) for part in drawn)
        along = torch.arange(self.crop, device=flat.device)
        rows = torch.where(upside_down > 0, self.crop - 1 - along[:, None], along[:, None])
        columns = torch.where(mirrored > 0, self.crop - 1 - along, along)
        down, across = torch.where(turned > 0, 1, width), torch.where(turned > 0, width, 1)
        indices = start + rows * down + columns * across
        return flat.index_select(0, indices.flatten()).view(*indices.shape, -1).movedim(-1, 1).float()


def _shrink(image: Image, zoom: float, crop: int) -> Image:
    """An image shrunk by ``zoom``, or by less if a crop would not fit."""
    factor = min(1.0, max(1 / zoom, crop / min(image.shape[:2])))
    height, width = (max(crop, round(side * factor)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


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


def read_all(config: DictConfig) -> tuple[Bank, dict[str, DataLoader[Any]]]:
    """The bank to train on, and loaders of the validation sets by name."""
    data = config.data
    photos, held_out = split_photos(read_photos(config.photos, data.crop), data.held_out)
    drawn = read_scenes(data.scenes, config.seed, data.scene_size, Path(data.scene_folder), data.workers)
    groups = validation_sets(held_out, data.crop, data.zoom)
    validation = {name: DataLoader(group, data.batch) for name, group in groups.items()}
    return Bank(photos, drawn, config.seed, data), validation
