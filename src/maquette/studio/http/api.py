"""The studio over HTTP: docs/api.md shows how it is used, and /api/docs lists its addresses."""

from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from PIL import Image
from starlette.concurrency import run_in_threadpool

from maquette.errors import MaquetteError
from maquette.studio.engine import Engine
from maquette.studio.gallery import MissingError, Session
from maquette.studio.http import catalogue
from maquette.studio.http.again import read_record, request_values
from maquette.studio.http.wire import client_of, ended, event_values, read_values, schema_of, streamed, text_of
from maquette.studio.jobs import Job
from maquette.studio.pictures import Picture, png_of
from maquette.studio.requests.fields import about
from maquette.studio.requests.request import Request as PictureRequest

SESSION = "X-Maquette-Session"
PNG = "image/png"


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _bytes(kind: str) -> dict[str, Any]:
    content = {kind: {"schema": {"type": "string", "format": "binary"}}}
    return {"requestBody": {"required": True, "content": content}}


GENERATE = _body(schema_of(PictureRequest))
DETECT = _body({"type": "object", "properties": {"detector": {}, "picture": {}, "options": {"type": "object"}}})
COMPARE = _body({"type": "object", "properties": {"condition": {}, "picture": {}, "map": {}, "options": {}}})
NAMES = _body({"type": "object", "properties": {"names": {"type": "array", "items": {"type": "string"}}}})


def router(engine: Engine) -> APIRouter:
    """All addresses under /api."""
    routes = APIRouter(prefix="/api")
    _add_lists(routes, engine)
    _add_making(routes, engine)
    _add_maps(routes, engine)
    _add_gallery(routes, engine)
    return routes


def _add_lists(routes: APIRouter, engine: Engine) -> None:
    base = engine.studio.base

    @routes.get("", summary="Version, limits and the state of the queue")
    def about() -> dict[str, Any]:
        waiting, seconds = engine.waiting()
        state = {"waiting": waiting, "seconds": seconds}
        return {"version": version("maquette"), **state, "limits": asdict(engine.limits)}

    @routes.get("/bases", summary="The base that is loaded, with its defaults")
    def bases() -> list[dict[str, Any]]:
        return [catalogue.base_values(base)]

    @routes.get("/families", summary="The families of base models that this version knows")
    def families() -> list[str]:
        return catalogue.families()

    @routes.get("/nets", summary="The ControlNets that layers may name")
    def nets() -> list[dict[str, Any]]:
        return catalogue.net_values(engine.nets)

    @routes.get("/conditions", summary="The conditions of layers")
    def conditions() -> list[dict[str, Any]]:
        return catalogue.condition_values(base, engine.nets)

    @routes.get("/detectors", summary="The detectors, with their options")
    def detectors() -> list[dict[str, Any]]:
        return catalogue.detector_values()


def _add_making(routes: APIRouter, engine: Engine) -> None:
    async def submitted(request: Request) -> Job:
        session, values = session_of(engine, request), await read_values(request)
        return await run_in_threadpool(engine.submit, values, client_of(request), session)

    @routes.post(
        "/generate",
        summary="Make pictures; Accept: image/png gets the first alone",
        openapi_extra=GENERATE,
    )
    async def generate(request: Request) -> Any:
        job = await submitted(request)
        await ended(job, request)
        pictures = await run_in_threadpool(job.result)
        if PNG in request.headers.get("accept", ""):
            return Response(await run_in_threadpool(png_of, pictures[0].image), media_type=PNG)
        return {"pictures": [await run_in_threadpool(event_values, one) for one in pictures], "notes": job.notes}

    @routes.post(
        "/generate/stream", summary="Make pictures, and tell of each step (server-sent events)", openapi_extra=GENERATE
    )
    async def stream(request: Request) -> StreamingResponse:
        job = await submitted(request)
        return StreamingResponse(streamed(job), media_type="text/event-stream", headers={"X-Maquette-Job": job.id})

    @routes.get("/jobs/{job}", summary="The state and place of a request")
    def state(job: str) -> dict[str, Any]:
        found = engine.job(job)
        return {"id": found.id, "state": found.state, "position": found.position}

    @routes.post("/jobs/{job}/cancel", summary="Stop a request at its next step")
    def cancel(job: str) -> dict[str, Any]:
        found = engine.job(job)
        found.cancel()
        return {"id": found.id, "state": found.state}

    @routes.post("/again", summary="The request that made a PNG, from its record", openapi_extra=_bytes(PNG))
    async def again(request: Request) -> dict[str, Any]:
        content = await request.body()
        record = await run_in_threadpool(read_record, content, engine.limits)
        return request_values(record, engine.nets)


