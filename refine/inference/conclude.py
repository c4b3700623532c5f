"""The end of a run: what should be there against what is, scores of the whole, and the exit status."""

import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from refine.config import PredictConfig
from refine.data.pairs import Failure, ImageMaskPair
from refine.factory import make_dataset
from refine.inference.discover import Request
from refine.inference.logging.console import log
from refine.inference.run_folder import RunFolder
from refine.inference.summary import summarize, summary_lines
from refine.io.picture import read_picture, to_tensor
from refine.metrics.sets import SETWISE, set_scores


@dataclass(frozen=True)
class Outcome:
    """How the prediction ended.

    Attributes:
        unfinished: Pairs whose results were to be made.
        seconds: Wall time of the prediction.
        stopped: Exit status of what stopped it early, 130 or 143; else 0.
    """

    unfinished: Sequence[ImageMaskPair]
    seconds: float
    stopped: int


def conclude(
    request: Request, run_folder: RunFolder, outcome: Outcome, config: PredictConfig
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Compare the requested results with those on disk; write tables and summary, and log the outcome.

    Args:
        request: Work of the run.
        run_folder: Run folder that kept results and failures.
        outcome: How the prediction ended.
        config: Settings of the run.

    Returns:
        The rows of all results that are there, and the summary.
    """
    finished_before = set(request.pairs) - set(outcome.unfinished)
    names = {pair.key: request.name(pair) for pair in request.pairs}
    earlier_keys = _keys(finished_before)
    finished = {key: name for key, name in names.items() if name in run_folder.finished or key in earlier_keys}
    remaining = _remaining_keys(request, run_folder, set(finished))
    if not outcome.stopped:
        for key in remaining:
            run_folder.fail(Failure(key, "has no result, for no reported reason; see .refine/log.txt"))
    rows = run_folder.rows(finished.values())
    run_folder.close(rows)
    summary = summarize(rows)
    for failure in run_folder.failures:
        log.error("failed: %s: %s", failure.key, failure.reason)
        if failure.detail:
            log.debug("%s", failure.detail)
    if not outcome.stopped:
        summary |= _set_scores(request, run_folder, set(finished), config)
    run_folder.write_summary(summary)
    for line in summary_lines(summary):
        log.info("%s", line)
    _say_outcome(run_folder, outcome, len(finished_before), len(remaining))
    return rows, summary


def _keys(pairs: set[ImageMaskPair]) -> set[str]:
    return {pair.key for pair in pairs}


def _remaining_keys(request: Request, run_folder: RunFolder, finished_keys: set[str]) -> list[str]:
    """Keys of the pairs that have neither a result nor a reported failure."""
    failed = {failure.key for failure in run_folder.failures}
    return [pair.key for pair in request.pairs if pair.key not in finished_keys | failed]


def _say_outcome(run_folder: RunFolder, outcome: Outcome, skipped: int, remaining: int) -> None:
    text = f"{len(run_folder.finished)} done"
    text += f", {skipped} already there" if skipped else ""
    text += f", {len(run_folder.failures)} failed" if run_folder.failures else ""
    text += f", {remaining} left; run the same command to continue" if outcome.stopped else ""
    log.info("%s in %.1f s -> %s", text, outcome.seconds, run_folder.output)


def _set_scores(
    request: Request, run_folder: RunFolder, finished_keys: set[str], config: PredictConfig
) -> Mapping[str, Any]:
    """Scores of the whole set of results against the set of truths; nothing where none are asked for."""
    names, dataset = [name for name in config.metrics if name in SETWISE], make_dataset(config, request.pairs)

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        for index, pair in enumerate(request.pairs):
            if pair.truth is None or pair.key not in finished_keys:
                continue
            sample = dataset[index]
            if not isinstance(sample, Failure) and sample.truth is not None:
                yield to_tensor(read_picture(run_folder.output / request.name(pair))), sample.truth

    try:
        return {"sets": set_scores(names, pairs, config.inception_weights)} if names else {}
    except Exception as error:  # the results are there; what is missing is one number about them
        log.error("metrics=%s: %s: %s", config.metrics, type(error).__name__, error)
        log.debug("%s", traceback.format_exc())
        return {"sets": {"error": f"{type(error).__name__}: {error}"}}
