from .checkpoint import Checkpoint, UnusableWeights, hash_state, load_strictly, read_checkpoint, submodule

__all__ = [
    "Checkpoint",
    "UnusableWeights",
    "hash_state",
    "load_strictly",
    "read_checkpoint",
    "submodule",
]
