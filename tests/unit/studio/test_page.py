"""The studio's page without a browser: its words, its canvases, and that it makes what the library makes."""

import re

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from tests.unit.studio.conftest import HEADERS, LIMITS

import maquette as mq
from maquette.diorama.constants import CONDITIONS
from maquette.errors import MaquetteError
from maquette.foundation.reading.documents import read_json
from maquette.studio import learning
from maquette.studio.http.again import read_record, request_values
from maquette.studio.pictures import png_of
from maquette.studio.requests.request import Request
from maquette.studio.server import application, guarded

pytest.importorskip("gradio")

import gradio as gr
from tests.unit.studio.on_page import WORDS, made, opened, restored, strokes, values

from maquette.studio.page import build
from maquette.studio.page.canvas import SIDE, editor_of, enlarged, looks_like_map, painted, reduced
from maquette.studio.page.draw import Draw
from maquette.studio.page.form import LAYERS, request_of
from maquette.studio.page.keep import Keep
from maquette.studio.page.learn import Learn
from maquette.studio.page.making import place_scene
from maquette.studio.page.strings import FOLDER, LANGUAGES, language_of

pytestmark = pytest.mark.usefixtures("closed_loops")


@pytest.fixture(scope="module")
def draw(engine) -> Draw:
    return opened(engine)


def keep_of(draw) -> Keep:
    with gr.Blocks(analytics_enabled=False), gr.Tabs() as tabs, gr.Tab("draw", id="draw"):
        return Keep(opened(draw.page.engine), tabs)


def test_every_language_has_every_word_with_the_same_gaps() -> None:
    tables = {language: read_json(FOLDER / f"{language}.json") for language in LANGUAGES}
    gaps = [{key: len(re.findall(r"{.*?}", text)) for key, text in table.items()} for table in tables.values()]
    assert gaps[0] == gaps[1] == gaps[2] and {path.stem for path in FOLDER.glob("*.json")} == set(LANGUAGES)


@pytest.mark.parametrize(
    ("accepted", "language"),
    [("", "en"), ("fr, ja;q=0.5, zh;q=0.8", "zh"), ("ja-JP,ja;q=0.9,en;q=0.8", "ja"), ("x;q=a, de", "en")],
)
def test_the_browser_chooses_the_language(accepted, language) -> None:
    assert language_of(accepted) == language


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_builds(engine, language) -> None:
    assert isinstance(build(engine, language), gr.Blocks)


def test_it_builds_on_a_base_without_controlnets(engine, monkeypatch) -> None:
    monkeypatch.setattr(engine, "nets", {})
    assert isinstance(build(engine), gr.Blocks)


def test_an_unknown_language_is_refused(engine) -> None:
    with pytest.raises(MaquetteError, match="en, ja, zh"):
        build(engine, "xx")


def test_strokes_make_the_picture_that_the_library_makes(draw) -> None:
    fields = values(draw, layers__0__canvas=strokes(), prompt="a red house", seed=5)
    base = mq.load_base("diorama", device="cpu")
    net = mq.load_controlnet("diorama/scribble", base)
    lines = strokes()["layers"][0].getchannel("A").convert("RGB")
    map_ = draw.making.map_of(fields, 0)
    (expected,) = mq.generate(base, "a red house", mq.Control(net, map_), steps=3, seed=5)
    assert np.array_equal(made(draw, fields), expected)
    shrunk = np.asarray(lines).reshape(128, 4, 128, 4, 3).max((1, 3)) > 0
    assert (np.asarray(map_) > 0)[~shrunk].sum() == 0 and (np.asarray(map_) > 0).sum() > shrunk.sum() / 4


@pytest.mark.parametrize("condition", ["canny", "depth"])
def test_the_map_that_is_shown_is_the_one_that_the_model_is_given(draw, picture, condition) -> None:
    fields = values(
        draw, layers__0__canvas=editor_of(picture), layers__0__source="picture", layers__0__net=f"diorama/{condition}"
    )
    record = read_record(png_of(made(draw, fields)), draw.page.engine.limits)
    given = Request.read(request_values(record, draw.page.engine.nets)).layers[0].picture.image()
    assert np.array_equal(draw.making.map_of(fields, 0), given)


def test_a_restored_picture_is_made_again(draw, picture) -> None:
    mask = Image.new("L", (128, 128))
    mask.paste(100, (10, 20, 90, 100))
    fields = values(
        draw, prompt="a tree", negative_prompt="night", seed=9, strength=0.7, image=editor_of(picture, mask),
        layers__0__canvas=editor_of(picture), layers__0__source="picture", layers__0__net="diorama/canny",
        layers__0__balance="prompt", layers__0__end=0.8, layers__0__region=editor_of(picture, mask),
        layers__1__use=True, layers__1__canvas=strokes(), layers__1__weight=0.5,
    )  # fmt: skip
    first = made(draw, fields)
    again = restored(draw, first)
    assert np.array_equal(made(draw, again), first)
    plain = [name for name in fields if isinstance(fields[name], int | float | str) and not name.endswith("source")]
    assert {name: again[name] for name in plain} == {name: fields[name] for name in plain}
    assert again["layers.0.use"] and again["layers.1.use"] and not again["layers.2.use"]


def test_whole_factors_lose_nothing(picture) -> None:
    assert np.array_equal(reduced(enlarged(picture), (192, 128), 64), picture), "also where another size is expected"
    assert np.array_equal(reduced(enlarged(picture), picture.size, 64), picture)
    photo = Image.effect_noise((SIDE, SIDE), 50).convert("RGB")
    assert reduced(photo, picture.size, 64) is photo, "a photograph keeps its own pixels"


