"""Requests that mean harm or nonsense: each is answered with a sentence, before anything is decoded or made."""

import base64
import io
import json
import struct
import tracemalloc
import zlib

import pytest
from PIL import Image, ImageFile, PngImagePlugin
from tests.unit.studio.conftest import LIMITS, pack, request

from maquette.sampling.metadata import KEY


def bomb(side: int = 9000) -> str:
    """A PNG of a few kilobytes whose header, truly, states more pixels than a request may give."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(side * (side // 8 + 1)), 9)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return base64.b64encode(png).decode()


def with_record(record: object) -> bytes:
    """A PNG whose record is this value."""
    information, stream = PngImagePlugin.PngInfo(), io.BytesIO()
    information.add_text(KEY, json.dumps(record))
    Image.new("RGB", (8, 8)).save(stream, "PNG", pnginfo=information)
    return stream.getvalue()


SMALL = pack(Image.new("RGB", (8, 8)))
SVG = base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>").decode()
PICKLE = base64.b64encode(b"\x80\x04cos\nsystem\n(S'true'\ntR.").decode()


def layer(**changes) -> dict:
    return {"layers": [{"condition": "canny", "picture": SMALL, **changes}]}


BAD = {
    "a bomb to detect in": (layer(picture=bomb()), "layers.0.picture", "pixels"),
    "a bomb as start image": ({"image": bomb()}, "image", "pixels"),
    "a bomb as mask": ({"image": SMALL, "mask": bomb()}, "mask", "pixels"),
    "a bomb as region": (layer(mask=bomb()), "layers.0.mask", "pixels"),
    "SVG as a picture": (layer(picture=SVG), "layers.0.picture", "not an image"),
    "a pickle as a picture": (layer(picture=PICKLE), "layers.0.picture", "not an image"),
    "a path as a picture": (layer(picture="/etc/passwd"), "layers.0.picture", "base64"),
    "a path as a file": (layer(picture={"file": "../../../etc/passwd"}), "layers.0.picture", "not dict"),
    "too many bytes": (layer(picture="A" * (LIMITS.picture_bytes * 3 // 2)), "layers.0.picture", "most here"),
    "a ControlNet by path": (layer(net="/tmp/evil.pth"), "layers.0.net", "There is no ControlNet"),
    "a base by path": ({"base": "/tmp/evil.ckpt"}, "base", "There is no base"),
    "an unknown detector": (layer(condition="<script>"), "layers.0.condition", "There is no ControlNet for"),
    "options of another": (layer(options={"weights": "/tmp/evil.pth"}), "layers.0.options", "no option"),
    "a huge size": ({"size": [65536, 65536]}, "size", "pixels"),
    "a size beyond the limit": ({"size": [4096, 4096]}, "size", "65,536 pixels"),
    "a negative size": ({"size": [-64, 64]}, "size", "from 1 to"),
    "an odd size": ({"size": [100, 100]}, "size", "multiples of 64"),
    "many steps": ({"steps": 1000}, "steps", "40 steps"),
    "no steps": ({"steps": 0}, "steps", "from 1"),
    "a million pictures": ({"count": 10**6}, "count", "4 pictures"),
    "a number without end": ({"count": 10**400}, "count", "whole number"),
    "many layers": ({"layers": layer()["layers"] * 100}, "layers", "3 layers"),
    "many weights": (layer(weight=[1.0] * 999), "layers.0.weight", "13 slots"),
    "a negative weight": (layer(weight=-1), "layers.0.weight", "weight"),
    "an end before the start": (layer(start=0.8, end=0.2), "layers.0.end", "start"),
    "a text for a number": ({"guidance": "9; DROP TABLE"}, "guidance", "is a number"),
    "a long prompt": ({"prompt": "<img src=x onerror=alert(1)>" * 10_000}, "prompt", "characters"),
    "half an emoji": ({"prompt": "\ud83d"}, None, "emoji"),
    "a mask alone": ({"mask": SMALL}, "mask", "image"),
    "an unknown field": ({"__class__": "Exploit"}, "__class__", "no field"),
    "a layer that is no object": ({"layers": [["canny"]]}, "layers.0", "object"),
    "a seed too large": ({"seed": 2**63, "count": 2}, "seed", "seed"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", BAD)
def test_a_sentence_and_nothing_decoded(client, engine, monkeypatch, name) -> None:
    values, field, words = BAD[name]
    decoded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded.append)
    waiting, body = engine.waiting()[0], json.dumps({"prompt": "", **values})
    tracemalloc.start()
    answer = client.post("/api/generate", content=body)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    told = answer.json()
    assert 400 <= answer.status_code < 500 and words in told["error"] and told["field"] == field, told
    assert len(told["error"]) < 700 and "Traceback" not in told["error"]
    assert not decoded and most < 12 * len(body) + 2**21 and engine.waiting()[0] == waiting


def test_not_a_number_and_no_json(client) -> None:
    for body in (b'{"guidance": NaN}', b'{"guidance": Infinity}', b"[" * 10**5, b"\xff\xfe", b'{"a": ', b"null"):
        answer = client.post("/api/generate", content=body)
        assert answer.status_code == 422 and len(answer.json()["error"]) < 400, body[:20]


def test_huge_bodies_are_refused_before_they_are_read(client) -> None:
    def endless():  # without a length
        for _ in range(2 * LIMITS.request_bytes // 2**16):
            yield b"x" * 2**16

    told = client.post("/api/generate", content=b"x", headers={"content-length": str(10**9)})
    assert told.status_code == 413 and "bytes at most" in told.json()["error"]
    assert client.post("/api/generate", content=endless()).status_code == 413


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_records_that_lie(client) -> None:
    settings = {"seed": 0, "count": 1, "size": [128, 128]}
    record = {"base": "diorama", "prompt": "", "dtype": "float32", "settings": settings}
    pickled = {**record, "controls": [{"controlnet": "/tmp/evil.pth", "map": SMALL}]}
    for value, words in (
        (pickled, "not offered here"),
        ({**record, "controls": [{"controlnet": "diorama/canny", "map": bomb()}]}, "pixels"),
        ({**record, "image": bomb()}, "pixels"),
        ({**record, "loras": [{"file": "/etc/passwd", "weight": 1.0}]}, "LoRA"),
        ({**record, "settings": {**settings, "callback": "os.system"}}, "callback"),
        ("no record", "record"),
        ([], "as it was written"),
    ):
        answer = client.post("/api/again", content=with_record(value))
        assert answer.status_code == 422 and words in answer.json()["error"], answer.json()
    assert client.post("/api/again", content=base64.b64decode(SMALL)).status_code == 422
    again = client.post("/api/again", content=with_record({**record, "base": "/tmp/evil.ckpt"})).json()
    assert client.post("/api/generate", json=again).json()["field"] == "base"


@pytest.mark.parametrize(
    "name",
    [
        "../../../../etc/passwd", "..%2f..%2f.secret", "%00.png", "CON", "a" * 5000, ".secret", "x.svg",
        "20260101-000000-1-00000000.png", "<script>.png",
    ],
)  # fmt: skip
def test_names_stay_inside(client, name) -> None:
    headers = {"X-Maquette-Session": client.post("/api/sessions").json()["session"]}
    for method in (client.get, client.delete):
        assert method(f"/api/pictures/{name}", headers=headers).status_code in (404, 405)
    told = client.post("/api/pictures/zip", json={"names": [name]}, headers=headers)
    assert told.status_code == 404 and len(told.json()["error"]) < 300
    told = client.post("/api/generate", json=layer(picture={"file": name}), headers=headers)
    assert told.status_code == 404 and "in this session" in told.json()["error"]


@pytest.mark.parametrize("key", ["", "a", "../..", "A" * 32, "A" * 32 + "." + "0" * 32, "ä" * 10])
def test_keys_cannot_be_made_up(client, key) -> None:
    told = client.get("/api/pictures", headers={"X-Maquette-Session": key.encode("latin-1")})
    assert told.status_code == 404 and "session" in told.json()["error"]


@pytest.mark.parametrize("content", [b"<svg/>", b"<html><script>alert(1)</script>", b"", base64.b64decode(PICKLE)])
def test_only_images_are_uploaded(client, content) -> None:
    headers = {"X-Maquette-Session": client.post("/api/sessions").json()["session"]}
    told = client.post("/api/uploads", content=content, headers=headers)
    assert told.status_code == 422 and "not an image" in told.json()["error"]


def test_html_in_prompts_comes_back_as_text(client) -> None:
    text = "<script>alert(1)</script>"
    answer = client.post("/api/generate", json=request(SMALL, prompt=text, steps=1, layers=[]))
    assert answer.headers["content-type"] == "application/json" and answer.json()["pictures"][0]["prompt"] == text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_web_ui_s_addresses_take_no_path_and_no_pickle(client) -> None:
    for unit, words in (
        ({"model": "/tmp/evil.pth", "image": SMALL}, "no model"),
        ({"model": "diorama/canny", "module": "canny", "image": "/etc/passwd"}, "base64"),
        ({"model": "diorama/canny", "module": "canny", "image": bomb()}, "pixels"),
        ({"model": "diorama/canny", "module": "../../x", "image": SMALL}, "no detector"),
    ):
        values = {"width": 128, "height": 128, "alwayson_scripts": {"controlnet": {"args": [unit]}}}
        told = client.post("/sdapi/v1/txt2img", json=values)
        assert told.status_code == 422 and words in told.json()["detail"], told.json()
    for values in ({"width": 10**9, "height": 1}, {"batch_size": 10**9}, {"alwayson_scripts": "x"}, [1]):
        assert client.post("/sdapi/v1/txt2img", json=values).status_code == 422
    values = {"controlnet_module": "canny", "controlnet_input_images": [SMALL], "controlnet_threshold_a": 10**400}
    assert client.post("/controlnet/detect", json=values).status_code == 200
