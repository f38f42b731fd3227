"""Weights by slot on the page, and its control modes in the words of the web UIs."""

import numpy as np
import pytest

import maquette as mq
from maquette.errors import MaquetteError
from maquette.sampling.metadata import record_of
from maquette.studio.http.webui import BALANCES

pytest.importorskip("gradio")

from tests.unit.studio.on_page import WORDS, made, opened, restored, values

from maquette.studio.page.canvas import editor_of
from maquette.studio.page.form import request_of

pytestmark = pytest.mark.usefixtures("closed_loops")
RISING = [0.1 * slot for slot in range(13)]  # 0.30000000000000004 is among them


@pytest.fixture(scope="module")
def draw(engine):
    return opened(engine)


def asked(draw, picture, **changes) -> dict:
    own = {f"layers__0__{name}": value for name, value in changes.items()}
    return values(
        draw, layers__0__canvas=editor_of(picture), layers__0__source="picture", layers__0__net="diorama/canny", **own
    )


def test_modes_are_called_as_in_the_web_ui_and_do_what_its_api_asks_for(draw) -> None:
    for label, value in draw.page.inputs["layers.0.balance"].choices:
        assert BALANCES[label.lower()] == value


def test_weights_by_slot_make_what_the_library_makes_and_come_back(draw, picture) -> None:
    edges, base = mq.detect("canny", picture), draw.page.engine.studio.base
    halves = [0.5 * weight for weight in RISING]
    control = mq.Control(draw.page.engine.studio.net("diorama/canny"), edges, halves, balance="prompt")
    (expected,) = mq.generate(base, "", control, steps=3, batch_size=1)
    first = made(draw, asked(draw, picture, weight=0.5, slots=", ".join(map(str, RISING)), balance="prompt"))
    assert np.array_equal(first, expected)
    again = restored(draw, first)
    assert again["layers.0.balance"] == "prompt" and again["layers.0.slots"].startswith("0, 0.05, 0.1, 0.1500000")
    second = made(draw, again)
    assert np.array_equal(second, first) and record_of(second).controls[0].weight == halves


def test_one_weight_for_all_slots_clears_those_of_a_record_before(draw, picture) -> None:
    again = restored(draw, made(draw, asked(draw, picture, weight=0.7)))
    assert again["layers.0.weight"] == 0.7 and again["layers.0.slots"] == ""


@pytest.mark.parametrize(
    ("slots", "words"),
    [
        ("1, a", "numbers with commas"),
        ("1, 2, 3", "13 slots"),
        (", ".join(["11"] * 13), "0 to 10"),
        ("nan " * 13, "is a number"),
    ],
)
def test_weights_that_cannot_be_are_told_of_beside_the_control(draw, picture, slots, words) -> None:
    with pytest.raises(MaquetteError, match=words) as told:
        draw.page.engine.submit(request_of(asked(draw, picture, slots=slots), draw.page.engine, WORDS))
    assert told.value.field == "layers.0.weight" and draw.page.place_of(told.value.field) == "layers.0"


def test_the_place_of_each_weight_says_what_a_mode_gives_there(draw) -> None:
    factors = [float(one) for one in draw.page.balanced("prompt").split(", ")]
    assert factors == pytest.approx([0.825**power for power in range(12, -1, -1)], rel=0.05)
