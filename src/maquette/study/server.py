"""The pages of a study over HTTP: a link for each rater, no accounts, and nothing that tells a method.

| path | answer |
| --- | --- |
| /rate/TOKEN | the page, the same for all |
| /rate/TOKEN/pages | the next question and the one after it, as JSON |
| /rate/TOKEN/answer | takes an answer (POST) and confirms it once it is on disk |
| /image/ADDRESS.png | an image, under its random address |
| /study.css, /study.js | parts of the page |

Images are told to be stored nowhere, and carry neither date nor tag, so no cache can compare them.
"""

import html
import json
import socket
import sqlite3
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from maquette.errors import MaquetteError
from maquette.foundation.reading.documents import parse_json
from maquette.study.store import Store

PAGES = Path(__file__).parent / "pages"
STATIC = {"study.css": "text/css; charset=utf-8", "study.js": "text/javascript; charset=utf-8"}
HTML, JSON, PNG = "text/html; charset=utf-8", "application/json", "image/png"
LONGEST = 10_000  # bytes of an answer
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}


class StudyServer(ThreadingHTTPServer):
    """Serves a study until it is closed. Whatever ends it, confirmed answers stay."""

    daemon_threads = True
    request_queue_size = 256  # the default of 5 turns raters away who come at once

    def __init__(self, store: Store, host: str = "127.0.0.1", port: int = 8000) -> None:
        """Raises `MaquetteError` for an address that cannot be served."""
        self.store = store
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise MaquetteError(
                f"Nothing can be served at {host}:{port} ({error}); give another --port, or --host."
            ) from error

    @property
    def address(self) -> str:
        """Where raters find it: on this machine, or in its network if it serves all of that."""
        host, port = str(self.server_address[0]), self.server_address[1]
        return f"http://{_own_address() if host == '0.0.0.0' else host}:{port}"


def _own_address() -> str:
    """This machine's address in its network. Connecting a datagram socket chooses it and sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documentation
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


class _Handler(BaseHTTPRequestHandler):
    server: StudyServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "maquette", ""
    timeout = 60
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        try:
            self._get(self.path.partition("?")[0].strip("/").split("/"))
        except MaquetteError as error:
            self._notice(HTTPStatus.NOT_FOUND, str(error))
        except sqlite3.Error:
            self._json(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "The study cannot be read just now."})

    def _get(self, parts: list[str]) -> None:
        store = self.server.store
        match parts:
            case ["rate", token]:
                store.pages(token)  # an unknown link is told at once
                self._send(HTTPStatus.OK, HTML, (PAGES / "page.html").read_bytes())
            case ["rate", token, "pages"]:
                self._json(HTTPStatus.OK, {"pages": store.pages(token)})
            case ["image", name] if (path := store.image(name.removesuffix(".png"))) and name.endswith(".png"):
                self._send(HTTPStatus.OK, PNG, path.read_bytes())
            case [name] if name in STATIC:
                self._send(HTTPStatus.OK, STATIC[name], (PAGES / name).read_bytes())
            case _:
                raise MaquetteError("There is nothing at this address; open the link that you were given.")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LONGEST:
            self.close_connection = True  # its body is not read
            self._json(HTTPStatus.BAD_REQUEST, {"error": f"An answer has a length of at most {LONGEST} bytes."})
            return
        body = self.rfile.read(int(length))
        match self.path.strip("/").split("/"):
            case ["rate", token, "answer"]:
                self._json(*self._answered(token, body))
            case _:
                self._json(HTTPStatus.NOT_FOUND, {"error": "Answers go to /rate/TOKEN/answer."})

    def _answered(self, token: str, body: bytes) -> tuple[HTTPStatus, dict[str, Any]]:
        """Store an answer, then say so, with the next questions."""
        store = self.server.store
        try:
            given = parse_json(body)
            store.answer(token, given["place"], given["value"])
            return HTTPStatus.OK, {"stored": given["place"], "pages": store.pages(token)}
        except MaquetteError as error:
            return HTTPStatus.CONFLICT, {"error": str(error)}
        except (ValueError, KeyError, TypeError):
            return HTTPStatus.BAD_REQUEST, {"error": 'An answer is JSON of the form {"place": 0, "value": [1, 0, 2]}.'}
        except sqlite3.Error as error:
            return HTTPStatus.SERVICE_UNAVAILABLE, {"error": f"The answer could not be stored ({error})."}

    def _json(self, status: HTTPStatus, values: dict[str, Any]) -> None:
        self._send(status, JSON, json.dumps(values).encode())

    def _notice(self, status: HTTPStatus, sentence: str) -> None:
        page = (PAGES / "notice.html").read_text("utf-8").replace("SENTENCE", html.escape(sentence))
        self._send(status, HTML, page.encode())

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **HEADERS}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Write nothing: a log of requests would tell when who rated."""
