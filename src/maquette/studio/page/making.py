"""What happens when one draws, generates and stops."""

from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image

from maquette.diorama.scene import scene
from maquette.errors import MaquetteError
from maquette.studio.arguments import controls_of
from maquette.studio.engine import Engine
from maquette.studio.gallery import MissingError, Session
from maquette.studio.jobs import Ended, Event, Finished, Job, Note, Progress, Queued
from maquette.studio.page.canvas import editor_of
from maquette.studio.page.form import advice, control_of, layer_values, on_page, request_of, size_of
from maquette.studio.page.strings import Strings
from maquette.studio.requests.request import Request

Shown = list[tuple[Image.Image, str]]  # pictures with their captions


class Making:
    """The running request of each session, and what is told of it."""

    def __init__(self, engine: Engine, words: Strings) -> None:
        self.engine, self.words = engine, words
        self._jobs: set[tuple[str, Job]] = set()  # each with its session's key

    def session(self, key: str | None) -> Session | None:
        """A visitor's session, a new one for a key that is unknown; None where no pictures are kept."""
        if self.engine.gallery is None:
            return None
        try:
            return self.engine.gallery.session(key or "")
        except MissingError:
            return self.engine.gallery.create()

    def map_of(self, values: Mapping[str, Any], number: int) -> Image.Image:
        """The map that control `number` gives the model, RGB, of the pictures' size: the very array.

        Raises `MaquetteError` for a canvas without what its source asks for.
        """
        layer = layer_values(values, number, self.engine, self.words)
        request = Request.read(
            {"layers": [layer], "size": list(size_of(values, self.engine, self.words))}, self.engine.limits
        )
        request.check(self.engine.studio.base, self.engine.nets)
        (control,) = controls_of(request, self.engine.studio, self.engine.nets, self.engine.detectors.open)
        (image,) = control.maps
        return image

    def look(self, values: Mapping[str, Any], number: int) -> tuple[Image.Image | None, str]:
        """The map of a control and a sentence about it."""
        try:
            return self.map_of(values, number), advice(values, number, self.engine, self.words)
        except MaquetteError as error:
            return None, str(error)

    def generate(self, values: Mapping[str, Any], key: str) -> Iterator[tuple[str, Shown, Image.Image | None]]:
        """The sentence, the pictures and the preview to show, as they change.

        Raises `MaquetteError` with the field that it is about.
        """
        session, request = self.session(key), request_of(values, self.engine, self.words)
        with on_page(values):
            job = self.engine.submit(request, session.client if session else key, session)
        self._jobs.difference_update([one for one in list(self._jobs) if one[1].ended])
        self._jobs.add((key, job))
        shown: Shown = []
        for event in job.events():
            if isinstance(event, Finished):
                shown.append((event.image, self._caption(event)))
            if isinstance(event, Ended):
                self._jobs.discard((key, job))
                if event.kind == "failed":
                    error = MaquetteError(event.sentence)
                    error.field = control_of(event.field, values)
                    raise error
            yield self.sentence(event), list(shown), event.preview if isinstance(event, Progress) else None

    def stop(self, key: str) -> None:
        """Stop the session's requests at their next step."""
        for own, job in list(self._jobs):
            if own == key:
                job.cancel()

    def sentence(self, event: Event) -> str:
        """An event in words."""
        words = self.words
        if isinstance(event, Queued):
            return words("queued", event.position, self._left(event.seconds))
        if isinstance(event, Progress):
            return words("progress", event.step, event.total, self._left(event.seconds))
        if isinstance(event, Note):
            return event.sentence
        if isinstance(event, Finished):
            return self._caption(event)
        return words("stopped") if isinstance(event, Ended) and event.kind == "cancelled" else words("done")

    def _left(self, seconds: float | None) -> str:
        return "" if seconds is None else self.words("left", max(1, round(seconds)))

    def _caption(self, event: Finished) -> str:
        scores = [
            self.words("fidelity", one.label, one.score) if one.score is not None else one.why_not
            for one in event.fidelity
        ]
        return " · ".join([self.words("seed_of", event.seed), *scores])


def place_scene(number: float | None) -> tuple[dict[str, Any], str]:
    """A canvas with a scene of the diorama. Raises `MaquetteError` for a number below 0."""
    found = scene(int(number or 0))
    return editor_of(found.image), found.caption
