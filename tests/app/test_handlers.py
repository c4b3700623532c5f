"""What the page does when a part of it is used, without a browser."""

import threading
import types

import numpy as np
import pytest
from generated import photo, refine
from PIL import Image
from uploads import file

from refine.app.desks import Desks, Line
from refine.app.work import Work

PARTS = "photo about editor mask no_mask transparent status stop result left right slider report download lossless"
FULL = np.full((40, 48, 4), 255, np.uint8)  # strokes all over the photo


@pytest.fixture
def handlers(tmp_path):
    """A page for which nobody may wait, and whose works hold the line until the test ends."""
    pytest.importorskip("gradio")  # here, since to import it takes three seconds
    from refine.app.handlers import Handlers

    end = threading.Event()
    config = types.SimpleNamespace(
        megapixels=1, side=64, format="png", mask_options=(0.5, False, 0, "auto"), backbone={"name": "a"}
    )
    begun = threading.Event()
    networks = types.SimpleNamespace(config=config, refiner=lambda *_: begun.set() or (end.wait(120) and None))
    page = Handlers(networks, Desks(tmp_path / "desks", most=4, keep=1000), Line(waiting=0))
    page.begun = begun
    page.parts = types.SimpleNamespace(**{name: name for name in PARTS.split()})
    yield page
    end.set()
    page.line.close()


@pytest.fixture
def uploaded(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(file(photo()).data)
    return path


def start(page, token, strokes=FULL):
    return page.start(token, {"layers": [strokes]}, False, "a", "b")


def test_two_users_load_the_same_file(handlers, uploaded):
    """Gradio keeps both at one path, by their contents."""
    for _ in range(2):
        token, desk = handlers.desks.open(None)
        assert "48x40" in handlers.take_photo(token, str(uploaded))["about"] and desk.photo is not None
        handlers.take_mask(token, str(uploaded), None)
    uploaded.unlink()
    sentence = "A.png is no longer on the server: load the file again."
    assert sentence in handlers.take_photo(token, str(uploaded))["about"]
    assert sentence in handlers.take_mask(token, str(uploaded), None)["about"]


def test_a_layer_of_another_size_is_refused_and_of_others_the_opacity_is_kept(handlers, uploaded):
    token, desk = handlers.desks.open(None)
    handlers.take_photo(token, str(uploaded))
    told = start(handlers, token, np.full((400, 48, 4), 255, np.uint8))["about"]
    assert "The strokes are 48x400, but the photo on the page is 48x40" in told and desk.work is desk.painting is None
    start(handlers, token)
    assert desk.work is not None and desk.painting.shape == (40, 48) and desk.painting.base is None
    (layer,) = handlers._input(desk, desk.painting)["editor"]["value"]["layers"]
    assert np.array_equal(np.asarray(Image.fromarray(layer))[..., 3], FULL[..., 3])


def test_a_full_line_does_not_end_the_work_of_the_user(handlers, uploaded):
    (first, mine), (other, theirs) = (handlers.desks.open(None) for _ in range(2))
    for token in (first, other):
        uploaded.write_bytes(file(photo()).data)
        handlers.take_photo(token, str(uploaded))
    start(handlers, first)
    assert handlers.begun.wait(60)
    assert "As many photos wait" in start(handlers, other)["about"] and theirs.work is None
    begun = mine.work
    start(handlers, first)  # it takes the place of the one before
    assert begun.stopping and mine.work is not begun
    waits = mine.work
    assert "As many photos wait" in start(handlers, first)["about"]  # the first has not ended yet
    assert mine.work is waits and waits.state == "waiting"


def test_a_work_without_pictures_offers_none(handlers):
    _, desk = handlers.desks.open(None)
    desk.begin(work := Work(None, None, ("a", "b"), None, 64))
    work.stop()
    shown = handlers._output(desk)
    assert [shown[side]["choices"] for side in ("left", "right")] == [[], []]
    assert [shown[side]["value"] for side in ("left", "right")] == [None, None] and shown["slider"] is None


def test_backbones_on_offer_are_checked_at_the_start():
    pytest.importorskip("gradio")
    outcome = refine("app", "backbones=[mini,nope]", "port=0")
    assert outcome.status == 2
    assert "backbones=[mini,nope]: there is no backbone=nope. There are: aot_gan, big_lama," in outcome.err
