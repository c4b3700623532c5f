"""What happens when a part of the page is used; every fault of a user's is a sentence on the page."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from refine.app.desks import Desk, Desks, Line
from refine.app.networks import Networks
from refine.app.page import Parts
from refine.app.photos import Upload, drawn, jpeg, painted_hole, read_hole, read_photo, with_hole
from refine.app.status import report, status
from refine.app.words import list_of
from refine.app.work import Work
from refine.io.mask import MaskOptions

OFTEN = 0.3  # s between two looks at a work
FIRST = ("refined", "stopped", "plain", "hole")  # what is shown right of the slider, if it is there
Update = dict[gr.blocks.Block, Any]


class Handlers:
    """What the page does.

    Args:
        networks: What there is to choose from.
        desks: Desks of the users.
        line: Line of the works.
    """

    def __init__(self, networks: Networks, desks: Desks, line: Line) -> None:
        self.networks, self.desks, self.line = networks, desks, line
        self.config = networks.config

    def connect(self, page: gr.Blocks, parts: Parts) -> None:
        """Bind the parts of a page to what they do.

        Args:
            page: Page that is being built.
            parts: Its parts.
        """
        self.parts = parts
        # Nothing here is for scripts, which have refine predict; no limit, because the line has one.
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
        p = parts
        # A part is an output only where it may change: the editor would load its picture again and again.
        given = [p.photo, p.about, p.editor, p.mask, p.no_mask, p.transparent]
        made = [p.status, p.stop, p.result, p.left, p.right, p.slider, p.report, p.download, p.lossless]
        watch = {"fn": self.watch, "inputs": [p.token], "outputs": made, **quiet}
        page.load(self.restore, [p.token], [p.token, *given, *made], **quiet).then(**watch)
        p.photo.upload(self.take_photo, [p.token, p.photo], [*given, *made], **quiet)
        p.mask.upload(self.take_mask, [p.token, p.mask, p.editor], given, **quiet)
        p.no_mask.click(self.drop_mask, [p.token, p.editor], given, **quiet)
        inputs = [p.token, p.editor, p.transparent, p.backbone, p.preset]
        p.run.click(self.start, inputs, [p.about, *made], **quiet).then(**watch)
        p.stop.click(self.stop, [p.token], [p.status, p.stop], **quiet)
        for choice in (p.left, p.right):
            choice.input(self.compare, [p.token, p.left, p.right], [p.slider], **quiet)

    def restore(self, token: str) -> Update:
        """What a page that is loaded, perhaps again, finds on its desk."""
        token, desk = self.desks.open(token)
        return {self.parts.token: token, **self._input(desk, desk.painting), **self._output(desk)}

    def take_photo(self, token: str, path: str) -> Update:
        """A photo was dropped."""
        _, desk = self.desks.open(token)
        config = self.config
        try:
            photo = read_photo(_upload(path), config.megapixels, config.side, config.format)
        except ValueError as error:
            return {self.parts.photo: None, self.parts.about: self._about(desk, [str(error)])}
        desk.take(photo)
        return {**self._input(desk, None), **self._output(desk)}

    def take_mask(self, token: str, path: str, painted: dict[str, Any] | None) -> Update:
        """A mask file was dropped; what was painted stays."""
        _, desk = self.desks.open(token)
        try:
            upload = _upload(path)
            if desk.photo is None:
                raise ValueError("Load the photo first, then its mask.")
            hole, notes = read_hole(upload, desk.photo, MaskOptions(*self.config.mask_options))
        except ValueError as error:
            return {self.parts.mask: None, self.parts.about: self._about(desk, [str(error)])}
        desk.mask = hole, upload.name
        return self._input(desk, _strokes(painted), notes)

    def drop_mask(self, token: str, painted: dict[str, Any] | None) -> Update:
        """The mask file is taken away."""
        _, desk = self.desks.open(token)
        desk.mask = None
        return self._input(desk, _strokes(painted))

    def start(
        self, token: str, painted: dict[str, Any] | None, transparent: bool, backbone: str, preset: str
    ) -> Update:
        """The button was pressed."""
        _, desk = self.desks.open(token)
        strokes = _strokes(painted)
        try:
            hole = self._hole(desk, strokes, transparent)
            photo = desk.photo
            assert photo is not None

            def make() -> Work:
                refiner = self.networks.refiner
                return Work(photo, hole, (backbone, preset), lambda: refiner(backbone, preset), self.config.side)

            work = self.line.join(make, desk.work)
        except ValueError as error:
            return {self.parts.about: self._about(desk, [str(error)])}
        desk.stop()  # not before: if the line is full, the user keeps the work that is under way
        desk.painting = strokes
        desk.begin(work)
        return {self.parts.about: self._about(desk), **self._output(desk)}

    async def watch(self, token: str) -> AsyncIterator[Update]:
        """How far it is, again and again until the end; then what came out."""
        _, desk = self.desks.open(token)
        work, said = desk.work, ""
        while work is not None and not work.ended.is_set():
            if (now := status(work, self.line.place(work))) != said:
                said = now
                yield {self.parts.status: said}
            await asyncio.sleep(OFTEN)
        yield self._output(desk)  # also of no work: Gradio empties all parts where nothing is yielded

    def stop(self, token: str) -> Update:
        """The other button was pressed."""
        _, desk = self.desks.open(token)
        desk.stop()
        return {self.parts.status: status(desk.work), self.parts.stop: gr.update(interactive=False)}

    def compare(self, token: str, left: str, right: str) -> tuple[str, str] | None:
        """Other pictures are to be compared."""
        _, desk = self.desks.open(token)
        return _pair(desk, left, right)

    def _hole(self, desk: Desk, strokes: np.ndarray | None, transparent: bool) -> np.ndarray:
        photo = desk.photo
        if photo is None:
            raise ValueError("Load a photo first.")
        hole = painted_hole(strokes, photo)
        if desk.mask is not None:
            hole |= desk.mask[0]
        if transparent and photo.transparent is not None:
            hole |= photo.transparent
        if not hole.any():
            raise ValueError("There is no hole yet: paint over what is to be filled, or load a mask.")
        return hole

    def _input(self, desk: Desk, strokes: np.ndarray | None, notes: Sequence[str] = ()) -> Update:
        """The upper half of the page: photo, mask, what is known of them."""
        p, photo = self.parts, desk.photo
        value = None
        if photo is not None:
            ground = str(desk.put("photo", "photo.jpg", jpeg(with_hole(photo, desk.mask and desk.mask[0]))))
            layers = [] if strokes is None or strokes.shape != photo.shown.shape[:2] else [drawn(strokes)]
            value = {"background": ground, "layers": layers, "composite": None}
        return {
            p.photo: None,
            p.mask: None,
            p.about: self._about(desk, [], notes),
            p.editor: gr.update(value=value, visible="hidden" if photo is None else True),
            p.no_mask: gr.update(visible=desk.mask is not None),
            p.transparent: gr.update(value=False, visible=photo is not None and photo.transparent is not None),
        }

    def _output(self, desk: Desk) -> Update:
        """The other half: how far the work is, and its result."""
        p, work = self.parts, desk.work
        ended = work is not None and work.ended.is_set()
        shown: Update = {
            p.status: status(work, self.line.place(work) if work else 0),
            p.stop: gr.update(interactive=work is not None and not ended),
            p.result: gr.update(visible=ended and work is not None and bool(work.views)),
        }
        if work is None or not ended:
            return shown
        names = list(work.views)
        right = next((name for name in FIRST if name in names), None)
        left = next((name for name in ("plain", "hole") if name in names and name != right), right)
        files = [
            gr.update(value=str(desk.put("work", name, data)), label=f"Download {Path(name).suffix[1:]}", visible=True)
            for name, data in work.files.items()
        ]
        files += [gr.update(value=None, visible=False)] * (2 - len(files))
        return shown | {
            p.left: gr.update(choices=names, value=left),
            p.right: gr.update(choices=names, value=right),
            p.slider: _pair(desk, left, right),
            p.report: report(work) if work.state != "failed" else "",
            p.download: files[0],
            p.lossless: files[1],
        }

    def _about(self, desk: Desk, faults: Sequence[str] = (), notes: Sequence[str] = ()) -> str:
        photo, lines = desk.photo, []
        if photo is not None:
            height, width = photo.size
            name = escape(photo.upload.name)
            mask = f", with the mask {escape(desk.mask[1])} (pink)" if desk.mask else ""
            lines.append(f"<p><b>{name}</b>: {width}x{height}, {photo.bits} bit, download as {photo.format}{mask}</p>")
            notes = [*photo.notes, *notes]
        return list_of(faults, "fault") + "".join(lines) + list_of(notes)


def _upload(path: str) -> Upload:
    """The bytes of an uploaded file.

    The file stays, because another user who uploads the same one has it at the same path; Gradio deletes it later
    (``delete_cache``).
    """
    file = Path(path)
    try:
        return Upload(file.name, file.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{file.name} is no longer on the server: load the file again.") from None


def _strokes(painted: dict[str, Any] | None) -> np.ndarray | None:
    """``(h, w)`` uint8 opacity of the strokes; their color, and the editor's own copy of the photo, tell nothing."""
    layers = (painted or {}).get("layers") or [None]
    return None if layers[0] is None else layers[0][..., 3].copy()  # a view would keep the colors in memory


def _pair(desk: Desk, left: str | None, right: str | None) -> tuple[str, str] | None:
    views = desk.work.views if desk.work else {}
    if left not in views or right not in views:
        return None
    first, second = (str(desk.put("work", f"{name}.jpg", views[name])) for name in (left, right))
    return first, second
