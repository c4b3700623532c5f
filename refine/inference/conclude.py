"""The end of a run: what should be there against what is, scores of the whole, and the exit status."""

import math
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from refine.config import PredictConfig
from refine.data.pairs import Failure, ImageMaskPair, Unused, count_unused, say_unused
from refine.factory import make_dataset
from refine.inference.discover import Request
from refine.inference.logging.console import log
from refine.inference.run_folder import RunFolder
from refine.inference.summary import summarize, summary_lines
from refine.io.picture import read_picture, to_tensor
from refine.metrics.sets import SETWISE, set_scores

NAMED = 20  # missing images that the terminal names; the log names all


@dataclass(frozen=True)
class Outcome:
    """How the prediction ended.

    Attributes:
        unfinished: Pairs whose results were to be made.
        seconds: Wall time of the prediction.
        stopped: Exit status of what stopped it early, 130 or 143; else 0.
        reason: Why a pair may have no result although nothing is known to be wrong with it.
    """

    unfinished: Sequence[ImageMaskPair]
    seconds: float = 0
    stopped: int = 0
    reason: str = "has no result, for no reported reason; see .refine/log.txt"


@dataclass(frozen=True)
class Conclusion:
    """What a run has to show.

    Attributes:
        rows: Rows of all results that are there.
        failures: Pairs and inputs without a result, and why.
        summary: Means, gains and verdicts, as nested plain values.
    """

    rows: Sequence[dict[str, Any]]
    failures: Sequence[Failure]
    summary: Mapping[str, Any]


class Account(NamedTuple):
    """What became of the pairs of a request, by whichever process.

    Attributes:
        rows: Rows of the results that are there, by key.
        failures: Why others have none, by key.
        missing: Keys of those of which nothing is known.
    """

    rows: dict[str, dict[str, Any]]
    failures: dict[str, Failure]
    missing: list[str]


def take_account(request: Request, run_folder: RunFolder) -> Account:
    """Compare what was asked for with what is there now.

    Args:
        request: Work of the run, or of a part of it.
        run_folder: Run folder of the results.
    """
    keys = {request.name(pair): pair.key for pair in request.pairs}
    asked_for = set(keys.values())
    noted = {failure.key: failure for failure in run_folder.read_failures() if failure.key in asked_for}
    failures = {key: noted[key] for key in keys.values() if key in noted}  # in the order of the request
    rows = {keys[name]: row for name, row in run_folder.rows(keys).items() if keys[name] not in failures}
    return Account(rows, failures, [key for key in keys.values() if key not in rows and key not in failures])


def say_part(request: Request, part: Request, run_folder: RunFolder, outcome: Outcome) -> int:
    """End of a shard that others will conclude: say what is done and what is missing.

    Args:
        request: Work of the whole run.
        part: Work of this shard.
        run_folder: Run folder of the results.
        outcome: How the prediction ended.

    Returns:
        Exit status: 0 if every result of the shard is there, else 1.
    """
    account = take_account(part, run_folder)
    _say_failures(list(account.failures.values()))
    if others := run_folder.of_other_settings(request.name(pair) for pair in request.pairs):
        log.warning(
            "of other settings: %d results of this run, such as %s; their shards, where they are not at work, need "
            "overwrite=true",
            len(others), others[0],
        )  # fmt: skip
    _say_outcome(run_folder, outcome, account, len(account.failures))
    run_folder.release()
    return int(bool(account.missing or account.failures))


def conclude(request: Request, run_folder: RunFolder, outcome: Outcome, config: PredictConfig) -> Conclusion:
    """Compare what was asked for with what is there, by whichever process; write tables and summary, and say it.

    Args:
        request: Work of the run.
        run_folder: Run folder of the results.
        outcome: How the prediction ended.
        config: Settings of the run.
    """
    account = take_account(request, run_folder)
    rows, failures = list(account.rows.values()), [*request.failures, *account.failures.values()]
    if not outcome.stopped:
        failures += [Failure(key, outcome.reason) for key in account.missing]
    _say_failures(failures)
    _say_unused(request.unused)
    unwritten = _written(run_folder, lambda: run_folder.close(rows, failures))
    summary = summarize(rows, refines=config.pyramid.get("max_levels") != 1)
    summary |= {"not_used": count_unused(request.unused)} if request.unused else {}
    unscored: list[Failure] = []
    if not outcome.stopped:
        scores, unscored = _set_scores(request, run_folder, set(account.rows), config)
        summary |= scores
    unwritten = unwritten or _written(run_folder, lambda: run_folder.write_summary(summary))
    for line in summary_lines(summary):
        log.info("%s", line)
    _say_outcome(run_folder, outcome, account, len(failures))
    return Conclusion(rows, [*failures, *unwritten, *unscored], summary)


def _written(run_folder: RunFolder, write: Callable[[], None]) -> list[Failure]:
    """Write a table; what is wrong with that is told, and ends nothing: the results are there."""
    try:
        write()
    except OSError as error:
        why = error.strerror or error
        reason = f"output={run_folder.output} cannot be written ({why}); make room and run the same command again."
        failure = Failure("tables", reason)
        _say_failures([failure])
        return [failure]
    return []


def _say_failures(failures: Sequence[Failure]) -> None:
    for failure in failures:
        log.error("failed: %s: %s", failure.key, failure.reason)
        if failure.detail:
            log.debug("%s", failure.detail)


def _say_unused(unused: Sequence[Unused]) -> None:
    for entry in unused:
        log.debug("not used: %s: %s", entry.name, entry.reason)
    if said := say_unused(unused):
        log.info("%s; all are named in .refine/log.txt", said)


def _say_outcome(run_folder: RunFolder, outcome: Outcome, account: Account, failed: int) -> None:
    done, missing = sum(pair.key in account.rows for pair in outcome.unfinished), account.missing
    skipped = len(account.rows) - done
    text = f"{done} done"
    text += f", {skipped} already there" if skipped else ""
    text += f", {failed} failed" if failed else ""
    text += f", {len(missing)} left; run the same command to continue" if outcome.stopped else ""
    if outcome.stopped and missing:
        further = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        log.error("no result yet: %s%s", ", ".join(missing[:NAMED]), further)
        log.debug("no result yet: %s", ", ".join(missing))
    log.info("%s in %.1f s -> %s", text, outcome.seconds, run_folder.output)


def _set_scores(
    request: Request, run_folder: RunFolder, finished_keys: set[str], config: PredictConfig
) -> tuple[dict[str, Any], list[Failure]]:
    """Scores of the whole set of results against the set of truths, if asked for; and why there are none."""
    names, dataset = [name for name in config.metrics if name in SETWISE], make_dataset(config, request.pairs)

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        for index, pair in enumerate(request.pairs):
            if pair.truth is None or pair.key not in finished_keys:
                continue
            sample = dataset[index]
            if not isinstance(sample, Failure) and sample.truth is not None:
                yield to_tensor(read_picture(run_folder.output / request.name(pair), math.inf)), sample.truth

    if not names:
        return {}, []
    try:
        return {"sets": set_scores(names, pairs, config.inception_weights, config.fid_network)}, []
    except Exception as error:  # the results are there; what is missing is one number about them
        failure = Failure(f"metrics=[{','.join(names)}]", f"{type(error).__name__}: {error}", traceback.format_exc())
        _say_failures([failure])
        return {"sets": {"error": failure.reason}}, [failure]
