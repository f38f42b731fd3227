"""Raters at once while the server is killed and started anew: what was confirmed is there, and nothing twice."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.unit.study.conftest import Client, paint

from maquette.study.design import Ranking
from maquette.study.make import make
from maquette.study.store import Store


class Killed:
    """`maquette study serve`, in a process that may be killed at any time."""

    def __init__(self, study: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.command = [sys.executable, "-m", "maquette", "study", "serve", study, "--port", str(self.port)]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if line.startswith("Send each rater"):
                return
        raise AssertionError("it has not started")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


def rate(port: int, token: str, confirmed: dict[tuple[str, int], list[int]]) -> None:
    """Answer everything, and again whatever got no confirmation, as the page does."""
    number = 0
    while True:
        client = Client(("127.0.0.1", port), token)
        try:
            while pages := client.pages():
                place, count = pages[0]["place"], len(pages[0]["images"])
                value = [(place + number + shift) % count for shift in range(count)]
                status, said = client.answer(place, value)
                if status == 200:
                    assert said["stored"] == place
                    confirmed[token, place] = value
                number += 1
            return
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            time.sleep(0.05)
        finally:
            client.connection.close()


@pytest.mark.parametrize(
    ("raters", "answers", "kills"), [(8, 96, 1), pytest.param(64, 2048, 5, marks=pytest.mark.slow)]
)
def test_confirmed_answers_survive_kills(tmp_path, raters: int, answers: int, kills: int) -> None:
    names = [f"{number}" for number in range(answers // raters)]
    methods = {str(seed): paint(tmp_path / str(seed), names, seed, (4, 4)) for seed in (1, 2, 3)}
    store = make(tmp_path / "study", methods, Ranking(), raters=raters)
    tokens = [rater.token for rater in store.raters()]
    store.close()
    server, confirmed = Killed(tmp_path / "study"), {}
    threads = [threading.Thread(target=rate, args=(server.port, token, confirmed)) for token in tokens]
    for thread in threads:
        thread.start()
    for number in range(kills):
        while len(confirmed) < answers * (number + 1) / (kills + 2):
            time.sleep(0.001)
        server.kill()
        assert len(confirmed) < answers, "killed while raters were answering"
        server.start()
    for thread in threads:
        thread.join()
    server.kill()
    stored = Store(tmp_path / "study")
    by_name = {rater.name: rater.token for rater in stored.raters()}
    found = {(by_name[one.rater], one.place): one.value for one in stored.answers()}
    assert len(confirmed) >= answers - kills * raters  # an answer whose confirmation was lost is found stored
    assert all(found[key] == value for key, value in confirmed.items())
    assert len(found) == len(stored.answers()) == answers
    assert stored._all("pragma integrity_check") == [("ok",)]
