"""Help at the top of the page: a picture and four sentences, one click away."""

import base64
from html import escape
from pathlib import Path

import gradio as gr

from maquette.diorama.things import CLASSES, COLOUR_NAMES
from maquette.foundation.bundle import PACKAGES
from maquette.foundation.reading.files import read_bytes
from maquette.studio.page.strings import Strings

PICTURE = Path(__file__).parents[2] / "images" / "studio.png"
LARGEST = 2**20  # bytes of it
BACKGROUND = ("sky", "hills", "ground")  # in every scene, so that nobody asks for them


def add_help(words: Strings, base: str) -> None:
    """How one begins, and the words that a bundled base knows."""
    packed = base64.b64encode(read_bytes(PICTURE, LARGEST)).decode()
    with gr.Accordion(words("help"), open=False, elem_id="help"):
        gr.HTML(f'<img alt="{escape(words("help_picture"))}" src="data:image/png;base64,{packed}">')
        gr.Markdown(words("help_text"))
        if base in PACKAGES:
            things = ", ".join(name for name in CLASSES if name not in BACKGROUND)
            gr.Markdown(words("help_words", things, ", ".join(COLOUR_NAMES)))
