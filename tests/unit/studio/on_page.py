"""What tests of the page without a browser do on its tab Draw."""

import gradio as gr
from PIL import Image, ImageDraw

from maquette.studio.engine import Engine
from maquette.studio.page.canvas import SIDE
from maquette.studio.page.draw import Draw
from maquette.studio.page.fields import Fields
from maquette.studio.page.form import request_of
from maquette.studio.page.making import Making
from maquette.studio.page.strings import Strings
from maquette.studio.pictures import png_of

WORDS = Strings("en")


def opened(engine: Engine) -> Draw:
    with gr.Blocks(analytics_enabled=False):
        return Draw(Fields(engine, WORDS), Making(engine, WORDS), gr.BrowserState(""))


def values(draw: Draw, **changes: object) -> dict:
    """The fields as the page opens, three steps, and some changes; "layers.0.x" as layers__0__x."""
    opened = {name: field.value for name, field in draw.page.inputs.items()}
    return {**opened, "steps": 3, **{name.replace("__", "."): value for name, value in changes.items()}}


def strokes() -> dict:
    """A canvas with three strokes, as the browser sends it."""
    layer = Image.new("RGBA", (SIDE, SIDE))
    ImageDraw.Draw(layer).line([(120, 300), (256, 120), (390, 300), (390, 440)], (0, 0, 0, 255), 12)
    return {"background": Image.new("RGBA", (SIDE, SIDE), "white"), "layers": [layer], "composite": layer}


def made(draw: Draw, fields: dict) -> Image.Image:
    """The only picture that the fields ask for."""
    (picture,) = draw.page.engine.submit(request_of(fields, draw.page.engine, WORDS)).result()
    return picture.image


def restored(draw: Draw, image: Image.Image) -> dict:
    """The fields that a picture's record brings back, over those of a page that was just opened."""
    names = {field: name for name, field in draw.page.inputs.items()}
    back = {names[field]: value for field, value in draw.restored(png_of(image)).items()}
    return {**values(draw), **back}
