"""Files on disk: atomic writes, paths, and the lock of an output folder."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from refine.io import files
from refine.io.files import Busy, Lock, same_path, write_atomic


def test_write_atomic_replaces_and_leaves_nothing_else(tmp_path):
    (target := tmp_path / "a").write_bytes(b"old")
    (scratch := tmp_path / "scratch").mkdir()
    write_atomic(target, b"new", scratch)
    assert target.read_bytes() == b"new"
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_write_atomic_cleans_up_when_it_fails(tmp_path, monkeypatch, step):
    (target := tmp_path / "a").write_bytes(b"old")
    (scratch := tmp_path / "scratch").mkdir()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space"):
        write_atomic(target, b"new", scratch)
    assert target.read_bytes() == b"old"
    assert list(scratch.iterdir()) == []


@pytest.fixture
def tidied():
    """What was tidied, in order."""
    return []


@pytest.fixture
def lock(tmp_path, tidied):
    (tmp_path / ".refine").mkdir()
    return lambda settings: Lock(tmp_path / ".refine" / "lock", settings, lambda: tidied.append(settings))


def test_runs_with_the_same_settings_share_a_folder_and_the_first_tidies(lock, tidied):
    first, second = lock("a"), lock("a")
    assert tidied == ["a"]
    first.release()
    second.release()
    lock("a").release()
    assert tidied == ["a", "a"]


def test_a_run_with_other_settings_is_refused_and_changes_nothing(lock, tidied, tmp_path):
    first = lock("a")
    with pytest.raises(Busy, match=f"another run, of other settings, is at work in {tmp_path}"):
        lock("b")
    lock("a").release()
    first.release()
    lock("b").release()
    assert tidied == ["a", "b"]


@pytest.mark.parametrize("missing", ["locks of the file system", "fcntl"])
def test_without_locks_nobody_is_refused(lock, tidied, monkeypatch, missing):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(files, "fcntl", SimpleNamespace(flock=refuse, LOCK_EX=2, LOCK_NB=4, LOCK_SH=1))
    if missing == "fcntl":
        monkeypatch.setattr(files, "fcntl", None)
    first = lock("a")
    lock("b").release()
    first.release()
    assert tidied == ["a", "b"]


def test_paths_to_one_place(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    assert same_path(tmp_path / "link", tmp_path / "x" / ".." / "folder") and not same_path(tmp_path, tmp_path / "link")
    assert same_path(Path("~"), Path.home())
