"""The page in a browser: what a user does, and what somebody does who means harm. A browser takes 15 s of CPU time."""

import json
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from browsers import chromium
from generated import photo, save
from image_bytes import png_16
from PIL import Image

from refine.app import desks as app_desks
from refine.io import read_picture

SECONDS = 60_000  # ms that a busy machine may take for anything


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("playwright.sync_api")
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(browser, tiny_weights):  # without a browser nothing is served
    """A page with a network that refines 256x192 px at two levels, in a second or two."""
    pytest.importorskip("gradio")  # here, since to import it takes three seconds
    from refine.app.server import serving

    network = [
        "backbone=lama",
        f"backbone.weights={tiny_weights}",
        "backbone.native_size=48",
        "refiner.keep_detail=null",
    ]
    with serving([*network, "refiner.steps=12", "device=cpu", "port=0", "side=256"], ["cv2_telea"]) as url:
        yield url


@pytest.fixture
def visit(browser, address):
    """Open the page as a new user; what is asked for elsewhere, or breaks in it, is an error."""
    contexts, wrong = [], []

    def opened(width=1280, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(SECONDS)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda sent: wrong.append(sent.url) if not local(sent.url, address) else None)
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.goto(address)
        return ready(page)

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def local(url, address):
    return url.startswith((address, "data:", "blob:"))


def ready(page):
    page.locator("#status", has_text=re.compile("Load a photo|Done|Stopped|Level")).wait_for()
    return page


def load(page, file, part="photo"):
    if part == "mask" and not page.locator("#mask").count():
        page.click("text=Or a mask file")
    page.locator(f"#{part} input[type=file]").set_input_files(file)


def told(page, text, part="about"):
    found = page.locator(f"#{part}", has_text=re.compile(text))
    found.wait_for()
    return found.inner_text()


def paint(page):
    """A stroke of the mouse through the middle."""
    canvas = page.locator("#editor canvas").first
    canvas.wait_for()
    page.locator("#editor", has_text=re.compile(r"\d+%")).wait_for()
    page.wait_for_timeout(1000)  # the editor fits the photo in
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 60, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 20, steps=8)
    page.mouse.up()
    page.wait_for_timeout(300)


def run(page):
    """Press the button; all that is said until the end."""
    said = []
    page.click("#run")
    page.wait_for_function("!document.querySelector('#stop').disabled")
    end = time.monotonic() + SECONDS / 1000
    while time.monotonic() < end and not re.search(r"Done|Stopped\.|could not", said[-1] if said else ""):
        said.append(page.locator("#status").inner_text())
        page.wait_for_timeout(200)
    page.locator("#report", has_text=re.compile("preset|Stopped")).wait_for()
    return said


def downloaded(page, folder, button="download"):
    with page.expect_download() as download:
        page.click(f"#{button}")
    target = Path(folder) / download.value.suggested_filename
    download.value.save_as(target)
    return target


def sources(page):
    page.wait_for_function("document.querySelectorAll('#slider img').length > 1")
    return page.evaluate("[...document.querySelectorAll('#slider img')].map(image => image.src)")


@pytest.fixture
def picture(tmp_path):
    return save(tmp_path / "photo.png", photo(256, 192))


