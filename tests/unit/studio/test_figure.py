"""The figure whose points one drags: its map is that of the library, and the picture that of its map."""

import numpy as np
import pytest

import maquette as mq
from maquette.conditions.drawing.skeletons import pose_map
from maquette.errors import MaquetteError
from maquette.sampling.metadata import record_of

pytest.importorskip("gradio")

from tests.unit.studio.on_page import WORDS, made, opened, restored, values

from maquette.studio.page.figure import figure_map, standing
from maquette.studio.page.form import request_of
from maquette.studio.page.strings import LANGUAGES, Strings

pytestmark = pytest.mark.usefixtures("closed_loops")


@pytest.fixture(scope="module")
def draw(engine):
    return opened(engine)


def posed(draw, **changes) -> dict:
    """The fields for the figure with a raised left hand and a hidden nose."""
    figure = standing()
    figure["points"][7] = [0.75, 0.1, 1]
    figure["points"][0][2] = 0
    return values(
        draw, layers__0__net="diorama/pose", layers__0__source="figure", layers__0__figure=figure, prompt="a person",
        **changes,
    )  # fmt: skip


def test_the_map_is_the_key_points_drawn_by_the_library_and_makes_its_picture(draw) -> None:
    fields = posed(draw, width=128, height=64)
    people = np.array([fields["layers.0.figure"]["points"]]) * (128, 64, 1)
    expected = pose_map(people, (128, 64))
    assert np.array_equal(draw.making.map_of(fields, 0), expected)
    control = mq.Control(draw.page.engine.studio.net("diorama/pose"), expected)
    (picture,) = mq.generate(draw.page.engine.studio.base, "a person", control, steps=3, batch_size=1)
    first = made(draw, fields)
    assert np.array_equal(first, picture)
    assert np.array_equal(record_of(first).controls[0].image(), expected)
    assert np.array_equal(made(draw, restored(draw, first)), first), "its map comes back"


def test_somebody_stands_upright_in_any_shape() -> None:
    for width, height in ((128, 128), (256, 128), (64, 128)):
        points = np.array(standing(width / height)["points"])[:, :2] * (width, height)
        middle, shoulders = points[:, 0].mean() - width / 2, points[5, 0] - points[2, 0]
        assert abs(middle) < 1 and shoulders == pytest.approx(0.16 * height)
        assert ((points > 0) & (points < (width, height))).all()


def test_a_figure_is_for_people_and_in_the_place_of_the_canvas(draw) -> None:
    offered = {net: [key for _, key in draw.page.sources(net)] for net in draw.page.engine.nets}
    assert {net for net, keys in offered.items() if "figure" in keys} == {"diorama/pose"}
    assert draw._suited("diorama/pose", "drawing")[1]["value"] == "figure"
    assert draw._suited("diorama/canny", "figure")[1]["value"] == "drawing"
    for net, source in (("diorama/pose", "map"), ("diorama/canny", "picture")):
        assert draw._suited(net, source)[1]["value"] == source, "what is on the canvas stays in use"


def test_its_shape_is_that_of_the_pictures(draw) -> None:
    assert [figure["ratio"] for figure in draw._shaped(128, 64, *[standing()] * 3)] == [2, 2, 2]
    assert [figure["ratio"] for figure in draw._shaped(128, None, standing(2))] == [1]


@pytest.mark.parametrize(
    "figure",
    [
        None, {}, {"points": []}, {"points": [[0.5, 0.5, 1]] * 17}, {"points": [[0.5, float("nan"), 1]] * 18},
        {"points": [[1e9, 0.5, 1]] * 18}, {"points": [["a", 0.5, 1]] * 18}, {"points": [[0.5, 0.5, 0]] * 18}, "<svg>",
    ],
)  # fmt: skip
def test_what_is_no_figure_is_told_of_beside_its_control(draw, figure) -> None:
    with pytest.raises(MaquetteError, match="no figure to draw") as told:
        request_of({**posed(draw), "layers.0.figure": figure}, draw.page.engine, WORDS)
    assert draw.page.place_of(told.value.field) == "layers.0"


@pytest.mark.parametrize("height", [0, 1, 100, 10**9])
def test_no_map_is_drawn_of_a_size_that_cannot_be(draw, height) -> None:
    image, said = draw.making.look(posed(draw, width=128, height=height), 0)
    assert image is None and said


def test_a_condition_without_people_takes_no_figure() -> None:
    with pytest.raises(MaquetteError, match="no figure to draw"):
        figure_map(standing(), "canny", "diorama", (128, 128), WORDS)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_point_has_a_name(language) -> None:
    names = Strings(language)("key_points").split(", ")
    assert len(set(names)) == 18
