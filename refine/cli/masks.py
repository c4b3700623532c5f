"""Draw the masks of a test set for a folder of photos.

    refine masks input=photos output=masks kind=thick
    refine masks input=photos output=masks kind=thin seed=1 data.side=512

Thin, medium or thick strokes and boxes after LaMa's generators; the same photo always gets the same mask. Prints the
hash of all masks, which stands for every pixel of it. `refine predict input=photos masks=thick` draws the same masks
without writing them.
"""

from collections.abc import Sequence
from pathlib import Path

from refine.config import ConfigError, MasksConfig
from refine.config.verbosity import is_quiet
from refine.data.discovery import find_pairs
from refine.data.mask_files import write_masks
from refine.data.masks import MaskGenerator
from refine.data.pairs import HIDDEN, say_unused
from refine.data.subset import LEFT_OUT, subset
from refine.io.files import same_path


def run(overrides: Sequence[str]) -> int:
    """Run the command.

    Args:
        overrides: Hydra's ``key=value``.

    Returns:
        Exit status: 0, or 1 if an image could not be read or has another mask there.

    Raises:
        ValueError: If the request makes no sense.
    """
    config = MasksConfig.compose(overrides)
    output = Path(config.output).expanduser()
    if same_path(output, Path(config.input)):
        raise ConfigError(f"output={output} is the folder of the photos; give another.")
    generator = MaskGenerator(config.kind, config.seed, config.max_area)
    listing = find_pairs(config.input, None, generator, config.output)
    data = config.data
    listing = subset(listing, data.table, data.limit, data.seed)
    count, digest, failed = write_masks(listing.pairs, generator, output, data.side, data.megapixels, config.overwrite)
    for failure in (*listing.failures, *failed):
        print(f"refine masks: failed: {failure.key}: {failure.reason}")
    for entry in listing.unused:
        if entry.reason not in (HIDDEN, *LEFT_OUT.values()) and not is_quiet():
            print(f"refine masks: not used: {entry.name}: {entry.reason}")
    if not is_quiet():
        if said := say_unused([entry for entry in listing.unused if entry.reason in LEFT_OUT.values()]):
            print(f"refine masks: {said}")
        print(f"{count} {generator.kind} masks -> {output}, hash {digest}")
    return int(bool(listing.failures or failed))
