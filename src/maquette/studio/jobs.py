"""A request on its way: its state, what happened so far, and how it is stopped."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Condition
from typing import ClassVar, Literal

from PIL import Image

from maquette.errors import MaquetteError
from maquette.studio.gallery import Session
from maquette.studio.requests.request import Request

State = Literal["queued", "running", "finished", "failed", "cancelled"]


@dataclass(frozen=True)
class Fidelity:
    """How well a picture follows one layer."""

    condition: str
    label: str  # of the score, such as "edge F1"
    score: float | None  # 0 to 1, 1 for equal maps; None where it cannot be told
    why_not: str = ""  # a sentence, where there is no score


@dataclass(frozen=True)
class Queued:
    """It waits."""

    kind: ClassVar[str] = "queued"
    position: int  # 1: next
    seconds: float | None  # until it begins, as measured on those before; None before anything was


@dataclass(frozen=True)
class Progress:
    """The network has run."""

    kind: ClassVar[str] = "progress"
    number: int  # of the picture, from 0; the first of those that are made at once
    step: int  # runs of the network done, over all pictures
    total: int
    seconds: float | None  # left, as measured on this request's own steps
    preview: Image.Image | None = field(default=None, compare=False)  # the picture so far, a pixel for each latent cell


@dataclass(frozen=True)
class Finished:
    """A picture is done, and kept if the request belongs to a session."""

    kind: ClassVar[str] = "picture"
    number: int
    seed: int
    prompt: str  # that it was made with
    image: Image.Image = field(compare=False)  # with its record, which `mq.save` writes
    fidelity: tuple[Fidelity, ...] = ()  # to each layer
    name: str | None = None  # in the session's gallery


@dataclass(frozen=True)
class Note:
    """Something to tell, such as a setting without effect."""

    kind: ClassVar[str] = "note"
    sentence: str


@dataclass(frozen=True)
class Ended:
    """The last event."""

    kind: Literal["finished", "failed", "cancelled"]
    sentence: str = ""
    field: str | None = None  # of the request that the sentence is about


Event = Queued | Progress | Finished | Note | Ended


class BusyError(MaquetteError):
    """The queue, or a client's share of it, is full. `seconds` says when it may be worth another try, if known."""

    def __init__(self, sentence: str, position: int, seconds: float | None) -> None:
        super().__init__(sentence)
        self.position, self.seconds = position, seconds


class StopRequested(Exception):  # noqa: N818 - no error
    """Ends a generation between two of its steps."""


class Job:
    """A request that was taken on. All of it may be used from any thread.

    Args:
        drop: takes it out of the queue, if it is still there; the engine's.
    """

    def __init__(
        self, request: Request, client: str, session: Session | None = None, drop: Callable[["Job"], bool] | None = None
    ) -> None:
        self.id = secrets.token_urlsafe(12)
        self.request, self.client, self.session = request, client, session
        self.state: State = "queued"
        self._drop = drop
        self._stop = False
        self._events: list[tuple[int, Event]] = []
        self._serial = 0
        self._changed = Condition()

    def events(self) -> Iterator[Event]:
        """Every event from the first to the last, as they happen; of several of one kind in a row the newest.

        Any number of iterators may run; none holds the job up.
        """
        seen = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._serial > seen)  # noqa: B023 - is called here
            for serial, event in self.since(seen):
                seen = serial
                yield event
                if isinstance(event, Ended):
                    return

    def since(self, serial: int) -> list[tuple[int, Event]]:
        """The events after that of a number, with their numbers, without waiting."""
        with self._changed:
            return [(number, event) for number, event in self._events if number > serial]

    def result(self) -> list[Finished]:
        """The pictures, once all are done. Raises `MaquetteError` if it failed or was cancelled."""
        events = list(self.events())
        end = events[-1]
        if isinstance(end, Ended) and end.kind != "finished":
            error = MaquetteError(end.sentence or "The request was cancelled.")
            error.field = end.field
            raise error
        return [event for event in events if isinstance(event, Finished)]

    @property
    def notes(self) -> list[str]:
        """What was told so far of settings without effect and the like."""
        return [event.sentence for _, event in self.since(0) if isinstance(event, Note)]

    @property
    def position(self) -> int | None:
        """In the queue: 1 is next, 0 is being made; None once it has ended."""
        queued = [event.position for _, event in self.since(0) if isinstance(event, Queued)]
        return {"queued": queued[-1] if queued else 1, "running": 0}.get(self.state)

    @property
    def ended(self) -> bool:
        return self.state not in ("queued", "running")

    def cancel(self) -> None:
        """Take it out of the queue, or stop it at its next step; pictures that are done stay."""
        self._stop = True
        if self._drop is not None and self._drop(self):
            self.post(Ended("cancelled"))

    def check(self) -> None:
        """Raises `StopRequested` if it was cancelled."""
        if self._stop:
            raise StopRequested

    def begin(self) -> None:
        self.state = "running"

    def post(self, event: Event) -> None:
        """Tell whoever listens. Queue places and progress replace the event before, if that is one too."""
        with self._changed:
            if self.ended:
                return
            passing = isinstance(event, Queued | Progress)
            if passing and self._events and type(self._events[-1][1]) is type(event):
                self._events.pop()
            self._serial += 1
            self._events.append((self._serial, event))
            if isinstance(event, Ended):
                self.state = event.kind
            self._changed.notify_all()
