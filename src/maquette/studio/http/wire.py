"""How requests and answers of the studio are written: JSON, server-sent events, errors."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import MISSING, asdict, fields
from typing import Any, get_type_hints

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from PIL import Image
from pydantic import create_model
from starlette.concurrency import run_in_threadpool

from maquette.errors import MaquetteError
from maquette.foundation.reading.documents import parse_json
from maquette.studio.engine import StoppingError
from maquette.studio.gallery import MissingError
from maquette.studio.jobs import BusyError, Ended, Event, Finished, Job, Progress
from maquette.studio.pictures import Picture, png_of
from maquette.studio.requests.layer import Layer

POLL = 0.05  # seconds between two looks at a job
PULSE = 15.0  # seconds of silence after which a stream says that it lives


def schema_of(declared: type) -> dict[str, Any]:
    """The JSON schema of a request or a layer, for OpenAPI; a picture is base64, or {"file": name}."""
    picture = str | dict[str, str]
    hints = {name: _plain(hint, picture) for name, hint in get_type_hints(declared).items()}
    entries: dict[str, Any] = {}
    for one in fields(declared):
        default = one.default_factory() if one.default_factory is not MISSING else one.default
        entries[one.name] = (hints[one.name], ... if default is MISSING else default)
    return create_model(f"{declared.__name__}Fields", **entries).model_json_schema()


def _plain(hint: Any, picture: Any) -> Any:
    if hint is Picture:
        return picture
    if hint == Picture | None:
        return picture | None
    return list[dict[str, Any]] if hint == tuple[Layer, ...] else hint


async def read_values(request: Request) -> Any:
    """The JSON of a request's body. Raises `MaquetteError` for anything else."""
    body = await request.body()
    try:
        return await run_in_threadpool(parse_json, body)
    except ValueError as error:
        raise MaquetteError(f"The body of a request is JSON; this one is not: {error}.") from error


def client_of(request: Request) -> str:
    """Whose share of the queue a request counts to."""
    return f"address {request.client.host}" if request.client else ""


async def ended(job: Job, request: Request) -> None:
    """Wait for the end of a job; without a session it is cancelled if the client goes, as nobody can get its pictures.

    A session's pictures are found in its gallery.
    """
    while not job.ended:
        if job.session is None and await request.is_disconnected():
            job.cancel()
        await asyncio.sleep(POLL)


async def streamed(job: Job) -> AsyncIterator[str]:
    """The events of a job as server-sent ones. If the client goes, the job goes on only for a session."""
    seen, quiet, shown = 0, 0.0, None
    try:
        yield _sent({"kind": "job", "id": job.id})
        while True:
            for serial, event in job.since(seen):
                preview = event.preview if isinstance(event, Progress) else None
                yield _sent(await run_in_threadpool(event_values, event, preview is not shown))
                seen, shown, quiet = serial, preview, 0.0
                if isinstance(event, Ended):
                    return
            await asyncio.sleep(POLL)
            quiet += POLL
            if quiet > PULSE:
                yield ": still here\n\n"
                quiet = 0.0
    finally:
        if job.session is None and not job.ended:
            job.cancel()


def _sent(values: Mapping[str, Any]) -> str:
    return f"event: {values['kind']}\ndata: {json.dumps(values)}\n\n"


def event_values(event: Event, with_preview: bool = True) -> dict[str, Any]:
    """An event as plain values: a preview and a picture as PNGs in base64, this with its record."""
    values = {"kind": event.kind, **{name: value for name, value in vars(event).items() if name != "preview"}}
    if isinstance(event, Progress) and event.preview is not None and with_preview:
        values["preview"] = text_of(event.preview)
    if isinstance(event, Finished):
        values |= {"png": text_of(values.pop("image")), "fidelity": [asdict(one) for one in event.fidelity]}
    return values


def text_of(image: Image.Image) -> str:
    """A PNG in base64."""
    return base64.b64encode(png_of(image)).decode()


def add_errors(app: FastAPI) -> None:
    """Answer every `MaquetteError` with its sentence."""

    @app.exception_handler(MaquetteError)
    async def answer(request: Request, error: MaquetteError) -> JSONResponse:
        return refusal(error)


def refusal(error: MaquetteError) -> JSONResponse:
    """The answer to a request that cannot be carried out."""
    values: dict[str, Any] = {"error": str(error), "field": error.field}
    headers = {}
    status = 404 if isinstance(error, MissingError) else 503 if isinstance(error, StoppingError) else 422
    if isinstance(error, BusyError):
        status, values = 429, {**values, "position": error.position, "seconds": error.seconds}
        headers["Retry-After"] = str(max(1, round(error.seconds or 10)))
    return JSONResponse(values, status, headers)
