"""One studio for a module's tests: the bundled base, a few ControlNets, and a client behind the guard."""

import asyncio
import base64
import io
from collections.abc import Iterator

import pytest
from PIL import Image

pytest.importorskip("fastapi")

from starlette.testclient import TestClient

import maquette as mq
from maquette.studio.engine import Engine
from maquette.studio.gallery import Gallery
from maquette.studio.requests.limits import Limits
from maquette.studio.server import application, guarded

LIMITS = Limits(pixels=256 * 256, steps=40, count=4, layers=3, picture_pixels=10**6, picture_bytes=2**20,
                request_bytes=2**21, waiting=6, per_client=4)  # fmt: skip
HEADERS = {"host": "127.0.0.1:7860"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Iterator[Engine]:
    engine = Engine(device="cpu", dtype="float32", limits=LIMITS, gallery=Gallery(tmp_path_factory.mktemp("g"), LIMITS))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def closed_loops() -> Iterator[None]:
    """Each queue of gradio makes event loops and forgets them; here they are closed."""
    made, new = [], asyncio.new_event_loop
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "new_event_loop", lambda: made.append(new()) or made[-1])
        yield
    for loop in made:
        loop.close()


@pytest.fixture(scope="module")
def client(engine) -> Iterator[TestClient]:
    with TestClient(guarded(application(engine, page=False), LIMITS), headers=HEADERS) as client:
        yield client


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    """A scene of the diorama."""
    return mq.diorama.scene(7).image


@pytest.fixture(scope="session")
def packed(picture) -> str:
    return pack(picture)


def pack(image: Image.Image, kind: str = "PNG") -> str:
    stream = io.BytesIO()
    image.save(stream, kind)
    return base64.b64encode(stream.getvalue()).decode()


def unpack(text: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(text)))
    image.load()
    return image


def request(packed: str, **changes) -> dict:
    """A small request with one layer."""
    layers = [{"condition": "canny", "picture": packed}]
    return {"prompt": "a red house", "steps": 3, "seed": 3, "layers": layers, **changes}
