"""Serves the studio: its page, its API and the web UI's addresses, to this machine alone unless told otherwise.

The page is `maquette.studio.page`, whose `mount(app, engine)` adds it to the application at /.
"""

import html
import importlib
import ipaddress
import logging
import secrets
import socket
import threading
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, PlainTextResponse

from maquette.errors import MaquetteError
from maquette.foundation.memory import share_arenas
from maquette.studio.engine import Engine
from maquette.studio.gallery import Gallery
from maquette.studio.http import api, webui
from maquette.studio.http.guard import ANY_HOST, Guard
from maquette.studio.http.wire import add_errors
from maquette.studio.requests.limits import Limits
from maquette.studio.trainings.run import Trainings

PAGE = "maquette.studio.page"
LOCAL = ("localhost", "127.0.0.1", "::1")
_log = logging.getLogger(__name__)
LINGERING = 5  # seconds for connections that stay open after the last picture


def application(
    engine: Engine, *, page: bool = True, language: str | None = None, trainings: Trainings | None = None
) -> FastAPI:
    """The studio's application, without the guard.

    Args:
        page: whether it has the page, which nothing else depends on.
        language: of the page; None for the browser's.
        trainings: that the page starts and shows; None for none.
    """
    app = FastAPI(
        title="maquette", version=version("maquette"), docs_url=None, redoc_url=None, openapi_url="/api/openapi.json"
    )
    add_errors(app)
    app.include_router(api.router(engine))
    app.include_router(webui.router(engine))

    @app.get("/api/docs", response_class=HTMLResponse, include_in_schema=False)
    def docs() -> str:
        return overview(app.openapi())

    if page:
        try:
            importlib.import_module(PAGE).mount(app, engine, language, trainings)
        except Exception as error:
            _without_page(app, error)
    return app


def _without_page(app: FastAPI, error: Exception) -> None:
    """Say at / why there is no page; the API goes on without it."""
    _log.error("The page cannot be served; the API is.", exc_info=error)
    missing = error.name if isinstance(error, ImportError) else None
    why = f"it needs {missing}: pip install 'maquette[ui]'" if missing else f"{type(error).__name__}, see the log"

    @app.get("/", response_class=PlainTextResponse, status_code=503, include_in_schema=False)
    def enter() -> str:
        return f"The page cannot be served ({why}); the API can: /api/docs."


def guarded(app: FastAPI, limits: Limits, hosts: Iterable[str] = LOCAL, token: str | None = None) -> Guard:
    """The application behind its guard."""
    return Guard(app, token, hosts, limits.request_bytes)


class Server(uvicorn.Server):
    """Stops in order: what is being made is finished and told, all else is refused with a sentence, then it closes."""

    def __init__(self, config: uvicorn.Config, engine: Engine) -> None:
        super().__init__(config)
        self._engine, self._stopping = engine, False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On the first signal finish; on the second stop at once."""
        if self._stopping:
            self.force_exit = True
            super().handle_exit(sig, frame)
            return
        self._stopping = True
        threading.Thread(target=self._finish, name="maquette-stop", daemon=True).start()

    def _finish(self) -> None:
        self._engine.close()
        self.should_exit = True


def serve(
    base: str = "diorama",
    host: str = "127.0.0.1",
    port: int = 7860,
    token: str | None = None,
    *,
    gallery: Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    low_memory: bool = False,
    nets: Iterable[str] = (),
    names: Iterable[str] = (),
    limits: Limits | None = None,
    language: str | None = None,
    runs: Path | None = None,
    pairs: Path = Path(),
) -> None:
    """Serve until a signal comes; the first one finishes the picture that is being made.

    Args:
        token: what every request must show; needed for any `host` but this machine.
        gallery: the folder of the pictures that sessions keep.
        base, device, dtype, low_memory, nets: as for `Engine`.
        names: further names of this machine that requests may be addressed to, such as a proxy's.
        limits: of requests.
        language: of the page, as for `application`.
        runs: the folder of trainings; None for runs/ where this machine alone reaches the studio, and none elsewhere.
        pairs: the folder of data sets to train on.

    Raises `MaquetteError` for an address that cannot be served, or not without a token, and for a base that cannot be
    loaded.
    """
    check_address(host, token)
    share_arenas()
    limits = limits or Limits()
    listening = _listening(host, port)
    with listening:
        kept = Gallery(gallery or Path("gallery"), limits)
        engine = Engine(base, device, limits, kept, nets=nets, dtype=dtype, low_memory=low_memory)
        runs = runs or (Path("runs") if is_local(host) else None)
        trainings = Trainings(runs, pairs, base, str(engine.studio.base.device), [kept.root]) if runs else None
        page = application(engine, language=language, trainings=trainings)
        app = guarded(page, limits, known_names(host, names), token)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=LINGERING, server_header=False)
        server = Server(config, engine)
        try:
            print(greeting(host, listening.getsockname()[1], token), flush=True)  # noqa: T201 - the address to open
            server.run(sockets=[listening])
        finally:
            engine.close(0 if server.force_exit else None)
            kept.close()


def check_address(host: str, token: str | None) -> None:
    """Raises `MaquetteError` for a host that others reach without a token, and for a token that can be guessed."""
    if token is not None and (len(token) < 16 or not all(letter.isalnum() or letter in "-_" for letter in token)):
        raise MaquetteError(
            "A token has at least 16 letters, digits, - and _, so that nobody guesses it; such as "
            f"{secrets.token_urlsafe(16)}."
        )
    if token is None and not is_local(host):
        raise MaquetteError(
            f"At the host {host!r} others can reach the studio, so it asks for a token: --token "
            f"{secrets.token_urlsafe(16)}, or another of at least 16 letters."
        )


def is_local(host: str) -> bool:
    """Whether only this machine reaches a host."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def known_names(host: str, names: Iterable[str]) -> set[str]:
    """The names in Host headers that are answered; all of them where a token guards an address for everyone."""
    return {*LOCAL, host, *names, *([] if is_local(host) else [ANY_HOST])}


def greeting(host: str, port: int, token: str | None) -> str:
    """Where the studio is found."""
    host = socket.gethostname() if host in ("0.0.0.0", "::") else host
    shown = f"[{host}]" if ":" in host else host
    query = f"/?token={token}" if token else ""
    return f"The studio is at http://{shown}:{port}{query}  (API: /api/docs). Ctrl-C stops it; pictures stay."


def _listening(host: str, port: int) -> socket.socket:
    """A bound socket. Raises `MaquetteError` for an address that cannot be served."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError) as error:
        raise MaquetteError(
            f"Nothing can be served at {host}:{port} ({error}); give another --port, or --host."
        ) from error


def overview(schema: dict[str, Any]) -> str:
    """The OpenAPI schema as a page that needs nothing from elsewhere."""
    rows = [
        f"<tr><td>{method.upper()}</td><td><code>{html.escape(path)}</code></td>"
        f"<td>{html.escape(operation.get('summary', ''))}{_fields(operation)}</td></tr>"
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    style = "body{font:16px sans-serif;margin:2em auto;max-width:60em}td{padding:.4em;vertical-align:top}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>maquette API</title><style>{style}</style>"
        "<h1>maquette API</h1><p>The same for programs: <a href=/api/openapi.json>openapi.json</a>.</p>"
        f"<table>{''.join(rows)}</table></html>"
    )


def _fields(operation: dict[str, Any]) -> str:
    """The fields of a JSON body."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    names = content.get("schema", {}).get("properties", {})
    return f"<br><small>{html.escape(', '.join(names))}</small>" if names else ""
