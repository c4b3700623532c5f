"""Tar files with samples."""

import io
import tarfile

import numpy as np
from generated import hole, photo
from PIL import Image


def png(values) -> bytes:
    Image.fromarray(values.astype(np.uint8) * 255 if values.dtype == bool else values).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def write(tar, files: dict[str, bytes]):
    tar.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(tar, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return tar


def sample(key: str, seed: int = 0) -> dict[str, bytes]:
    return {f"{key}.png": png(photo(seed=seed)), f"{key}.mask.png": png(hole()), f"{key}.json": b"{}"}
