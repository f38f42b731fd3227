"""Where pictures are asked for, shown while they are made, looked at and taken further."""

from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image

from maquette.studio.page.fields import Fields, error_line


@dataclass
class Looking:
    """The results, and what one does with them."""

    state: gr.State  # the pictures with their captions
    chosen: gr.State  # numbers of the last two selected
    gallery: gr.Gallery
    preview: gr.Image
    said: gr.Markdown
    generate: gr.Button
    stop: gr.Button
    as_start: gr.Button
    paint: gr.Button
    again: gr.Button
    compare: gr.ImageSlider


def chosen_image(shown: Any, chosen: list[int]) -> Image.Image | None:
    """The picture selected last; the only one if there is no other."""
    if not shown:
        return None
    number = chosen[-1] if chosen and chosen[-1] < len(shown) else 0 if len(shown) == 1 else None
    return None if number is None else shown[number][0]


def add_results(page: Fields) -> Looking:
    """The buttons that make pictures, the pictures, and what one does with them."""
    words = page.words
    with gr.Row():
        generate = gr.Button(words("generate"), variant="primary", elem_id="generate", scale=3)
        stop = gr.Button(words("stop"), elem_id="stop", scale=1, min_width=80)
    page.errors[""] = error_line()
    said = gr.Markdown("", elem_classes="said", elem_id="said", container=False)
    preview = gr.Image(
        label=words("making"), interactive=False, visible=False, format="png", buttons=[], elem_classes="crisp"
    )
    gallery = gr.Gallery(
        label=words("results"), columns=2, height="auto", object_fit="contain", format="png", interactive=False,
        elem_id="results", elem_classes="crisp", buttons=["download"], preview=True,
    )  # fmt: skip
    with gr.Row():
        as_start, paint, again = (
            gr.Button(words(key), size="sm", min_width=100, elem_id=key) for key in ("as_start", "paint", "again")
        )
    compare = gr.ImageSlider(
        label=words("compare"), visible=False, format="png", interactive=False, buttons=[], elem_classes="crisp",
        elem_id="compare",
    )  # fmt: skip
    return Looking(gr.State([]), gr.State([]), gallery, preview, said, generate, stop, as_start, paint, again, compare)
