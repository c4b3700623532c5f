"""Images and masks listed in a CSV file with the columns ``image``, ``mask`` and possibly ``name`` and ``truth``."""

from collections import Counter
from collections.abc import Sequence, Set
from csv import DictReader
from csv import Error as CsvError
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from refine.data.masks import MaskGenerator
from refine.data.names import on_disk
from refine.data.pairs import Failure, ImageMaskPair, Listing, checked_key


class Row(NamedTuple):
    """One row of the table.

    Attributes:
        line: Number of its last line in the file.
        cells: Values by column.
        surplus: Values beyond the last column.
    """

    line: int
    cells: dict[str, str]
    surplus: list[str]


def pairs_in_manifest(manifest: Path, generator: MaskGenerator | str | None) -> Listing:
    """List the pairs of a CSV manifest; relative paths start at its folder.

    Args:
        manifest: Path of the CSV file, UTF-8.
        generator: Generator of the masks, or ``"alpha"``; None to read those of the column ``mask``.

    Raises:
        ValueError: The file is no CSV, lacks a column or rows, or names a result outside the output folder.
    """
    columns, rows = _table(manifest)
    needed = {"image"} if generator else {"image", "mask"}
    if not needed <= set(columns):
        raise ValueError(
            f"input={manifest}: needs the columns {','.join(sorted(needed))}[,name,truth]; got "
            f"{','.join(columns) or 'nothing'}."
        )
    if not rows:
        raise ValueError(f"input={manifest}: has no rows; below the header give a line for each image.")
    uses = Counter(row.cells["image"] for row in rows)
    listing = Listing()
    for row in rows:
        place = f"{manifest.name}:{row.line}"
        if fault := _fault(row, columns, needed):
            listing.failures.append(Failure(place, fault))
        else:
            shared = uses[row.cells["image"]] > 1
            listing.pairs.append(_pair(manifest.parent, row.cells, generator, place, shared))
    return listing


def _fault(row: Row, columns: Sequence[str], needed: Set[str]) -> str:
    """What is wrong with a row; empty if nothing is."""
    if any(cell.strip() for cell in row.surplus):  # empty cells at the end, as spreadsheets write them, lose nothing
        return (
            f"line {row.line} has {len(columns) + len(row.surplus)} cells, the header has {len(columns)}; put quotes "
            "around a value that holds a comma"
        )
    return "" if all(row.cells[name] for name in needed) else f"lacks an image or a mask: {row.cells}"


def _table(manifest: Path) -> tuple[list[str], list[Row]]:
    """Columns and rows."""
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as stream:
            reader = DictReader(stream)
            columns = list(reader.fieldnames or [])
            return columns, [Row(reader.line_num, surplus=list(row.pop(None, [])), cells=row) for row in reader]
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
