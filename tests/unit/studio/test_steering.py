"""Size and speed on the page: what is asked of the engine, and what a record brings back."""

import numpy as np
import pytest
from PIL import Image
from tests.unit.studio.conftest import LIMITS

import maquette as mq
from maquette.diorama.scene import scene
from maquette.errors import MaquetteError
from maquette.sampling.metadata import KEY
from maquette.sampling.speed import NEUTRAL

pytest.importorskip("gradio")

from tests.unit.studio.on_page import WORDS, made, opened, restored, values

from maquette.studio.page.form import request_of, size_of

pytestmark = pytest.mark.usefixtures("closed_loops")


@pytest.fixture(scope="module")
def draw(engine):
    return opened(engine)


def uploaded(image: Image.Image) -> dict:
    """A canvas with a picture from a file, as the browser sends it."""
    return {"background": image, "layers": [], "composite": image}


def chosen(draw, speed: str) -> dict:
    """The fields that choosing a speed gives."""
    steps, sampler, rest = draw._faster(speed, {})
    return {"speed": speed, "steps": steps, "sampler": sampler, "rest": rest}


@pytest.mark.parametrize("speed", ["exact", "balanced", "draft"])
def test_a_speed_makes_what_the_library_makes_and_comes_back(draw, picture, speed) -> None:
    fields = values(draw, prompt="a tree", width=64, height=128, layers__0__use=False, **chosen(draw, speed))
    (expected,) = mq.generate(draw.page.engine.studio.base, "a tree", size=(64, 128), speed=speed, batch_size=1)
    first = made(draw, fields)
    assert np.array_equal(first, expected) and first.info[KEY] == expected.info[KEY]
    again = restored(draw, first)
    names = ("speed", "steps", "sampler", "width", "height", "guidance", "seed")
    assert {name: again[name] for name in names} == {name: fields[name] for name in names}
    assert np.array_equal(made(draw, again), first)


def test_parts_that_no_speed_has_come_back_until_a_speed_is_chosen(draw) -> None:
    (first,) = mq.generate(draw.page.engine.studio.base, "a tree", steps=6, reuse=3, batch_size=1)
    again = restored(draw, first)
    assert again["speed"] == "exact" and again["rest"]["reuse"] == 3
    assert np.array_equal(made(draw, again), first)
    assert not draw._faster("draft", again["rest"])[2].keys() & NEUTRAL.keys()


def test_a_picture_with_more_than_a_slider_shows_comes_back(draw) -> None:
    (first,) = mq.generate(draw.page.engine.studio.base, "a tree", steps=2, guidance=25, batch_size=1)
    again = restored(draw, first)["guidance"]
    assert again["value"] == 25 <= again["maximum"]
    assert np.array_equal(made(draw, {**restored(draw, first), "guidance": again["value"]}), first)


def test_a_picture_of_another_base_is_not_restored(draw) -> None:
    (first,) = mq.generate(draw.page.engine.studio.base, "a tree", steps=1, batch_size=1)
    first.info[KEY] = (
        first.info[KEY]
        .replace('"name": "diorama"', '"name": "another"')
        .replace('"base": "diorama"', '"base": "another"')
    )
    assert "another" in first.info[KEY]
    with pytest.raises(MaquetteError, match="another"):
        restored(draw, first)


@pytest.mark.parametrize(("image", "size"), [((192, 64), (192, 64)), ((140, 70), (128, 64)), ((128, 128), (128, 128))])
def test_without_a_size_the_picture_has_that_of_the_ready_map(draw, image, size) -> None:
    noise = Image.effect_noise(image, 60).point(lambda level: 255 * (level > 128)).convert("RGB")
    fields = values(
        draw, layers__0__use=True, layers__0__canvas=uploaded(noise), layers__0__source="map",
        layers__0__net="diorama/canny", layers__1__use=True, layers__1__canvas=uploaded(scene(7).image.resize(size)),
        layers__1__source="picture",
    )  # fmt: skip
    assert size_of(fields, draw.page.engine, WORDS) == size == made(draw, fields).size
    assert draw.making.map_of(fields, 1).size == size, "other controls get it, too"
    assert size_of({**fields, "layers.0.source": "picture"}, draw.page.engine, WORDS) == (128, 128)
    assert size_of({**fields, "width": 0, "height": 0}, draw.page.engine, WORDS) == size, "an empty field may say 0"
    assert size_of({**fields, "width": 64, "height": 64}, draw.page.engine, WORDS) == (64, 64)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 64}, "a width and a height"),
        ({"width": 0, "height": 64}, "a width and a height"),
        ({"width": -64, "height": 64}, "from 1"),
        ({"width": 100, "height": 64}, "multiples of 64"),
        ({"width": 512, "height": 512}, "65,536 pixels"),
        ({"width": 10**9, "height": 10**9}, "size"),
    ],
)
def test_sizes_that_cannot_be_are_told_of(draw, changes, words) -> None:
    assert LIMITS.pixels == 65_536
    with pytest.raises(MaquetteError, match=words) as told:
        draw.page.engine.submit(request_of(values(draw, layers__0__use=False, **changes), draw.page.engine, WORDS))
    assert told.value.field == "size"
