"""Empty files, and the pairs that are found among them."""

from pathlib import Path

from refine.data.discovery import find_pairs


def touch(root: Path, *names: str) -> None:
    """Empty files; discovery goes by names alone."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def found(root: Path, mask: object = None, masks: object = None, output: object = "/nowhere") -> dict[str, tuple]:
    """``{key: (image, mask)}`` with names relative to the folder above the input; nothing may fail."""
    pairs, failures = find(root, mask, masks, output)
    assert failures == {}
    return pairs


def find(root: Path, mask: object = None, masks: object = None, output: object = "/nowhere"):
    texts = [None if value is None else str(value) for value in (root, mask, masks, output)]
    listing = find_pairs(*texts)
    pairs, failures = listing.pairs, listing.failures
    base = (root if root.is_dir() else root.parent).parent
    named = {entry.key: tuple(str(file.relative_to(base)) for file in (entry.image, entry.mask)) for entry in pairs}
    assert list(named) == sorted(entry.key for entry in pairs)
    return named, {failure.key: failure.reason for failure in failures}


def unused(root: Path, masks: object = None, output: object = "/nowhere") -> dict[str, str]:
    """``{name: reason}`` of what is not used."""
    listing = find_pairs(str(root), None, None if masks is None else str(masks), str(output))
    return {entry.name: entry.reason for entry in listing.unused}
