"""Which image goes with which mask: files -> jobs."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from csv import DictReader
from csv import Error as CsvError
from dataclasses import replace
from pathlib import Path, PurePosixPath

from refine.data.masks import MaskGenerator
from refine.data.pairs import Failure, ImageMaskPair
from refine.io.files import RUN_FOLDER
from refine.io.picture import SUFFIXES
from refine.io.tar import expand, samples

_MASK_NAME = re.compile(r"(?P<image>.+)_mask[-_]?\d*", re.DOTALL)  # x_mask, x_mask001; greedy: the last _mask counts


def find_pairs(
    input: str, mask: str | None, masks: str | MaskGenerator | None, output: str, truth: str | None = None
) -> tuple[list[ImageMaskPair], list[Failure]]:
    """List what there is to do.

    Args:
        input: An image, a folder (searched through all its folders), a CSV manifest with the columns ``image``,
            ``mask`` and possibly ``name``, or tar files with ``x.png`` and ``x.mask.png``: a folder of them, one, or
            ``shards-{000..009}.tar``.
        mask: Mask of the one image, or one for every image of a folder.
        masks: Folder of masks with the images' stems, or a suite that draws one for each image; without it masks lie
            beside the images as ``x_mask.png``, ``x_mask001.png`` ...
        output: Folder of the results; what lies in it is no input.
        truth: ``input`` if the images themselves are what the holes hold, or a folder of such images under their
            names (a manifest has a column ``truth`` instead); None where nobody knows.

    Returns:
        The jobs, sorted by key, and inputs for which no job can be made.

    Raises:
        ValueError: If the input does not exist or holds nothing, or two jobs would write one result.
    """
    source = Path(input).expanduser()
    tars = _tars(input)
    if mask is not None and masks is not None:
        raise ValueError("mask= (one file) and masks= (a folder) exclude each other; give one of them.")
    for name, path in (("input", str(tars[0]) if tars else input), ("mask", mask)):
        if path is not None and not os.path.lexists(Path(path).expanduser()):
            raise ValueError(f"{name}={path}: no such file{' or folder' if name == 'input' else ''}.")
    if tars:
        _refuse("tar files", mask=mask, masks=None if isinstance(masks, MaskGenerator) else masks)
        jobs, failures = _from_tars(tars, masks if isinstance(masks, MaskGenerator) else None)
    elif source.is_dir():
        jobs, failures = _from_folder(source, mask, masks, Path(output))
    elif source.suffix.lower() == ".csv":
        _refuse("a CSV manifest", mask=mask, masks=None if isinstance(masks, MaskGenerator) else masks)
        jobs, failures = _from_manifest(source, masks if isinstance(masks, MaskGenerator) else None)
    else:
        jobs, failures = _from_image(source, mask, masks)
    if not jobs and not failures:
        raise ValueError(f"input={input}: no image found; looked for {' '.join(sorted(SUFFIXES))}.")
    _check_unique(jobs)
    jobs = [_with_truth(job, source, truth) for job in jobs]
    return sorted(jobs, key=lambda job: job.key), failures


def _with_truth(job: ImageMaskPair, source: Path, truth: str | None) -> ImageMaskPair:
    """The job with its truth; where that is not there, reading the job will say so."""
    if truth is None or job.truth is not None:
        return job
    if truth == "input":
        return replace(job, truth=job.image)
    root = Path(truth).expanduser()
    if root.is_file():
        return replace(job, truth=root)
    if not root.is_dir():
        raise ValueError(f"truth={truth}: no such folder; give a folder of images with the inputs' names, or 'input'.")
    inside = source.is_dir() and job.image.is_relative_to(source)
    expected = root / (job.image.relative_to(source) if inside else job.image.name)
    found = [file for file in _files(expected.parent) if file.stem == expected.stem]
    return replace(job, truth=found[0] if found else expected)


def _refuse(what: str, **settings: str | None) -> None:
    for name, value in settings.items():
        if value is not None:
            raise ValueError(f"{name}= does not go with {what}; leave it out.")


def _check_unique(jobs: Sequence[ImageMaskPair]) -> None:
    shared = [key for key, count in Counter(job.key for job in jobs).items() if count > 1]
    if shared:
        sources = ", ".join(str(job.image) for job in jobs if job.key == shared[0])
        more = f" (and {len(shared) - 1} more such names)" if len(shared) > 1 else ""
        raise ValueError(
            f"several inputs would write the result '{shared[0]}'{more}: {sources}. Rename them, or give names in a "
            "CSV manifest with the columns image,mask,name."
        )


def _from_image(
    image: Path, mask: str | None, masks: str | MaskGenerator | None
) -> tuple[list[ImageMaskPair], list[Failure]]:
    if isinstance(masks, MaskGenerator):
        return [ImageMaskPair(image.stem, image, masks)], []
    if mask is not None:
        return [ImageMaskPair(image.stem, image, Path(mask).expanduser())], []
    folder = image.parent if masks is None else _mask_folder(masks, image.parent)
    found = _masks_of(image, _files(folder) if folder.is_dir() else [], beside=masks is None)
    if not found:
        raise ValueError(f"input={image} has no mask: give mask=<file>, or put {image.stem}_mask.png beside it.")
    return _jobs(image, found, PurePosixPath()), []


def _from_folder(
    root: Path, mask: str | None, masks: str | MaskGenerator | None, output: Path
) -> tuple[list[ImageMaskPair], list[Failure]]:
    if isinstance(masks, MaskGenerator):
        return _from_photos(root, masks, output)
    folder = None if masks is None else _mask_folder(masks, root)
    jobs: list[ImageMaskPair] = []
    failures: list[Failure] = []
    listing = defaultdict(list)
    for file in _walk(root, [output, *([folder] if folder else [])], failures):
        if mask is None or not same(file, Path(mask)):
            listing[file.parent].append(file)
    for place, files in listing.items():
        relative = PurePosixPath(place.relative_to(root))
        beside = mask is None and folder is None
        for image in (file for file in files if not (beside and _MASK_NAME.fullmatch(file.stem))):
            if mask is not None:
                found = [Path(mask).expanduser()]
            elif folder is not None:
                found = _masks_of(image, _files(folder / relative), beside=False)
            else:
                found = _masks_of(image, files, beside=True)
            jobs += _jobs(image, found, relative)
            if not found:
                where = folder / relative / f"{image.stem}.png" if folder else image.with_name(f"{image.stem}_mask.png")
                failures.append(Failure(str(image.relative_to(root)), f"has no mask; expected one such as {where}"))
        if beside:
            failures += _orphans(files, root)
    return jobs, failures


def _from_photos(root: Path, suite: MaskGenerator, output: Path) -> tuple[list[ImageMaskPair], list[Failure]]:
    """Every image of a folder with a drawn mask; masks that lie beside their images are no images."""
    failures: list[Failure] = []
    files = list(_walk(root, [output], failures))
    images = {file.with_suffix("") for file in files}
    jobs = [
        ImageMaskPair(str(PurePosixPath(file.relative_to(root)).with_suffix("")), file, suite)
        for file in files
        if not ((match := _MASK_NAME.fullmatch(file.stem)) and file.with_name(match["image"]) in images)
    ]
    return jobs, failures


def _orphans(files: list[Path], root: Path) -> list[Failure]:
    """Masks in a folder of pairs whose image is not there."""
    stems = {file.stem for file in files}
    return [
        Failure(str(file.relative_to(root)), f"is a mask without its image '{match['image']}'")
        for file in files
        if (match := _MASK_NAME.fullmatch(file.stem)) and match["image"] not in stems
    ]


def _masks_of(image: Path, files: list[Path], beside: bool) -> list[Path]:
    """Masks of an image by name; in a folder of their own they may have the image's very stem."""
    found = [file for file in files if (match := _MASK_NAME.fullmatch(file.stem)) and match["image"] == image.stem]
    return found if beside else found + [file for file in files if file.stem == image.stem]