def test_a_mask_is_painted_by_its_opacity(picture) -> None:
    mask = Image.linear_gradient("L").resize(picture.size)
    assert np.array_equal(reduced(painted(editor_of(picture, mask)), picture.size, 64), mask)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_maps_and_pictures_are_told_apart(engine, condition) -> None:
    for seed in (3, 7, 11):
        picture = mq.diorama.scene(seed).image
        assert looks_like_map(engine.detectors.detect(condition, picture), condition)
        assert not looks_like_map(picture, condition)


def test_a_picture_where_a_map_belongs_is_noticed_and_the_reverse(draw, engine, picture) -> None:
    edges = engine.detectors.detect("canny", picture)
    for image, source, key in ((picture, "map", "is_photo"), (edges, "picture", "is_map"), (edges, "map", None)):
        fields = values(
            draw, layers__0__canvas=editor_of(image), layers__0__source=source, layers__0__net="diorama/canny"
        )
        assert draw.making.look(fields, 0)[1] == (WORDS(key) if key else "")


@pytest.mark.parametrize("source", ["drawing", "picture", "map"])
def test_an_empty_canvas_is_told_of_beside_it(draw, source) -> None:
    with pytest.raises(MaquetteError) as error:
        request_of(values(draw, layers__0__source=source), draw.page.engine, WORDS)
    assert draw.page.place_of(error.value.field) == "layers.0"


def test_errors_have_a_place(draw) -> None:
    assert [draw.page.place_of(name) for name in ("layers.2.weight", "mask", "steps", None)] == [
        "layers.2",
        "image",
        "",
        "",
    ]
    assert set(draw.page.errors) == {"", "image", *(f"layers.{number}" for number in range(LAYERS))}


def test_an_error_of_the_second_control_stands_beside_it(draw, engine) -> None:
    """Also where the first is off, so that the request's first layer is the page's second."""
    second = {"layers__0__use": False, "layers__1__use": True, "layers__1__canvas": strokes()}
    with pytest.raises(MaquetteError, match="slots") as told:
        list(draw.making.generate(values(draw, **second, layers__1__slots="1, 2, 3"), ""))
    assert draw.page.place_of(told.value.field) == "layers.1"
    engine.nets["broken"] = "scribble"
    try:
        with pytest.raises(MaquetteError, match="broken") as told:
            list(draw.making.generate(values(draw, **second, layers__1__net="broken"), ""))
    finally:
        del engine.nets["broken"]
    assert draw.page.place_of(told.value.field) == "layers.1"


def test_stop_stops_all_of_a_visitor_and_nobody_else(draw) -> None:
    fields = {**values(draw, layers__0__use=False), "steps": 40}
    running = [draw.making.generate(fields, key) for key in ("mine", "mine", "another's")]
    for one in running:
        next(one)
    draw.making.stop("mine")
    ends = [[sentence for sentence, *_ in one][-1] for one in running]
    assert ends == [WORDS("stopped"), WORDS("stopped"), WORDS("done")]
    assert not draw.making._jobs, "nothing of them is kept"


def test_chosen_pictures_are_deleted(draw) -> None:
    keep, session = keep_of(draw), draw.page.engine.gallery.create()
    list(draw.making.generate(values(draw, layers__0__use=False, count=3), session.key))
    first, second, third = (entry.name for entry in session.pictures())
    pictures, choice, said = keep._delete(session.key, [first, third])
    assert [entry.name for entry in session.pictures()] == [second] and said == ""
    assert len(pictures) == 1 and choice["choices"] == [second]
    assert "Choose" in keep._delete(session.key, [])[2]
    assert "There is no picture" in keep._delete(session.key, [first])[2]


def test_generate_tells_of_steps_and_stop_stops(draw) -> None:
    fields = values(draw, layers__0__canvas=strokes(), steps=40)
    key = draw.page.engine.gallery.create().key
    told = []
    for sentence, _, preview in draw.making.generate(fields, key):
        told.append(sentence)
        if preview is not None:
            draw.making.stop(key)
    assert told[-1] == WORDS("stopped") and any("of 40" in one for one in told)


def test_scenes_are_placed_by_number(draw) -> None:
    canvas, caption = place_scene(7)
    assert np.array_equal(reduced(canvas["background"], (128, 128), 64), mq.diorama.scene(7).image) and caption
    with pytest.raises(MaquetteError, match="0 or more"):
        place_scene(-1)


def test_panels_show_pictures_as_they_come_with_words(engine, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(learning, "STEPS", 1)
    panels = learning.Panels(engine)
    with gr.Blocks(analytics_enabled=False):
        learn = Learn(panels, WORDS)
    told = list(learn.shower(panels.beginnings)("canny", 7, 3))
    assert [len(pictures) for pictures, _ in told] == [1, 2, 3]
    assert told[-1][0][1][1].startswith("with zero convolutions · follows the map: 0.")
    ((pictures, sentence),) = learn.shower(panels.jump)("canny", 7, 3)
    assert not pictures and "has kept ControlNets on its way" in sentence
    ((_, sentence),) = learn.shower(panels.strengths)("canny", -1, 3)
    assert "0 or more" in sentence


def test_a_callback_that_fails_leaves_the_page_and_the_api(engine) -> None:
    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.Button().click(lambda: 1 / 0, None, gr.Number(), api_name="fail")
        gr.Button().click(lambda: 7, None, gr.Number(), api_name="work")
    app = gr.mount_gradio_app(application(engine, page=False), blocks, "/en", ssr_mode=False)
    with TestClient(guarded(app, LIMITS), headers=HEADERS) as client:
        for name, words in (("fail", "event: error"), ("work", "[7]")):
            event = client.post(f"/en/gradio_api/call/{name}", json={"data": []}).json()["event_id"]
            assert words in client.get(f"/en/gradio_api/call/{name}/{event}").text
            assert client.get("/api/bases").status_code == 200