def _add_maps(routes: APIRouter, engine: Engine) -> None:
    @routes.post("/detect", summary="The condition map of a picture", openapi_extra=DETECT)
    async def detect(request: Request) -> dict[str, Any]:
        values = _object(await read_values(request), {"detector", "picture", "options"})
        return await run_in_threadpool(detected, values, session_of(engine, request))

    def detected(values: Mapping[str, Any], session: Session | None) -> dict[str, Any]:
        with engine.detectors.room():
            image = _picture(values, "picture", engine, session)
            found = engine.detectors.detect(_text(values, "detector"), image, _options(values))
        return {"text": found} if isinstance(found, str) else {"png": text_of(found)}

    @routes.post("/fidelity", summary="How well a picture follows a map, 0 to 1", openapi_extra=COMPARE)
    async def fidelity(request: Request) -> dict[str, Any]:
        values = _object(await read_values(request), {"condition", "picture", "map", "options"})
        return await run_in_threadpool(compared, values, session_of(engine, request))

    def compared(values: Mapping[str, Any], session: Session | None) -> dict[str, Any]:
        with engine.detectors.room():
            image, map_ = (_picture(values, name, engine, session) for name in ("picture", "map"))
            return asdict(engine.detectors.fidelity(_text(values, "condition"), image, map_, _options(values)))


def _add_gallery(routes: APIRouter, engine: Engine) -> None:
    @routes.post("/sessions", summary="Begin a session, whose pictures are kept")
    def begin() -> dict[str, str]:
        if engine.gallery is None:
            raise MaquetteError("This studio keeps no pictures.")
        return {"session": engine.gallery.create().key}

    @routes.delete("/session", summary="End the session: its uploads are removed, its pictures stay")
    def end(request: Request) -> dict[str, str]:
        own_session(engine, request).end()
        return {"state": "ended"}

    @routes.post("/uploads", summary="Keep a picture for requests of this session", openapi_extra=_bytes("image/*"))
    async def upload(request: Request) -> dict[str, str]:
        session, content = own_session(engine, request), await request.body()
        Picture.read(content, engine.limits.picture_bytes).size(engine.limits.picture_pixels)
        return {"file": await run_in_threadpool(session.upload, content)}

    @routes.get("/pictures", summary="The session's pictures, the newest first")
    def pictures(request: Request) -> list[dict[str, Any]]:
        return [asdict(entry) for entry in own_session(engine, request).pictures()]

    @routes.get("/pictures/{name}", summary="A picture, with its record inside", response_class=Response)
    def picture(request: Request, name: str) -> Response:
        return Response(own_session(engine, request).read(name), media_type=PNG)

    @routes.delete("/pictures/{name}", summary="Delete a picture")
    def delete(request: Request, name: str) -> dict[str, str]:
        own_session(engine, request).delete([name])
        return {"deleted": name}

    @routes.post("/pictures/zip", summary="Chosen pictures in a zip", response_class=Response, openapi_extra=NAMES)
    async def archive(request: Request) -> Response:
        session, values = own_session(engine, request), _object(await read_values(request), {"names"})
        names = values.get("names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise MaquetteError("names is a list of the pictures' names.")
        return Response(await run_in_threadpool(session.zip, names), media_type="application/zip")


def session_of(engine: Engine, request: Request) -> Session | None:
    """The session whose key a request shows; None without one. Raises `MaquetteError` for a key of no session."""
    key = request.headers.get(SESSION)
    return engine.gallery.session(key) if key and engine.gallery else None


def own_session(engine: Engine, request: Request) -> Session:
    """As `session_of`. Raises `MaquetteError` without a key, too."""
    session = session_of(engine, request)
    if session is None:
        raise MissingError(f"Pictures belong to sessions; begin one, and send its key as {SESSION}.")
    return session


def _picture(values: Mapping[str, Any], name: str, engine: Engine, session: Session | None) -> Image.Image:
    with about(name):
        resolve = session.file if session else None
        picture = Picture.read(values.get(name), engine.limits.picture_bytes, resolve, f"the {name}")
        picture.size(engine.limits.picture_pixels)
        return picture.image()


def _text(values: Mapping[str, Any], name: str) -> str:
    if not isinstance(values.get(name), str):
        with about(name):
            raise MaquetteError(f"The field {name!r} is a text.")
    return str(values[name])


def _options(values: Mapping[str, Any]) -> dict[str, Any]:
    options = values.get("options") or {}
    if not isinstance(options, dict):
        with about("options"):
            raise MaquetteError("The field 'options' is an object with the detector's options by name.")
    return options


def _object(values: Any, known: set[str]) -> dict[str, Any]:
    """Raises `MaquetteError` for anything but an object with known fields."""
    if not isinstance(values, dict) or values.keys() - known:
        raise MaquetteError(f"The body is an object with the fields {', '.join(sorted(known))}.")
    return values
