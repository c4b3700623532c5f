"""What is there against what was asked for, whoever made it."""

import pytest

from refine.config import PredictConfig
from refine.data.pairs import Failure, ImageMaskPair
from refine.inference.conclude import Outcome, conclude, say_part, take_account
from refine.inference.discover import Request
from refine.inference.run_folder import RunFolder


@pytest.fixture
def config():
    return PredictConfig.compose(["input=in", "output=out"])


@pytest.fixture
def request_of(tmp_path):
    """A request of these keys."""
    return lambda keys: Request(
        tmp_path, "png", [ImageMaskPair(key, tmp_path / f"{key}.png", tmp_path / f"{key}_mask.png") for key in keys], []
    )


def process(tmp_path, part: str, **settings) -> RunFolder:
    folder = RunFolder(tmp_path, {"a": 1, **settings}, part)
    folder.open()
    return folder


def test_all_processes_are_accounted_for(tmp_path, request_of, config):
    first, other = process(tmp_path, "0"), process(tmp_path, "1")
    first.finish("a.png", "inputs", b"a", {"key": "a"})
    other.finish("b.png", "inputs", b"b", {"key": "b"})
    other.fail(Failure("x", "cannot be read"))
    # A process that died between a row and its result, and one of other settings.
    other._append({"output": "c.png", "configuration": first.configuration, "inputs": "", "sha256": "0", "key": "c"})
    (tmp_path / "d.png").write_bytes(b"of whoever")
    request = request_of("abcdx")
    conclusion = conclude(request, first, Outcome(request.pairs, reason="has no result: process 2 died"), config)
    assert [row["key"] for row in conclusion.rows] == ["a", "b"]
    assert conclusion.failures == [
        Failure("x", "cannot be read"),
        Failure("c", "has no result: process 2 died"),
        Failure("d", "has no result: process 2 died"),
    ]


def test_what_a_stop_left_is_named_but_has_not_failed(tmp_path, request_of, config, caplog):
    folder = process(tmp_path, "0")
    folder.finish("a.png", "inputs", b"a", {"key": "a"})
    request = request_of(["a", *(f"im{number:02}" for number in range(30))])
    conclusion = conclude(request, folder, Outcome(request.pairs, stopped=143), config)
    assert conclusion.failures == [] and len(conclusion.rows) == 1
    (named,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "im00, im01" in named and "im19 and 10 more" in named


def test_a_failure_counts_though_an_older_result_is_there(tmp_path, request_of, config):
    folder = process(tmp_path, "0")
    folder.finish("a.png", "inputs", b"a", {"key": "a"})
    folder.fail(Failure("a", "cannot be read any more"))
    conclusion = conclude(request_of("a"), folder, Outcome([]), config)
    assert conclusion.failures == [Failure("a", "cannot be read any more")] and conclusion.rows == []


def test_failures_of_an_earlier_run_are_forgotten_by_those_who_start_again(tmp_path):
    for part in ("0", "1", "3.0", "3.1", "12.0"):
        process(tmp_path, part).fail(Failure(part, "no"))
    process(tmp_path, "0", b=2).fail(Failure("other settings", "no"))
    folder = process(tmp_path, "3.0")
    folder.forget_failures("3.*")
    assert [failure.key for failure in folder.read_failures()] == ["1", "12.0"]
    folder.forget_failures("*")
    assert folder.read_failures() == []


def test_shards_are_complete_when_nothing_more_can_come(tmp_path, request_of):
    whole, parts = request_of("abc"), [request_of("ab"), request_of("c")]
    first, second = process(tmp_path, "0.0"), process(tmp_path, "1.0")
    first.finish("a.png", "inputs", b"a", {"key": "a"})
    assert say_part(whole, parts[0], first, Outcome(parts[0].pairs)) == 1  # b is missing
    first.fail(Failure("b", "cannot be read"))
    assert say_part(whole, parts[0], first, Outcome(parts[0].pairs)) == 1
    assert take_account(whole, second).missing == ["c"]
    second.finish("c.png", "inputs", b"c", {"key": "c"})
    assert say_part(whole, parts[1], second, Outcome(parts[1].pairs)) == 0
    assert take_account(whole, second).missing == []


def test_a_shard_says_which_results_of_the_run_are_of_other_settings(tmp_path, request_of, caplog):
    whole, parts = request_of("abc"), [request_of("ab"), request_of("c")]
    before = process(tmp_path, "0.0")
    for key in "abc":
        before.finish(f"{key}.png", "inputs", key.encode(), {"key": key})
    before.release()
    now = process(tmp_path, "1.0", steps=2)
    now.finish("c.png", "inputs", b"other", {"key": "c"})
    assert say_part(whole, parts[1], now, Outcome(parts[1].pairs)) == 0
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said.startswith("of other settings: 2 results of this run, such as a.png")