def _jobs(image: Path, masks: list[Path], relative: PurePosixPath) -> list[ImageMaskPair]:
    """One mask: named as the image. Several: each result is named as its mask."""
    return [ImageMaskPair(str(relative / (mask if len(masks) > 1 else image).stem), image, mask) for mask in masks]


def _from_manifest(manifest: Path, suite: MaskGenerator | None) -> tuple[list[ImageMaskPair], list[Failure]]:
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as stream:
            reader = DictReader(stream)
            columns, rows = list(reader.fieldnames or []), list(reader)
    except (OSError, UnicodeDecodeError, CsvError) as error:
        raise ValueError(f"input={manifest}: cannot be read as UTF-8 CSV ({error}).") from None
    needed = {"image"} if suite else {"image", "mask"}
    if not needed <= set(columns):
        raise ValueError(
            f"input={manifest}: needs the columns {','.join(sorted(needed))}[,name,truth]; got "
            f"{','.join(columns) or 'nothing'}."
        )
    images = Counter(row["image"] for row in rows)
    jobs, failures = [], []
    for line, row in enumerate(rows, start=2):
        if not all(row[name] for name in needed):
            failures.append(Failure(f"{manifest.name}:{line}", f"lacks an image or a mask: {dict(row)}"))
            continue
        image = manifest.parent / row["image"]
        mask = suite or manifest.parent / row["mask"]
        shared = isinstance(mask, Path) and images[row["image"]] > 1  # then the mask names the result
        key = row.get("name") or _manifest_key(manifest, manifest.parent / row["mask" if shared else "image"])
        truth = manifest.parent / row["truth"] if row.get("truth") else None
        jobs.append(ImageMaskPair(_checked_key(key, f"{manifest.name}:{line}"), image, mask, truth))
    return jobs, failures