@pytest.mark.thorough
def test_paint_run_watch_compare_download_and_load_the_page_again(visit, picture, tmp_path):
    page = visit()
    load(page, picture)
    assert "256x192, 8 bit, download as png" in told(page, "photo.png")
    paint(page)
    said = run(page)
    steps = {found[1] for text in said if (found := re.search(r"Level (\d of 3, update \d+) of 12, loss", text))}
    assert len(steps) > 2, said
    verdict = page.locator("#report").inner_text()
    assert "Refined at" in verdict and "256x192" in verdict

    before = sources(page)
    assert len(set(before)) == 2  # plain and refined
    page.click("#left input")
    page.get_by_role("option", name="hole").click()
    page.wait_for_function(
        f"[...document.querySelectorAll('#slider img')].some(i => !{json.dumps(before)}.includes(i.src))"
    )
    handle = page.locator("#slider .icon-wrap")
    handle.scroll_into_view_if_needed()
    at = handle.bounding_box()
    page.mouse.move(at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
    page.mouse.down()
    page.mouse.move(at["x"] - 150, at["y"] + 5, steps=5)
    page.mouse.up()
    assert handle.bounding_box()["x"] < at["x"] - 100

    result = downloaded(page, tmp_path)
    values, given = np.asarray(Image.open(result)), np.asarray(Image.open(picture))
    changed = (values != given).any(axis=2)
    assert result.name == "photo_inpainted.png" and values.shape == given.shape
    rows, columns = np.nonzero(changed)
    assert 200 < changed.sum() < 12000  # the stroke alone
    assert 60 < rows.min() < rows.max() < 140 and 60 < columns.min() < columns.max() < 200

    page.reload()
    told(ready(page), "photo.png")
    told(page, "Done", "status")
    assert len(set(sources(page))) == 2 and page.locator("#report").inner_text() == verdict
    (tmp_path / "again").mkdir()
    assert downloaded(page, tmp_path / "again").read_bytes() == result.read_bytes()


@pytest.mark.thorough
def test_a_mask_file_and_16_bits(visit, tmp_path):
    page = visit()
    load(page, save(tmp_path / "mask.png", np.zeros((192, 256), bool)), "mask")
    told(page, "Load the photo first")
    values = photo(256, 192, dtype=np.uint16)
    (tmp_path / "deep.png").write_bytes(png_16(values))
    load(page, tmp_path / "deep.png")
    told(page, "256x192, 16 bit")
    page.click("#run")
    told(page, "There is no hole yet")
    load(page, save(tmp_path / "small.png", np.ones((19, 25), bool)), "mask")
    told(page, "small.png is 25x19, but the photo deep.png is 256x192. Masks are never resized")
    mask = np.zeros((192, 256), bool)
    mask[50:120, 60:200] = True
    load(page, save(tmp_path / "mask.png", mask), "mask")
    told(page, "with the mask mask.png")
    run(page)
    result = read_picture(downloaded(page, tmp_path)).pixels
    assert result.dtype == np.uint16 and np.array_equal(result[~mask], values[~mask])
    assert not np.array_equal(result[mask], values[mask])


@pytest.mark.thorough
def test_what_cannot_be_used_is_a_sentence(visit, tmp_path):
    page = visit(width=400)
    (tmp_path / "text.txt").write_text("hello")
    load(page, tmp_path / "text.txt")
    told(page, "Cannot read 'text.txt': its contents are no image of a supported kind")
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(60_000_000)
    load(page, tmp_path / "large.png")
    told(page, "exceed the maximum allowed size of 50.0 Mb", "photo, .toast-wrap")
    load(page, save(tmp_path / "<img src=x onerror=alert(1)>.png", photo(64, 48)))
    told(page, "64x48")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


PASTE = """
data => {
  const files = new DataTransfer();
  files.items.add(new File([Uint8Array.from(data)], "pasted.png", {type: "image/png"}));
  document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: files, bubbles: true}));
}
"""


@pytest.mark.thorough
def test_a_photo_is_pasted(visit, picture):
    page = visit()
    page.evaluate(PASTE, list(picture.read_bytes()))
    told(page, "pasted.png: 256x192")


@pytest.mark.thorough
def test_stop_keeps_what_there_is(visit, tmp_path):
    page = visit()
    load(page, save(tmp_path / "photo.jpg", photo(1024, 768), quality=95))
    told(page, "1024x768")
    paint(page)
    page.click("#run")
    told(page, "Level 4 of 5, update [1-9]", "status")
    page.reload()  # it goes on meanwhile, and is found again
    told(page, "Level [45] of", "status")
    page.click("#stop")
    told(page, "Stopped", "status")
    assert "Stopped at level" in told(page, "The result is what was there then", "report")
    assert downloaded(page, tmp_path).name == "photo_inpainted.jpg"
    lossless = downloaded(page, tmp_path, "lossless")
    given, result = (read_picture(file).pixels for file in (tmp_path / "photo.jpg", lossless))
    assert 0.5 < (given == result).all(axis=2).mean() < 1


@pytest.mark.thorough
def test_two_users_at_once_do_not_meet(visit, tmp_path):
    pages = [visit(), visit()]
    for number, page in enumerate(pages):
        load(page, save(tmp_path / f"user{number}.png", np.full((192, 256, 3), 60 + 100 * number, np.uint8)))
        told(page, f"user{number}.png")
        paint(page)
    for page in pages:
        page.click("#run")
    for number, page in enumerate(pages):
        told(page, "Done", "status")
        result = np.asarray(Image.open(downloaded(page, tmp_path)))
        assert result.shape == (192, 256, 3) and (result[:20] == 60 + 100 * number).all()
        assert f"user{1 - number}" not in page.content()
    addresses = [set(sources(page)) for page in pages]
    assert not addresses[0] & addresses[1]
    newcomer = visit()
    assert newcomer.locator("#about").inner_text().strip() == "" and not newcomer.is_visible("#slider")


@pytest.mark.thorough
def test_no_file_of_the_machine_is_served(visit, address, picture):
    page = visit()
    load(page, picture)
    told(page, "photo.png")
    paths = ["file=/etc/passwd", "file=../../../../etc/passwd", "file=%2Fetc%2Fpasswd", "file=file:///etc/passwd"]
    paths += [f"file={Path(__file__)}", f"file={Path.cwd()}/README.md", "file=http://example.com/", "file/etc/passwd"]
    paths += ["proxy=http://example.com/", "file=/proc/self/environ", "info", "openapi.json"]
    for path in [f"gradio_api/{path}" for path in paths] + ["static/../../../../etc/passwd", "assets/%2e%2e/%2e%2e/x"]:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{address}{path}")
        assert refused.value.code in (403, 404), path
    config = json.load(urllib.request.urlopen(f"{address}config"))
    (take_photo,) = [
        entry["id"] for entry in config["dependencies"] if ["upload"] in [t[1:] for t in entry["targets"]]
    ][:1]
    stolen = {"path": str(picture), "meta": {"_type": "gradio.FileData"}}
    call = {"data": ["", stolen], "fn_index": take_photo, "session_hash": "thief1"}
    body = json.dumps(call).encode()
    headers = {"content-type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(f"{address}gradio_api/queue/join", body, headers)).read()
    events = urllib.request.urlopen(f"{address}gradio_api/queue/data?session_hash=thief1").read().decode()
    assert '"success":false' in events.replace(" ", "") and "256x192" not in events


def test_nothing_is_left_when_it_ends(tiny_weights, tmp_path, monkeypatch):
    pytest.importorskip("gradio")
    from refine.app.server import serving

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    opened = []
    monkeypatch.setattr(
        app_desks.Desks,
        "__init__",
        lambda self, *args, of=app_desks.Desks.__init__: (of(self, *args), opened.append(self))[0],
    )
    with serving(["backbone=mini", "device=cpu", "port=0"], []) as url:
        assert urllib.request.urlopen(url).status == 200
        _, desk = opened[0].open(None)
        desk.put("photo", "a.jpg", b"a")
        assert len(list(tmp_path.rglob("a.jpg"))) == 1
        with (
            pytest.raises(ValueError, match="another program does"),
            serving([f"port={url.split(':')[-1].strip('/')}"], []),
        ):
            pass
    assert list(tmp_path.iterdir()) == []
