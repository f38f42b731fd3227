"""Methods that differ by one colour, folders of their images, and raters over HTTP."""

import http.client
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from maquette.study.design import Ranking
from maquette.study.make import make
from maquette.study.server import StudyServer
from maquette.study.store import Store

METHODS = ("ours", "sgd", "piti")


def paint(folder: Path, names: list[str], seed: int, size: tuple[int, int] = (40, 24), ending: str = "png") -> Path:
    """Images of noise around a level of the method's own, with metadata that names it."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for name in names:
        pixels = random.integers(0, 40 + 60 * seed, (size[1], size[0], 3), np.uint8)
        info = PngImagePlugin.PngInfo()
        info.add_text("maquette", json.dumps({"method": folder.name}))
        Image.fromarray(pixels).save(folder / f"{name}.{ending}", pnginfo=info, icc_profile=folder.name.encode())
    return folder


@pytest.fixture
def folders(tmp_path) -> dict[str, Path]:
    """Images of three methods; `sketches` beside them has what they were made from."""
    names = [f"scene-{number}" for number in range(4)]
    paint(tmp_path / "sketches", names, 0)
    return {name: paint(tmp_path / name, names, seed) for seed, name in enumerate(METHODS, 1)}


@pytest.fixture
def ranking(folders, tmp_path) -> Store:
    return make(tmp_path / "study", folders, Ranking(), conditions=tmp_path / "sketches", raters=4, seed=5)


@pytest.fixture
def served():
    """Serve a study in a thread."""
    servers = []

    def serve(store: Store) -> StudyServer:
        servers.append(StudyServer(store, port=0))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return servers[-1]

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def link(served):
    """Serve a study, and open the link of one of its raters."""
    clients = []

    def opened(store: Store, rater: int = 0) -> "Client":
        clients.append(Client(served(store).server_address, store.raters()[rater].token))
        return clients[-1]

    yield opened
    for client in clients:
        client.connection.close()


class Client:
    """A rater without a browser."""

    def __init__(self, server_address: tuple[Any, ...], token: str) -> None:
        self.connection = http.client.HTTPConnection(*server_address[:2], timeout=10)
        self.home = f"/rate/{token}"

    def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()

    def pages(self) -> list[dict[str, Any]]:
        return json.loads(self.get(f"{self.home}/pages")[2])["pages"]

    def post(self, body: bytes, path: str = "") -> tuple[int, dict[str, Any]]:
        self.connection.request("POST", path or f"{self.home}/answer", body)
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())

    def answer(self, place: int, value: object) -> tuple[int, dict[str, Any]]:
        return self.post(json.dumps({"place": place, "value": value}).encode())
