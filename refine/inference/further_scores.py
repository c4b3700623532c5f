"""Scores that were not asked for when a result was made: of its file, against the truth; nothing is refined again."""

import math
from collections.abc import Sequence
from functools import partial

from refine.backbones.conformance.contract import check_blindness
from refine.data.pairs import Failure, ImageMaskPair
from refine.factory import make_dataset
from refine.inference.callbacks.evaluation import as_written
from refine.inference.logging.console import log
from refine.inference.session import Session
from refine.io.picture import read_picture, to_tensor


def add_scores(session: Session, finished: Sequence[ImageMaskPair]) -> None:
    """Add the scores to the rows of results that lack them; the network runs for their controls.

    A lossy file does not hold what was computed: for such results it is said that the scores are missing.

    Args:
        session: Session of this process.
        finished: Pairs whose results were there when the run began; those that this process looks after.

    Raises:
        ValueError: If the backbone sees the truth.
    """
    if session.scoring is None:
        return
    folder, evaluator = session.run_folder, session.scoring.evaluator
    asked_for = {"verdict", *evaluator.further}
    rows = folder.rows(session.request.name(pair) for pair in finished if pair.truth is not None)
    missing = {name: sorted(asked_for - row.keys()) for name, row in rows.items() if asked_for - row.keys()}
    if not missing:
        return
    names = ", ".join(sorted({score for scores in missing.values() for score in scores}))
    if session.config.format == "jpg":
        log.warning(
            "no %s for results that are there already (images: %d): jpg files do not hold exactly what was computed; "
            "overwrite=true makes them again, with all scores", names, len(missing),
        )  # fmt: skip
        return
    check_blindness(session.refiner.backbone)
    log.info("added from the files of results that are there already: %s (images: %d)", names, len(missing))
    pairs = [pair for pair in finished if session.request.name(pair) in missing]
    dataset = make_dataset(session.config, pairs)
    for index, name in enumerate(map(session.request.name, pairs)):
        sample = dataset[index]
        if isinstance(sample, Failure):
            log.warning("%s: cannot be scored (%s)", sample.key, sample.reason)
            continue
        image = to_tensor(read_picture(folder.output / name, math.inf))
        sample = sample.to(session.refiner.backbone.device)
        folder.add(rows[name], evaluator.score_file(image, sample, partial(as_written, sample=sample)))
