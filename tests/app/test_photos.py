"""What a user gives becomes the sample that ``refine predict`` would read; what cannot is a sentence."""

import numpy as np
import pytest
from generated import hole, photo, refine, save
from image_bytes import ICC, exif_bytes, png_16
from uploads import file, given

from refine.app.notices import noticed
from refine.app.photos import Upload, drawn, make_sample, painted_hole, read_hole, with_hole
from refine.app.work import Work
from refine.config import AppConfig
from refine.factory import make_refiner
from refine.io import UnreadableImage, read_picture
from refine.io.mask import MaskOptions


def work_of(upload, mask, tiny):
    config = AppConfig.compose(tiny)
    done = Work(given(upload), mask, ("tiny", "default"), lambda: make_refiner(config), side=64)
    done.run()
    assert done.state == "done", done.message
    return done


@pytest.mark.parametrize("format", ["tiff", "jpg"])
def test_the_download_is_the_file_of_predict(tmp_path, tiny, format):
    """Byte for byte: own format, EXIF and profile with it."""
    name = f"photo.{format}"
    save(tmp_path / name, photo(), exif=exif_bytes(), icc_profile=ICC)
    save(tmp_path / "hole.png", hole())
    output = tmp_path / "out"
    paths = [f"input={tmp_path / name}", f"mask={tmp_path / 'hole.png'}", f"output={output}", f"format={format}"]
    assert refine("predict", *paths, *tiny).status == 0
    done = work_of(Upload(name, (tmp_path / name).read_bytes()), hole(), tiny)
    assert done.files[f"photo_inpainted.{format}"] == (output / name).read_bytes()
    assert list(done.files) == [f"photo_inpainted.{format}"] + ["photo_inpainted.png"] * (format == "jpg")


def test_16_bits_stay_and_known_pixels_with_them(tiny, tmp_path):
    values = photo(dtype=np.uint16)
    done = work_of(Upload("deep.png", png_16(values)), hole(), tiny)
    (tmp_path / "deep.png").write_bytes(done.files["deep_inpainted.png"])
    result = read_picture(tmp_path / "deep.png").pixels
    assert result.dtype == np.uint16 and np.array_equal(result[~hole()], values[~hole()])
    assert not np.array_equal(result[hole()], values[hole()])


def test_a_format_that_is_not_written_becomes_another():
    animation = file(photo(channels=1)[..., 0], "GIF", "a.gif")
    assert (given(animation).format, given(animation).result_name) == ("png", "a_inpainted.png")
    assert given(animation, format="webp").result_name == "a_inpainted.webp"
    jpeg = file(photo(), "JPEG", "a.JPEG")
    assert given(jpeg).result_name == "a_inpainted.JPEG"
    assert given(Upload("a.jpg", file(photo()).data)).result_name == "a_inpainted.png"  # the contents count


def test_the_header_decides_whether_a_photo_is_too_large():
    head = png_16(photo(dtype=np.uint16), size=(10000, 8000))  # whose pixels are not there
    with pytest.raises(ValueError, match="10000x8000, 80 megapixels; this page takes up to 25"):
        given(Upload("large.png", head), megapixels=25)
    bomb = png_16(photo(dtype=np.uint16), size=(30000, 20000))
    with pytest.raises(ValueError, match="30000x20000, 600 megapixels; this page takes up to 500"):
        given(Upload("huge.png", bomb), megapixels=500)


def test_what_is_no_image_is_said_in_a_sentence():
    with pytest.raises(UnreadableImage, match=r"^cannot read 'a.txt': its contents are no image"):
        given(Upload("a.txt", b"hello"))
    with pytest.raises(UnreadableImage, match="it is empty"):
        given(Upload("a.png", b""))
    with pytest.raises(UnreadableImage, match="damaged or cut short"):
        given(Upload("a.png", file(photo()).data[:-40]))


def test_a_mask_of_another_size_and_a_photo_as_a_mask_are_refused():
    whole = given(file(photo()))
    with pytest.raises(ValueError, match=r"the mask m\.png is 20x10, but the photo a\.png is 48x40"):
        read_hole(file(hole(20, 10), name="m.png"), whole, MaskOptions())
    smooth = np.linspace(60, 190, 48 * 40 * 3).reshape(40, 48, 3).astype(np.uint8)
    with pytest.raises(ValueError, match="looks like a photo"):
        read_hole(file(smooth, name="m.png"), whole, MaskOptions())


