"""The studio as it is run: the documented clients, kill -9 and SIGTERM while it generates, and what it refuses."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from maquette.sampling.metadata import Record, image_hash

pytest.importorskip("fastapi")
ROOT = Path(__file__).parents[2]
BLOCKS = dict(re.findall(r"^```(py|sh)\n(.*?)^```", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE | re.DOTALL))


class Served:
    """A server in a process of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "maquette", "ui", "--port", "0", "--gallery", "kept", "--device", "cpu"]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        line = self.process.stdout.readline()
        found = re.search(r"http://[\w.:]+", line)
        assert found, line + self.process.stderr.read()
        self.address = found[0]

    def post(self, path: str, values: object = None, session: str = ""):
        headers = {"X-Maquette-Session": session} if session else {}
        body = json.dumps(values).encode()
        return urllib.request.urlopen(urllib.request.Request(self.address + path, body, headers), timeout=120)

    def get(self, path: str, session: str):
        headers = {"X-Maquette-Session": session}
        return urllib.request.urlopen(urllib.request.Request(self.address + path, headers=headers), timeout=60).read()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def events(stream):
    return (json.loads(line[6:]) for line in stream if line.startswith(b"data: "))


@pytest.fixture
def served(tmp_path):
    server = Served(tmp_path)
    yield server
    server.end()


@pytest.mark.slow
def test_the_documented_clients_get_the_same_picture(served, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "src/maquette/images/house.png", tmp_path)
    address = "http://127.0.0.1:7860"
    client, shell = (BLOCKS[kind].replace(address, served.address) for kind in ("py", "sh"))
    assert len(client.strip().splitlines()) <= 11 and served.address in shell
    exec(compile(client, "api.md", "exec"), {})
    if shutil.which("curl"):
        subprocess.run(["sh", "-ec", shell], check=True)
        first, second = (Image.open(name) for name in ("out.png", "shell.png"))
        assert first.tobytes() == second.tobytes()
    assert Record.load(Path("out.png")).controls


@pytest.mark.slow
def test_after_kill_9_the_gallery_is_whole(served, tmp_path) -> None:
    session = json.load(served.post("/api/sessions"))["session"]
    values = {"prompt": "a red house", "steps": 1, "count": 8}
    threads = [threading.Thread(target=_ignore, args=(served, values, session)) for _ in range(3)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 60
    while len(json.loads(served.get("/api/pictures", session))) < 5:
        assert time.monotonic() < until
    served.process.send_signal(signal.SIGKILL)
    served.end()
    again = Served(tmp_path)
    try:
        listed = json.loads(again.get("/api/pictures", session))
        assert len(listed) >= 5
        for entry in listed:
            content = again.get(f"/api/pictures/{entry['name']}", session)
            image = Image.open(io.BytesIO(content))
            assert Record.from_json(image.info["maquette"]).pixels == image_hash(image.convert("RGB"))
        assert json.load(again.post("/api/generate", values, session))["pictures"]
        kept = [path.name for path in (tmp_path / "kept").rglob("*") if path.is_file()]
        assert not [name for name in kept if ".maquette-" in name]
    finally:
        again.end()


def _ignore(served: Served, values: object, session: str) -> None:
    with contextlib.suppress(OSError):  # it is killed
        served.post("/api/generate", values, session).read()


@pytest.mark.slow
def test_sigterm_finishes_what_is_being_made_and_refuses_the_rest(served) -> None:
    asked = [{"prompt": "a red house", "steps": steps} for steps in (40, 39)]
    first, second = (events(served.post("/api/generate/stream", values)) for values in asked)
    assert next(event for event in first if event["kind"] == "progress")
    next(second)
    served.process.send_signal(signal.SIGTERM)
    assert [event["kind"] for event in first][-2:] == ["picture", "finished"]
    *_, end = second
    assert end["kind"] == "failed" and end["sentence"].startswith("The studio is stopping")
    assert served.process.wait(30) == 0


@pytest.mark.slow
def test_a_client_that_goes_takes_its_request_along(served) -> None:
    stream = served.post("/api/generate/stream", {"prompt": "a red house", "steps": 150, "count": 8})
    told = next(events(stream))
    stream.close()
    until = time.monotonic() + 30
    while json.load(urllib.request.urlopen(f"{served.address}/api"))["waiting"]:
        assert time.monotonic() < until, told
        time.sleep(0.1)


@pytest.mark.slow
def test_connections_that_never_ask_hold_nobody_up(served) -> None:
    host, port = served.address.removeprefix("http://").split(":")
    with contextlib.ExitStack() as held:
        for number in range(300):
            connection = held.enter_context(socket.create_connection((host, int(port))))
            connection.sendall(b"POST /api/generate HTTP/1.1\r\ncontent-length: 99\r\n" + b"\r\n{" * (number % 2))
        assert len(json.load(served.post("/api/generate", {"prompt": "", "steps": 1}))["pictures"]) == 1
        assert json.load(urllib.request.urlopen(f"{served.address}/api"))["waiting"] == 0


def test_others_are_let_in_with_a_token_alone(maquette) -> None:
    code, _, err = maquette("ui", "--host", "0.0.0.0")
    assert code == 2 and "asks for a token: --token" in err
    code, _, err = maquette("ui", "--host", "0.0.0.0", "--token", "easy")
    assert code == 2 and "at least 16" in err


def test_a_port_that_is_taken_is_told(maquette) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = maquette("ui", "--port", taken.getsockname()[1])
    assert code == 2 and "give another --port" in err


def test_without_its_packages_it_says_what_to_install(maquette, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = maquette("ui")
    assert code == 2 and "pip install 'maquette[ui]'" in err
