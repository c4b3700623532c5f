"""Runs beside each other share the GPUs of a machine."""

import os

import pytest

from refine.studies.launch import VISIBLE, keep_one_gpu


@pytest.mark.parametrize(
    ("given", "taken"), [("3,5", "35"), ("GPU-ab", ["GPU-ab", "GPU-ab"]), (None, "01"), ("", ["", ""])]
)
def test_jobs_beside_each_other_take_gpus_in_turn(monkeypatch, given, taken):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for number, expected in enumerate(taken):
        monkeypatch.delenv(VISIBLE, raising=False)
        if given is not None:
            monkeypatch.setenv(VISIBLE, given)
        keep_one_gpu(number)
        assert os.environ[VISIBLE] == expected
        keep_one_gpu(number + 1)  # the same process again: CUDA has read it
        assert os.environ[VISIBLE] == expected


def test_without_gpus_nothing_is_taken(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.delenv(VISIBLE, raising=False)
    keep_one_gpu(1)
    assert VISIBLE not in os.environ
