"""From rows to series, with numbers typed in."""

import math

import pytest

from refine.inference.logging.curves import Point, curves, flat, numbers, series, table

ROWS = [
    {
        "key": "a",
        "losses": [[4.0, 2.0, 1.0], [8.0, 6.0]],
        "seconds": 2.0,
        "psnr_refine": 30.0,
        "plain.psnr_refine": 28.5,
    },
    {"key": "b", "losses": [[2.0, 1.0]], "seconds": 1.0, "psnr_refine": 20.0, "plain.psnr_refine": 21.0},
    {"key": "c", "losses": [], "seconds": 0.5},
]


def test_curves_are_means_over_the_images_that_have_the_level():
    assert curves(ROWS) == {"level1": [3.0, 1.5, 1.0], "level2": [8.0, 6.0]}  # b stopped early: its last loss goes on


def test_chosen_images_have_curves_of_their_own():
    assert curves(ROWS, ["b"])["level1/b"] == [2.0, 1.0]


def test_levels_where_nothing_was_compared_are_left_out():
    assert curves([{"key": "a", "losses": [[], [1.0, 0.5]]}]) == {"level2": [1.0, 0.5]}
    assert curves([{"key": "old"}]) == {} and curves([]) == {}


def test_a_broken_loss_shows():
    mean = curves([{"key": "a", "losses": [[1.0, math.nan]]}, {"key": "b", "losses": [[1.0, 1.0, 1.0]]}])["level1"]
    assert mean[0] == 1 and math.isnan(mean[1]) and math.isnan(mean[2])


def test_gains_are_differences_to_the_controls():
    assert numbers(ROWS[0]) == {
        "seconds": 2.0,
        "psnr_refine": 30.0,
        "plain.psnr_refine": 28.5,
        "gain.plain.psnr_refine": 1.5,
    }


def test_series_run_along_updates_and_images():
    told = list(series(ROWS))
    assert told[0] == Point("update", 0, {"loss/level1": 3.0, "loss/level2": 8.0})
    assert told[2] == Point("update", 2, {"loss/level1": 1.0})
    assert [point.index for point in told if point.axis == "image"] == [0, 1, 2]
    assert told[-1].values == {"image/seconds": 0.5}


def test_table_has_a_line_per_image():
    columns, cells = table(ROWS)
    assert columns == ["key", "seconds", "psnr_refine", "plain.psnr_refine", "gain.plain.psnr_refine"]
    assert cells[1] == ["b", 1.0, 20.0, 21.0, -1.0] and cells[2] == ["c", 0.5, None, None, None]
    assert table([{"key": "\udcff", "score": math.nan}])[1] == [["?", None]]


def test_summaries_become_flat():
    assert flat({"a": {"mean": 1.5, "n": {}}, "b": "x"}) == {"summary/a/mean": 1.5, "summary/b": "x"}
    assert flat({"a": {"mean": math.nan, "n": 0}}) == {"summary/a/n": 0}


def test_no_rows():
    assert list(series([])) == [] and table([]) == ([], [])
    with pytest.raises(KeyError):
        list(series([{"losses": [[1.0]]}]))
