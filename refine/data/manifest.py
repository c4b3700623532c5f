"""Images and masks listed in a CSV file with the columns ``image``, ``mask`` and possibly ``name`` and ``truth``."""

from collections import Counter
from csv import DictReader
from csv import Error as CsvError
from pathlib import Path, PurePosixPath

from refine.data.masks import MaskGenerator
from refine.data.names import on_disk
from refine.data.pairs import Failure, ImageMaskPair, Listing, checked_key


def pairs_in_manifest(manifest: Path, generator: MaskGenerator | str | None) -> Listing:
    """List the pairs of a CSV manifest; relative paths start at its folder.

    Args:
        manifest: Path of the CSV file, UTF-8.
        generator: Generator of the masks, or ``"alpha"``; None to read those of the column ``mask``.

    Raises:
        ValueError: The file is no CSV, lacks a column, or names a result outside the output folder.
    """
    columns, rows = _table(manifest)
    needed = {"image"} if generator else {"image", "mask"}
    if not needed <= set(columns):
        raise ValueError(
            f"input={manifest}: needs the columns {','.join(sorted(needed))}[,name,truth]; got "
            f"{','.join(columns) or 'nothing'}."
        )
    uses = Counter(row["image"] for row in rows)
    listing = Listing()
    for line, row in enumerate(rows, start=2):
        place = f"{manifest.name}:{line}"
        if all(row[name] for name in needed):
            listing.pairs.append(_pair(manifest.parent, row, generator, place, shared=uses[row["image"]] > 1))
        else:
            listing.failures.append(Failure(place, f"lacks an image or a mask: {dict(row)}"))
    return listing


def _table(manifest: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows."""
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as stream:
            reader = DictReader(stream)
            return list(reader.fieldnames or []), list(reader)
    except (OSError, UnicodeDecodeError, CsvError) as error:
        raise ValueError(f"input={manifest}: cannot be read as UTF-8 CSV ({error}).") from None


def _pair(
    folder: Path, row: dict[str, str], generator: MaskGenerator | str | None, place: str, shared: bool
) -> ImageMaskPair:
    """The pair of one row; where several rows have one image, the mask names the result."""
    named_by = "mask" if shared and generator is None else "image"
    key = row.get("name") or _key(folder, folder / row[named_by])
    truth = on_disk(folder / row["truth"]) if row.get("truth") else None
    mask = generator or on_disk(folder / row["mask"])
    return ImageMaskPair(checked_key(key, place), on_disk(folder / row["image"]), mask, truth)


def _key(folder: Path, file: Path) -> str:
    """Relative to the manifest's folder where the file lies below it, else the bare name."""
    inside = file.is_relative_to(folder) and ".." not in file.relative_to(folder).parts
    return str(PurePosixPath(file.relative_to(folder) if inside else file.name))
