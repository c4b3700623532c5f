"""The page: its parts, and what happens when one is used."""

from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from refine.app.networks import Networks

PINK = "#ff3399"  # as the hole is marked in pictures
CSS = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
HEAD = f"<script>{(Path(__file__).parent / 'page.js').read_text(encoding='utf-8')}</script>"
INTRO = (
    "# refine\nFill a hole in a photo with a network, refined from coarse to fine. Pictures on this page are reduced. "
    "The download has the photo's own size, format and depth; known pixels stay as they are (of a JPEG take the PNG)."
)


@dataclass(frozen=True)
class Parts:
    """The parts of the page that handlers read or change.

    Attributes:
        token: What the browser keeps to find its desk again.
        photo: Area where a photo is dropped.
        about: Text on photo and mask, HTML.
        editor: Picture on which the hole is painted.
        mask: Area where a mask file is dropped.
        no_mask: Button that takes the mask file away.
        transparent: Box that makes the transparent part of the photo hole.
        backbone: Choice of the backbone.
        preset: Choice of the preset.
        run: Button that starts.
        stop: Button that stops.
        status: Text and picture of how far it is, HTML.
        result: Column of all that is shown of a result.
        left: Name of the picture left of the slider.
        right: Name of the picture right of the slider.
        slider: Both pictures.
        report: Verdict, HTML.
        download: Button of the file in the photo's own format.
        lossless: Button of the PNG beside a lossy format.
    """

    token: gr.BrowserState
    photo: gr.File
    about: gr.HTML
    editor: gr.ImageEditor
    mask: gr.File
    no_mask: gr.Button
    transparent: gr.Checkbox
    backbone: gr.Dropdown
    preset: gr.Dropdown
    run: gr.Button
    stop: gr.Button
    status: gr.HTML
    result: gr.Column
    left: gr.Dropdown
    right: gr.Dropdown
    slider: gr.ImageSlider
    report: gr.HTML
    download: gr.DownloadButton
    lossless: gr.DownloadButton


def lay_out(networks: Networks, upload: float) -> Parts:
    """Put the parts on the page that is being built.

    Args:
        networks: What there is to choose from.
        upload: Largest file, MiB.
    """
    token = gr.BrowserState("", storage_key="refine-desk")
    gr.Markdown(INTRO, elem_id="intro")
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            given = _inputs(upload)
        with gr.Column(scale=2, min_width=320):
            with gr.Row():
                backbone = gr.Dropdown(
                    networks.backbones, value=networks.default, label="Backbone", elem_id="backbone", filterable=False
                )
                preset = gr.Dropdown(
                    networks.presets, value=networks.preset, label="Preset", elem_id="preset", filterable=False
                )
            with gr.Row():
                run = gr.Button("Refine", variant="primary", elem_id="run")
                stop = gr.Button("Stop", variant="stop", elem_id="stop", interactive=False)
            status = gr.HTML(elem_id="status")
    return Parts(token, *given, backbone, preset, run, stop, status, *_outputs())


def _inputs(upload: float) -> tuple[gr.File, gr.HTML, gr.ImageEditor, gr.File, gr.Button, gr.Checkbox]:
    photo = gr.File(
        label=f"Photo: drop, paste or click; up to {upload:g} MiB", height=140, elem_id="photo", type="filepath"
    )
    about = gr.HTML(elem_id="about")
    editor = gr.ImageEditor(
        label="Paint the hole",
        elem_id="editor",
        sources=(),
        transforms=(),
        layers=False,
        brush=gr.Brush(colors=[PINK], color_mode="fixed"),
        buttons=[],
        height=520,
        type="numpy",
        visible="hidden",
    )
    with gr.Accordion("Or a mask file (white is the hole)", open=False, elem_id="mask-file"):
        mask = gr.File(label="Mask, of the photo's size", height=140, elem_id="mask", type="filepath")
        no_mask = gr.Button("Take the mask away", size="sm", visible=False, elem_id="no-mask")
        transparent = gr.Checkbox(label="The transparent part of the photo is hole", visible=False, elem_id="alpha")
    return photo, about, editor, mask, no_mask, transparent


def _outputs() -> tuple[
    gr.Column,
    gr.Dropdown,
    gr.Dropdown,
    gr.ImageSlider,
    gr.HTML,
    gr.DownloadButton,
    gr.DownloadButton,
]:
    with gr.Column(visible=False, elem_id="result") as result:
        with gr.Row():
            left = gr.Dropdown([], label="Left of the slider", elem_id="left", filterable=False)
            right = gr.Dropdown([], label="Right of the slider", elem_id="right", filterable=False)
        slider = gr.ImageSlider(
            show_label=False, elem_id="slider", interactive=False, buttons=["fullscreen"], max_height=900
        )
        with gr.Row():
            download = gr.DownloadButton("Download", variant="primary", elem_id="download")
            lossless = gr.DownloadButton("Download png", elem_id="lossless", visible=False)
        report = gr.HTML(elem_id="report")
    return result, left, right, slider, report, download, lossless