def _tars(input: str) -> list[Path]:
    """The tar files that are meant; none where it is something else."""
    source = Path(input).expanduser()
    if source.is_dir():
        return [] if _files(source) else sorted(source.glob("*.tar"))
    return expand(input) if source.suffix.lower() == ".tar" else []


def _from_tars(tars: Sequence[Path], suite: MaskGenerator | None) -> tuple[list[ImageMaskPair], list[Failure]]:
    jobs: list[ImageMaskPair] = []
    failures: list[Failure] = []
    for tar in tars:
        found, damage = samples(tar)
        failures += [Failure(str(tar), damage)] if damage else []
        for key, parts in found.items():
            image, mask = parts.get(""), suite or parts.get("mask")
            if image is None or mask is None:
                failures.append(Failure(key, f"has no {'image' if image is None else 'mask'} in {tar}"))
            else:
                jobs.append(ImageMaskPair(_checked_key(f"{key}.png", str(tar)), image, mask))
    return jobs, failures


def _manifest_key(manifest: Path, file: Path) -> str:
    """Relative to the manifest's folder where the file lies below it, else the bare name."""
    inside = file.is_relative_to(manifest.parent) and ".." not in file.relative_to(manifest.parent).parts
    return str(PurePosixPath(file.relative_to(manifest.parent) if inside else file.name))


def _checked_key(name: str, line: str) -> str:
    path = PurePosixPath(name)
    if path.suffix.lower() in SUFFIXES:
        path = path.with_suffix("")
    if path.is_absolute() or ".." in path.parts or path.parts[:1] in ((), (RUN_FOLDER,)):
        raise ValueError(f"{line}: the name {name!r} must be a path inside the output folder.")
    return str(path)


def _mask_folder(path: str, images: Path) -> Path:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ValueError(f"masks={path}: no such folder.")
    if same(folder, images):
        raise ValueError(f"masks={path} is the folder of the images; leave it out, x_mask.png beside x.png is found.")
    return folder


def same(path: Path, other: Path) -> bool:
    """Whether two paths lead to one place; also where links lead nowhere or in circles."""
    return os.path.realpath(path.expanduser()) == os.path.realpath(other.expanduser())


def _files(folder: Path) -> list[Path]:
    """Image files of one folder by name, hidden ones left out; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(
        f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith(".") and not f.is_dir()
    )


def _walk(root: Path, without: Sequence[Path], failures: list[Failure]) -> Iterator[Path]:
    """Image files below a folder; follows links to folders, each real folder once, so that a loop ends.

    Results of other runs that lie further down are no input.
    """

    def note(error: OSError) -> None:
        failures.append(Failure(str(error.filename), f"cannot be listed ({error.strerror})"))

    seen = {os.path.realpath(folder.expanduser()) for folder in without}
    for place, folders, _ in os.walk(root, followlinks=True, onerror=note):
        real = os.path.realpath(place)
        if real in seen or (Path(place) != root and os.path.isdir(os.path.join(place, RUN_FOLDER))):
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        yield from _files(Path(place))
