"""Files as a browser sends them to the page of ``refine app``."""

import io

from PIL import Image

from refine.app.photos import Photo, Upload, read_photo


def file(values, format="PNG", name="a.png", **options) -> Upload:
    """The values as a file of this format."""
    Image.fromarray(values).save(stream := io.BytesIO(), format, **options)
    return Upload(name, stream.getvalue())


def given(upload, **options) -> Photo:
    """What the page makes of an upload, for a page that shows 64 px."""
    return read_photo(upload, **({"megapixels": 1, "side": 64, "format": "png"} | options))
