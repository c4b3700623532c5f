"""Random numbers that are the same for the same image, in every process."""

import hashlib

import torch


def digest(seed: int, key: str) -> bytes:
    """The SHA-256 of a seed and an image's name.

    Args:
        seed: Seed of all images.
        key: Name of the image.
    """
    return hashlib.sha256(f"{seed}/{key}".encode(errors="surrogateescape")).digest()


def seeded_by(seed: int, key: str) -> torch.Generator:
    """Random numbers of an image.

    Args:
        seed: Seed of all images.
        key: Name of the image.
    """
    return torch.Generator().manual_seed(int.from_bytes(digest(seed, key)[:8], "big"))
