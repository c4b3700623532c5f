"""Draw the masks of a test set for a folder of photos.

    refine masks input=photos output=masks kind=thick
    refine masks input=photos output=masks kind=thin seed=1 data.side=512

Thin, medium or thick strokes and boxes after LaMa's generators; the same photo always gets the same mask. Prints the
hash of all masks, which stands for every pixel of it. `refine predict input=photos masks=thick` draws the same masks
without writing them.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from omegaconf import OmegaConf

from refine.config import ConfigError, compose
from refine.data.discovery import find_pairs
from refine.data.masks import MaskGenerator, joint_hash, mask_hash
from refine.data.pairs import ImageMaskPair
from refine.data.subset import draw, listed, square
from refine.io.files import same_path, write_atomic
from refine.io.picture import read_picture


def run(overrides: Sequence[str]) -> int:
    """Run the command.

    Args:
        overrides: Overrides ``key=value`` in Hydra's grammar.

    Returns:
        Exit status: 0, or 1 if an image could not be read.

    Raises:
        ValueError: The request makes no sense.
    """
    config = compose("masks", overrides)
    for key in ("input", "output"):
        if OmegaConf.is_missing(config, key) or config[key] is None:
            raise ConfigError(f"masks needs {key}=, for example input=photos output=masks.")
    output = Path(config.output).expanduser()
    if same_path(output, Path(config.input)):
        raise ConfigError(f"output={output} is the folder of the photos; give another.")
    generator = MaskGenerator(config.kind, config.seed, config.max_area)
    pairs, failures = find_pairs(config.input, None, generator, config.output)
    if config.data.table is not None:
        pairs = listed(pairs, Path(config.data.table).expanduser())
    output.mkdir(parents=True, exist_ok=True)
    problems = [f"{failure.key}: {failure.reason}" for failure in failures]
    hashes = dict(_write(draw(pairs, config.data.limit, config.data.seed), output, config.data.side, problems))
    record = {"kind": generator.kind, "seed": generator.seed, "max_area": generator.max_area, "side": config.data.side}
    record |= {"n": len(hashes), "hash": joint_hash(hashes.values())}
    write_atomic(output / "suite.json", json.dumps(record, indent=1).encode(), output)
    for problem in problems:
        print(f"refine masks: failed: {problem}")
    print(f"{len(hashes)} {generator.kind} masks -> {output}, hash {record['hash']}")
    return int(bool(problems))


def _write(
    pairs: Sequence[ImageMaskPair], output: Path, side: int | None, problems: list[str]
) -> Iterator[tuple[str, str]]:
    """Write the mask of each image; yields key and hash."""
    for pair in pairs:
        assert isinstance(pair.mask, MaskGenerator)
        try:
            picture = read_picture(pair.image)
            mask = pair.mask(pair.key, picture.size if side is None else square(picture, side).size)
        except (ValueError, OSError) as error:
            problems.append(f"{pair.key}: {error}")
            continue
        file = output / f"{pair.key}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes(), output)
        yield pair.key, mask_hash(pair.key, mask)
