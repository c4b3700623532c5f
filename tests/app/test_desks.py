"""Who finds which desk, what is deleted when, and the line of the works."""

import threading
import types

import pytest

from refine.app.desks import Desks, Line
from refine.app.work import Work


@pytest.fixture
def desks(tmp_path):
    return Desks(tmp_path, most=2, keep=1000)


def work_that(run=lambda: None):
    work = Work(None, None, ("a", "b"), None, 64)
    work._run = lambda: (run(), ("done", ""))[1]
    return work


def test_a_token_finds_its_desk_again_and_no_other(desks):
    token, desk = desks.open(None)
    assert len(token) >= 43 and desks.open(token) == (token, desk)
    for wrong in ("", "x", token[:-1], None, 7, ["x"]):
        other, found = desks.open(wrong)
        assert found is not desk and other not in (wrong, token)
        desks.open(token)


def test_the_desk_that_is_idle_longest_makes_room(desks, tmp_path):
    first, _ = desks.open(None)
    second, kept = desks.open(None)
    desks.open(first)
    desks.open(None)
    assert not kept.folder.exists() and desks.open(first)[0] == first
    token, fresh = desks.open(second)  # its page is still open somewhere
    assert token == second and fresh is not kept and fresh.folder.exists()


def test_a_desk_whose_work_waits_or_runs_is_not_idle(desks, monkeypatch):
    first, desk = desks.open(None)
    desk.begin(work := work_that())
    desks.open(None)
    third, _ = desks.open(None)
    assert desks.open(first)[1] is desk and set(desks._desks) == {first, third}
    monkeypatch.setattr("refine.app.desks.time", types.SimpleNamespace(monotonic=lambda: desk.seen + 1001))
    desks.tidy()
    assert desk.folder.exists()
    work.run()
    desks.tidy()
    assert not desk.folder.exists() and desk.work is None


def test_an_idle_desk_is_deleted_with_its_files(desks, monkeypatch):
    token, desk = desks.open(None)
    desk.begin(work := work_that())
    work.run()
    file = desk.put("work", "a.png", b"a")
    now = desk.seen
    monkeypatch.setattr("refine.app.desks.time", types.SimpleNamespace(monotonic=lambda: now + 1001))
    desks.tidy()
    assert not file.exists() and desks.open(token)[1] is not desk


def test_files_have_names_that_nobody_can_guess_and_go_with_what_they_are_of(desks, tmp_path):
    _, desk = desks.open(None)
    ground, result = desk.put("photo", "photo.jpg", b"g"), desk.put("work", "../../a.png", b"r")
    assert result.is_relative_to(desk.folder) and result.name == "a.png" and len(result.parent.name) == 32
    assert desk.put("work", "../../a.png", b"r") == result
    desk.begin(work_that())
    assert ground.exists() and not result.exists()
    desk.take("another photo")
    assert not ground.exists() and desk.work is None
    assert desk.folder.stat().st_mode & 0o077 == 0
    desks.clear()
    assert list(tmp_path.iterdir()) == []


def test_works_are_done_one_after_the_other_and_too_many_are_refused():
    line, begun, go, order = Line(waiting=1), threading.Event(), threading.Event(), []

    def hold():
        begun.set()
        assert go.wait(10)
        order.append("first")

    first = line.join(lambda: work_that(hold))
    assert begun.wait(10)
    second = line.join(lambda: work_that(lambda: order.append("second")))
    assert (line.place(first), line.place(second)) == (0, 1)
    with pytest.raises(ValueError, match=r"As many photos wait already as may \(1, waiting=\); try again later"):
        line.join(work_that)
    second.stop()  # its place is free at once
    third = line.join(lambda: work_that(lambda: order.append("third")))
    go.set()
    assert third.ended.wait(10) and order == ["first", "third"] and second.state == "stopped"
    line.close()
    assert not line._thread.is_alive()
