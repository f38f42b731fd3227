"""A person of 18 key points that one drags: its field on the page, and the condition map that it is."""

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from maquette.conditions.drawing.people import BODY, People
from maquette.conditions.drawing.skeletons import COLOURS, LIMBS
from maquette.conditions.registry import detectors
from maquette.conditions.requirements import drawn_by, shows_people
from maquette.errors import MaquetteError
from maquette.foundation.reading.rules import Rule, listed, typed
from maquette.studio.page.strings import Strings

TEMPLATE = Path(__file__).parent / "figure.html"
SCRIPT = Path(__file__).parent / "figure.js"
Figure = dict[str, Any]
"""{"points": 18 of [x, y, seen], x and y as parts of the picture's sides, seen 1 or 0, "ratio": its width / height}."""

STANDING = (
    (0.5, 0.236), (0.5, 0.312), (0.42, 0.328), (0.395, 0.445), (0.384, 0.553), (0.58, 0.328), (0.605, 0.445),
    (0.616, 0.553), (0.46, 0.536), (0.445, 0.703), (0.436, 0.871), (0.54, 0.536), (0.555, 0.703), (0.564, 0.871),
    (0.474, 0.22), (0.526, 0.22), (0.432, 0.232), (0.568, 0.232),
)  # fmt: skip
"""Somebody who stands and faces the viewer, in OpenPose's order."""

POINTS: Rule = listed(listed(typed(float, -1, 2), 3, 3), BODY, BODY)


def standing(ratio: float = 1.0) -> Figure:
    """The figure that one begins with, in a picture of a width / height."""
    return {"points": [[0.5 + (x - 0.5) / ratio, y, 1] for x, y in STANDING], "ratio": ratio}


def add_figure(words: Strings, name: str) -> gr.HTML:
    """The field, hidden at first, under the name of its element."""
    return gr.HTML(
        standing(), html_template=TEMPLATE.read_text("utf-8"), js_on_load=SCRIPT.read_text("utf-8"), visible="hidden",
        elem_id=name, elem_classes="figure", apply_default_css=False, label=words("figure"),
        title=words("figure"), hint=words("figure_hint"), unseen=words("unseen"), limbs=LIMBS,
        names=words("key_points").split(", "), colours=["#{:02x}{:02x}{:02x}".format(*colour) for colour in COLOURS],
    )  # fmt: skip


def takes_figures(condition: str | None, base: str) -> bool:
    """Whether maps of a condition are drawn from people."""
    return condition is not None and shows_people(drawn_by(condition, base))


def figure_map(figure: Any, condition: str, base: str, size: tuple[int, int], words: Strings) -> Image.Image:
    """The map of a figure, RGB, as the condition's own renderer draws it at `size` (width, height).

    Raises `MaquetteError` for a condition that shows no people, and for a figure without a point that is seen.
    """
    points = figure.get("points") if isinstance(figure, dict) else None
    whole = takes_figures(condition, base) and POINTS(points) is None
    body = np.array(points, np.float64) if whole else np.zeros((BODY, 3))
    record = detectors[drawn_by(condition, base)].record if whole else None
    if record is None or not (body[:, 2] > 0).any():
        raise MaquetteError(words("no_figure"))
    return record.draw(People.of_bodies(body[None] * (*size, 1), size))
