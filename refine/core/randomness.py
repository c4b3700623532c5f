"""Random numbers that are the same for the same image, in every process."""

import hashlib

import torch


def seeded_by(seed: int, key: str) -> torch.Generator:
    """Random numbers of an image.

    Args:
        seed: Seed of all images.
        key: Name of the image.
    """
    digest = hashlib.sha256(f"{seed}/{key}".encode(errors="surrogateescape")).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
