"""Making pictures over HTTP: streamed events, pixels, records, maps, scores, sessions."""

import base64
import io
import json
import sys
import zipfile
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from PIL import Image
from starlette.testclient import TestClient
from tests.unit.studio.conftest import HEADERS, LIMITS, pack, request, unpack

import maquette as mq
from maquette.sampling.metadata import Record
from maquette.sampling.prompts import DEFAULT_PROMPT
from maquette.studio.requests.request import Request
from maquette.studio.server import application, guarded


def events(response) -> list[dict]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]


def by_library(engine, picture, **settings) -> list[Image.Image]:
    control = mq.Control(engine.studio.net("diorama/canny"), mq.detect("canny", picture))
    return mq.generate(engine.studio.base, "a red house", [control], steps=3, batch_size=1, **settings)


@pytest.fixture
def session(client) -> dict[str, str]:
    return {"X-Maquette-Session": client.post("/api/sessions").json()["session"]}


def test_a_stream_tells_of_each_step_and_ends_with_the_library_s_pictures(client, engine, picture, packed) -> None:
    told = events(client.post("/api/generate/stream", json=request(packed, count=2)))
    kinds = list(dict.fromkeys(event["kind"] for event in told))
    assert kinds == ["job", "queued", "progress", "picture", "finished"]
    steps = [(event["step"], event["total"]) for event in told if event["kind"] == "progress"]
    assert steps == sorted(steps) and steps[-1] == (6, 6)
    previews = [event["preview"] for event in told if event.get("preview")]
    assert previews and unpack(previews[0]).size == (128, 128)
    made = [event for event in told if event["kind"] == "picture"]
    expected = by_library(engine, picture, seed=3, count=2)
    for one, other in zip(made, expected, strict=True):
        assert unpack(one["png"]).tobytes() == other.tobytes()
        assert one["fidelity"][0]["label"] == "edge F1" and 0 < one["fidelity"][0]["score"] < 1


def test_the_record_makes_it_again_here_and_on_the_command_line(client, engine, picture, packed, tmp_path) -> None:
    mask = Image.new("L", (128, 128))
    mask.paste(255, (30, 30, 90, 90))
    values = request(packed, image=packed, mask=pack(mask), strength=0.7, guidance=3, sampler="euler")
    values["layers"].append({"condition": "depth", "picture": packed, "weight": 0.6, "end": 0.5, "mask": pack(mask)})
    png = client.post("/api/generate", json=values).json()["pictures"][0]["png"]
    (tmp_path / "made.png").write_bytes(base64.b64decode(png))
    record = Record.load(tmp_path / "made.png")
    assert not record.unrecorded
    again = client.post("/api/again", content=base64.b64decode(png))
    assert again.status_code == 200, again.text
    anew = client.post("/api/generate", json=again.json()).json()["pictures"][0]["png"]
    assert unpack(anew).tobytes() == unpack(png).tobytes()
    (by_record,) = engine.studio.generate([record])
    assert by_record.tobytes() == unpack(png).tobytes()


def test_a_speed_is_the_library_s_and_its_record_names_the_parts(client, engine, picture) -> None:
    values = {"prompt": "a tree", "speed": "draft", "size": [64, 64], "reuse": 3}
    (made,) = client.post("/api/generate", json=values).json()["pictures"]
    (expected,) = mq.generate(engine.studio.base, "a tree", speed="draft", size=(64, 64), reuse=3, batch_size=1)
    assert unpack(made["png"]).tobytes() == expected.tobytes()
    again = client.post("/api/again", content=base64.b64decode(made["png"])).json()
    assert (again["steps"], again["guidance_interval"], again["reuse"]) == (6, [0, 0.5], 3) and "speed" not in again
    (anew,) = client.post("/api/generate", json=again).json()["pictures"]
    assert unpack(anew["png"]).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("field", "value"),
    [("speed", "fast"), ("reuse", 11), ("guidance_interval", [0.5, 0.2]), ("decoder", "small"), ("size", [64, 100])],
)
def test_speeds_and_sizes_that_cannot_be_are_refused(client, field, value) -> None:
    told = client.post("/api/generate", json={field: value})
    assert told.status_code == 422 and told.json()["field"] == field


@pytest.mark.parametrize(
    ("kind", "prompt"), [("none", ""), ("default", DEFAULT_PROMPT), ("automatic", None), ("user", "a red house")]
)
def test_the_four_kinds_of_prompt(client, packed, kind, prompt) -> None:
    values = request(packed, prompt="a red house" if kind == "user" else "", prompt_kind=kind, steps=1)
    (made,) = client.post("/api/generate", json=values).json()["pictures"]
    if prompt is None:
        assert len(made["prompt"]) > 10
    else:
        assert made["prompt"] == prompt


def test_notes_tell_of_what_has_no_effect(client, packed) -> None:
    values = request(packed, steps=1, guidance=1, negative_prompt="rain")
    notes = client.post("/api/generate", json=values).json()["notes"]
    assert any("egative_prompt has no effect" in note for note in notes)