def test_the_header_decides_whether_a_mask_has_the_size_of_the_photo():
    head = png_16(photo(dtype=np.uint16), size=(15000, 11000))  # whose pixels are not there
    with pytest.raises(ValueError, match=r"the mask m\.png is 15000x11000, but the photo a\.png is 48x40"):
        read_hole(Upload("m.png", head), given(file(photo())), MaskOptions())
    turned = file(hole().T, "PNG", "m.png", exif=exif_bytes(orientation=6))
    assert read_hole(turned, given(file(photo())), MaskOptions())[0].shape == (40, 48)
    with pytest.raises(ValueError, match=r"the mask m\.png is 40x48, but the photo a\.png is 48x40"):
        read_hole(file(hole().T, name="m.png"), given(file(photo())), MaskOptions())


def test_a_mask_file_is_read_as_the_settings_say_and_doubts_are_told():
    whole, mask = given(file(photo())), file(hole(), name="m.png")
    assert np.array_equal(read_hole(mask, whole, MaskOptions(invert=True))[0], ~hole())
    found, notes = read_hole(file(np.zeros((40, 48), bool), name="m.png"), whole, MaskOptions())
    assert not found.any() and "no hole at all" in notes[0]


def test_strokes_become_a_hole_at_the_size_of_the_photo():
    strokes = np.zeros((32, 64), np.uint8)
    strokes[5:10, 6:12] = 255
    strokes[15, 15] = 60  # a soft rim
    large, small = given(file(photo(128, 64))), given(file(photo(64, 32)))
    expected = np.zeros((64, 128), bool)
    expected[10:20, 12:24] = True
    assert np.array_equal(painted_hole(strokes, large), expected)
    assert np.array_equal(painted_hole(strokes, small), strokes == 255)
    assert not painted_hole(None, large).any() and not painted_hole(np.zeros((3, 3), np.uint8), large).any()
    layer = drawn(strokes)
    assert np.array_equal(layer[..., 3], strokes) and (layer[..., :3] == [255, 51, 153]).all()


def test_strokes_of_another_size_than_the_page_are_refused():
    with pytest.raises(
        ValueError, match="the strokes are 9x8, but the photo on the page is 48x40: load the page again"
    ):
        painted_hole(np.full((8, 9), 255, np.uint8), given(file(photo())))


def test_transparent_pixels_are_unknown_to_the_network():
    values = np.dstack([photo(), np.full((40, 48), 255, np.uint8)])
    values[:8, :8, 3] = 0
    erased = given(file(values))
    assert np.array_equal(erased.transparent, values[..., 3] == 0)
    sample = make_sample(erased, hole())
    assert np.array_equal(sample.network_mask[0, 0] > 0, hole() | erased.transparent)
    assert given(file(photo())).transparent is None


def test_the_page_shows_a_reduced_photo_with_its_hole():
    shown = given(file(np.full((100, 200, 3), 80, np.uint8)))
    assert shown.shown.shape == (32, 64, 3) and (shown.shown == 80).all()
    left = np.zeros((100, 200), bool)
    left[:, :100] = True
    marked = with_hole(shown, left)
    assert (marked[:, 33:] == 80).all() and (marked[:, :31] == [255, 51, 153]).all()
    gray = given(Upload("g.png", png_16(np.full((9, 9, 1), 257 * 7, np.uint16))))
    assert (gray.shown == 7).all() and gray.shown.shape == (9, 9, 3) and gray.bits == 16


def test_warnings_reach_only_the_user_whose_photo_it_is():
    import threading
    import warnings

    heard = {}

    def read(name):
        with noticed() as heard[name]:
            for _ in range(2):
                warnings.warn(f"about {name}", stacklevel=1)
            ready.wait(timeout=10)
            warnings.warn("for both", stacklevel=1)

    ready = threading.Barrier(2)
    threads = [threading.Thread(target=read, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == {"a": ["about a", "for both"], "b": ["about b", "for both"]}
