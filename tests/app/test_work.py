"""A work on its way: progress, pictures, stopping, failing, and what is said of it."""

import threading
import time

import numpy as np
import pytest
from generated import hole, photo
from uploads import file, given

from refine.app.status import report, status
from refine.app.words import curves, list_of
from refine.app.work import Work
from refine.config import AppConfig
from refine.factory import make_refiner


@pytest.fixture
def make(tiny):
    """A work on 96x80 px, whose levels are 24x20, 48x40 and 96x80; with further overrides."""

    def work(*overrides, mask=None, refiner=None):
        made = refiner or (lambda: make_refiner(AppConfig.compose([*tiny, *overrides])))
        whole = given(file(photo(96, 80)))
        return Work(whole, hole(96, 80) if mask is None else mask, ("<tiny>", "default"), made, side=64)

    return work


LOOSE = "objective.erosion=0"  # small levels have something to compare, too


def stopped_at(work, level, update):
    """The work, stopped when it gets there."""
    check, work.seen = work._check, []

    def look():
        work.seen.append(work.progress.text)
        if work.progress.text.startswith(f"Level {level} of 3, update {update} "):
            work.stop()
        check()

    work._check = look
    work.run()
    return work


def test_pictures_of_every_kind_and_a_verdict(make):
    work = make(LOOSE)
    assert status(None).startswith("<p>Load a photo") and "Waiting: 2 photos before yours" in status(work, 2)
    work.run()
    assert work.state == "done" and work.ended.is_set()
    steps = [f"level {level}, update {update}" for level in (2, 3) for update in (0, 1, 2)]
    assert list(work.views) == ["hole", "plain", *steps, "upscaled", "refined"]
    assert len(set(work.views.values())) > 5
    assert [len(losses) for losses in work.progress.losses.values()] == [3, 3] and work.progress.share == 1
    said = report(work)
    assert "<b>&lt;tiny&gt;</b>" in said and "Refined at 2 of 2 finer levels, 4 updates." in said
    assert "2 of 2" in said and "96x80" in said and "&rarr;" in said
    assert "Done." in status(work) and "<svg" in status(work)


def test_levels_that_were_not_refined_are_explained(make):
    thin = np.zeros((80, 96), bool)
    thin[40, 10:80] = True
    work = make("objective.native_size=512", mask=thin)
    work.run()
    assert work.state == "done" and "Nothing was refined: the hole is too thin" in work.message
    assert work.message.count("skipped: the hole is too thin here") == 2
    assert work.notices == []  # the same in other words
    one = make("pyramid.max_levels=1")
    one.run()
    assert "One level: nothing was refined" in one.message and list(one.views) == ["hole", "refined"]
    none = make("refiner.steps=0", LOOSE)
    none.run()
    assert "This preset makes no updates" in none.message


def test_what_the_loss_did_is_said(make):
    work = make(LOOSE, "refiner.lr=1000")
    work.run()
    assert "the loss rose again: update 0 was kept" in work.message
    early = make(LOOSE, "refiner.steps=9", "refiner.tolerance=0.9")
    early.run()
    assert early.message.count("3 of 9") == 2 and "ended early: the loss no longer fell" in early.message


def test_stop_ends_before_the_next_update_and_keeps_what_there_is(make):
    work = stopped_at(make(LOOSE), level=2, update=1)
    assert work.state == "stopped" and not any("Level 3" in text for text in work.seen)
    assert "Stopped at level 2 of 3, update 1 of 2." in work.message and "enlarged" in work.message
    assert list(work.views)[-1] == "stopped" and work.views["stopped"] != work.views["plain"]
    (name,) = work.files
    result = given(type(work.photo.upload)(name, work.files[name]))
    assert result.size == (80, 96)
    last = stopped_at(make(LOOSE), level=3, update=1)
    assert "update 1 of 2. The result is what was there then." in last.message


def test_stop_before_the_first_update_and_while_it_waits(make):
    work = make()
    work._refine = lambda *_: work._check()
    work.stop()
    assert work.state == "stopped" and "while it waited" in work.message
    work.run()
    assert work.views == {} and work.files == {}
    late = make(refiner=lambda: late.stop() or make_refiner(AppConfig.compose(["backbone=mini", "device=cpu"])))
    late.run()
    assert "Stopped before the first update; there is no result." in late.message and late.files == {}


def test_windows_have_no_result_in_the_middle(make):
    work = stopped_at(make(LOOSE, "refiner.window=auto", "refiner.context=2"), level=3, update=1)
    assert work.state == "stopped" and "there is no result yet" in work.message and work.files == {}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("refiner.steps must be <large>"), "Refiner.steps must be &lt;large&gt;."),
        (KeyError("ours"), "KeyError: &#x27;ours&#x27;"),
    ],
)
def test_a_fault_is_a_sentence(make, error, told):
    def broken():
        raise error

    work = make(refiner=broken)
    work.run()
    assert work.state == "failed" and told in work.message and "Traceback" not in status(work)


def test_each_user_has_their_own_notices(make):
    all_hole = make(mask=np.ones((80, 96), bool))
    all_hole.run()
    assert any("all hole: nothing is known" in text for text in all_hole.notices)
    work = make(LOOSE)
    work.run()
    assert work.notices == []


def test_sentences_and_curves():
    assert list_of(["a <b>", "Why?"]) == (
        '<p class="notice" role="status">A &lt;b&gt;.</p><p class="notice" role="status">Why?</p>'
    )
    drawn = curves({1: [0.5, float("nan"), 0.25], 2: [0.1]})
    assert drawn.count("<polyline") == 2 and "level 2: 0.25" in drawn and "nan" not in drawn
    assert curves({}) == "" and curves({1: [float("nan")]}) == ""


def test_a_thread_may_look_at_any_time(make):
    work, ends = make(LOOSE, "refiner.steps=9"), threading.Event()
    seen = []

    def look():
        while not ends.is_set():
            seen.append(status(work))
            time.sleep(0.002)

    thread = threading.Thread(target=look)
    thread.start()
    work.run()
    ends.set()
    thread.join()
    assert work.state == "done" and len(set(seen)) > 2