def test_lists(client) -> None:
    (base,) = client.get("/api/bases").json()
    assert base["name"] == "diorama" and base["slots"] == 13 and "ddim" in base["samplers"]
    assert {"name": "diorama/canny", "condition": "canny"} in client.get("/api/nets").json()
    conditions = {entry["name"]: entry for entry in client.get("/api/conditions").json()}
    assert conditions["depth"]["detector"] == "diorama/depth" and conditions["canny"]["fidelity"] == "edge F1"
    detectors = {entry["name"]: entry for entry in client.get("/api/detectors").json()}
    assert detectors["canny"]["here"] and [one["name"] for one in detectors["canny"]["options"]][:2] == ["low", "high"]
    assert "stable-diffusion" in client.get("/api/families").json()
    assert client.get("/api").json()["limits"]["steps"] == 40


def test_detect_and_fidelity(client, picture, packed) -> None:
    options = {"low": 60, "high": 120}
    told = client.post("/api/detect", json={"detector": "canny", "picture": packed, "options": options}).json()
    assert unpack(told["png"]).tobytes() == mq.detect("canny", picture, **options).tobytes()
    values = {"condition": "canny", "picture": packed, "map": told["png"], "options": options}
    assert client.post("/api/fidelity", json=values).json()["score"] == 1
    assert len(client.post("/api/detect", json={"detector": "caption", "picture": packed}).json()["text"]) > 5


def test_only_so_many_wait_for_a_detector(client, engine, packed) -> None:
    with ExitStack() as held:
        for _ in range(LIMITS.detecting):
            held.enter_context(engine.detectors.room())
        told = client.post("/api/detect", json={"detector": "canny", "picture": packed})
    assert told.status_code == 429 and int(told.headers["retry-after"]) > 0 and "try again" in told.json()["error"]


def test_openapi_names_every_field(client) -> None:
    schema = client.get("/api/openapi.json").json()
    body = schema["paths"]["/api/generate"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == set(Request.__dataclass_fields__)
    page = client.get("/api/docs")
    assert "/api/generate/stream" in page.text and "<script" not in page.text


def test_a_session_keeps_lists_zips_and_deletes(client, session, packed) -> None:
    file = client.post("/api/uploads", content=base64.b64decode(packed), headers=session).json()["file"]
    values = request({"file": file}, count=2, steps=1)
    made = client.post("/api/generate", json=values, headers=session).json()["pictures"]
    listed = client.get("/api/pictures", headers=session).json()
    assert sorted(entry["name"] for entry in listed) == sorted(one["name"] for one in made)
    stored = client.get(f"/api/pictures/{made[0]['name']}", headers=session).content
    assert Image.open(io.BytesIO(stored)).tobytes() == unpack(made[0]["png"]).tobytes()
    names = [one["name"] for one in made]
    archive = client.post("/api/pictures/zip", json={"names": names}, headers=session).content
    assert sorted(zipfile.ZipFile(io.BytesIO(archive)).namelist()) == sorted(names)
    assert client.delete(f"/api/pictures/{names[0]}", headers=session).json() == {"deleted": names[0]}
    assert [entry["name"] for entry in client.get("/api/pictures", headers=session).json()] == [names[1]]
    client.delete("/api/session", headers=session)
    assert "no upload" in client.post("/api/generate", json=values, headers=session).json()["error"]
    assert client.get(f"/api/pictures/{names[1]}", headers=session).status_code == 200


def test_two_sessions_do_not_see_each_other(client, session, packed) -> None:
    other = {"X-Maquette-Session": client.post("/api/sessions").json()["session"]}
    file = client.post("/api/uploads", content=base64.b64decode(packed), headers=session).json()["file"]
    (made,) = client.post("/api/generate", json=request(packed, steps=1), headers=session).json()["pictures"]
    assert client.get("/api/pictures", headers=other).json() == []
    for path in (f"/api/pictures/{made['name']}",):
        assert client.get(path, headers=other).status_code == 404
        assert client.delete(path, headers=other).status_code == 404
    zipped = client.post("/api/pictures/zip", json={"names": [made["name"]]}, headers=other)
    assert zipped.status_code == 404
    for name in (file, made["name"]):
        told = client.post("/api/generate", json=request({"file": name}), headers=other)
        assert told.status_code == 404 and "in this session" in told.json()["error"]
        assert told.json()["field"] == "layers.0.picture"
    assert client.get("/api/pictures", headers=session).json()[0]["name"] == made["name"]


def test_a_page_that_cannot_be_served_leaves_the_api(engine, monkeypatch) -> None:
    def served() -> TestClient:
        return TestClient(guarded(application(engine), LIMITS), headers=HEADERS)

    monkeypatch.setitem(sys.modules, "gradio", None)  # as if it were not installed
    for name in [name for name in sys.modules if name.startswith("maquette.studio.page")]:
        monkeypatch.delitem(sys.modules, name)
    with served() as client:
        told = client.get("/")
        assert told.status_code == 503 and "pip install 'maquette[ui]'" in told.text
        assert client.get("/api/bases").status_code == 200

    def broken(*_: object) -> None:
        raise RuntimeError("secret details")

    monkeypatch.setitem(sys.modules, "maquette.studio.page", SimpleNamespace(mount=broken))
    with served() as client:
        told = client.get("/")
        assert told.status_code == 503 and "RuntimeError" in told.text and "secret" not in told.text
        assert client.post("/api/generate", json={"prompt": "", "steps": 1}).status_code == 200
