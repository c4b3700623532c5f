"""Settings as plain values for JSON: equal ones stay equal, others do not."""

import functools
import math

import numpy as np
import pytest
import torch
from torch import nn

from refine.core.fingerprint import plain
from refine.core.types import Level


class Plain:
    def __init__(self, value):
        self.value = value


def circle():
    values = [1]
    values.append(values)
    return values


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, 2.5, None, True, "text"), [1, 2.5, None, True, "text"]),
        ({"a": {3, 1, 2}}, {"a": [1, 2, 3]}),
        (circle(), [1, "..."]),
        (math.floor, "<built-in function floor>"),
        (functools.partial(circle, 1, a=2), {"function": f"{__name__}.circle", "args": [1], "keywords": {"a": 2}}),
        (Plain, f"{__name__}.Plain"),
        (Plain([1]), {"class": f"{__name__}.Plain", "value": [1]}),
        (
            Level(None, None, (1, 2)),
            {"image": None, "mask": None, "size": [1, 2], "conditions": {}, "windows": []},
        ),
        (torch.float32, "torch.float32"),
    ],
)
def test_values_become_plain(value, expected):
    assert plain(value) == expected


@pytest.mark.parametrize("kind", [torch.tensor, np.array, nn.Dropout])
def test_tensors_and_networks_are_told_from_others(kind):
    assert plain(kind(0.25)) == plain(kind(0.25)) != plain(kind(0.5))


def test_addresses_in_memory_tell_nothing():
    assert plain(lambda: 1) == plain(lambda: 1)
    assert plain(torch.Generator()) == plain(torch.Generator())
    assert plain(Plain(Plain(1))) == plain(Plain(Plain(1)))
