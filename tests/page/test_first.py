"""The first steps of somebody new, which are quick: strokes become a picture, and what is missing is said."""

import numpy as np
from tests.page.steps import QUICK, draw, generate, say, shown

pytestmark = QUICK


def test_strokes_become_a_picture_without_choosing_the_brush(page) -> None:
    draw(page, "#canvas-0", [(-0.2, 0.05), (0, -0.2), (0.2, 0.05), (0.2, 0.25), (-0.2, 0.25), (-0.2, 0.05)])
    lines = np.asarray(shown(page, "#map-0").convert("L"))
    assert lines.shape == (128, 128) and 0.01 < (lines > 0).mean() < 0.3
    rows, columns = np.nonzero(lines)
    assert abs((columns.min() + columns.max()) / 2 - 64) < 4, "the strokes are in the middle, as they were drawn"
    assert lines[rows.min(), columns.min()] == 0, "the roof is pointed"
    say(page, "a red house")
    assert np.asarray(generate(page)).std() > 10


def test_an_empty_canvas_is_told_of(page) -> None:
    page.click("#generate")
    page.get_by_text("The canvas is empty").first.wait_for()
