"""Makes pictures for several people: one base in memory, one worker, a bounded queue with measured waiting times.

Pictures are made one at a time (`batch_size=1`), also those of one request. In a batch of several the sums of matrix
products come out in another order, so that a picture would differ in its last bits from the same made alone; one at a
time it is the same bit for bit, whoever else asks, and its record makes it again. docs/api.md says what that costs.
"""

import logging
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import Condition, Thread
from typing import Any
from weakref import WeakValueDictionary

from PIL import Image

from maquette.checkpoints.names import bundled
from maquette.controlnet.control import Control
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.sampling.generate import generate
from maquette.sampling.metadata import Record
from maquette.sampling.prompts import automatic, check_captioner
from maquette.sampling.step import Previews
from maquette.studio.arguments import controls_of, settings_of, size_of
from maquette.studio.detection import Detectors
from maquette.studio.gallery import Gallery, MissingError, Session
from maquette.studio.jobs import BusyError, Ended, Fidelity, Finished, Job, Note, Progress, Queued, StopRequested
from maquette.studio.networks import Studio
from maquette.studio.pace import Pace, work_of
from maquette.studio.requests import Limits, Request

BUSY = "Something went wrong inside ({}); the studio goes on. Try again, or change the request."
STOPPING = "The studio is stopping; send the request again when it runs."
_log = logging.getLogger(__name__)


class StoppingError(MaquetteError):
    """The studio takes on nothing more."""


class Engine:
    """The studio's networks and queue. All of it may be used from any thread.

    Args:
        base: as for `load_base`.
        device, dtype, low_memory: likewise.
        gallery: where the pictures of sessions are kept.
        nets: ControlNets that requests may name, as for `load_controlnet`, or CONDITION=NAME; for the bundled base
            its own are offered too. Each is loaded when it is first used.

    Raises `MaquetteError` where the base cannot be loaded.
    """

    def __init__(
        self,
        base: str = "diorama",
        device: str = "auto",
        limits: Limits | None = None,
        gallery: Gallery | None = None,
        *,
        nets: Iterable[str] = (),
        dtype: str = "auto",
        low_memory: bool = False,
    ) -> None:
        self.limits, self.gallery = limits or Limits(), gallery
        self.studio = Studio(Record(base, "", dtype, {}), [], device, low_memory)
        self.nets = offered(base, nets)
        self.detectors = Detectors(base, str(self.studio.base.device), self.limits.detecting)
        self._queue: deque[Job] = deque()
        self._running: Job | None = None
        self._closing = False
        self._changed = Condition()
        self._pace = Pace()
        self._jobs: WeakValueDictionary[str, Job] = WeakValueDictionary()  # while anyone holds them
        self._worker = Thread(target=self._work, name="maquette-studio", daemon=True)
        self._worker.start()

    def submit(self, request: Request | Mapping[str, Any], client: str = "", session: Session | None = None) -> Job:
        """Take a request on.

        Args:
            client: who asks, for the share of the queue that one client may have.
            session: whose gallery keeps the pictures; its uploads may be named as {"file": name}.

        Raises `MaquetteError` for a request that cannot be carried out, with the field that it is about, and
        `BusyError` where the queue is full.
        """
        request = Request.read(request, self.limits, session.file if session else None)
        request.check(self.studio.base, self.nets)
        if session is not None:
            session.check_room(request.count)
        job = Job(request, client, session, self._drop)
        with self._changed:
            self._admit(request, client)
            self._jobs[job.id] = job
            self._queue.append(job)
            self._tell_places()
            self._changed.notify_all()
        return job

    def offer(self, name: str, condition: str) -> None:
        """Offer a further ControlNet, or one whose weights have changed; it is loaded when it is next used.

        Args:
            name: as for `load_controlnet`.
        """
        self.studio.forget(name)
        self.nets = {**self.nets, name: condition}

    def job(self, name: str) -> Job:
        """A job by its id, while it waits or runs or anyone listens to it. Raises `MaquetteError` for any other id."""
        job = self._jobs.get(name)
        if job is None:
            raise MissingError("There is no such request here; it may have ended.")
        return job

    def waiting(self) -> tuple[int, float | None]:
        """How many requests are in the queue or running, and the seconds until a new one would begin, if known."""
        with self._changed:
            return len(self._queue) + (self._running is not None), self._seconds_before(len(self._queue))

    def close(self, patience: float | None = None) -> None:
        """Finish the request that is being made; every other one, and each new one, is refused with a sentence.

        Args:
            patience: seconds to wait for it; None for as long as it takes.
        """
        with self._changed:
            self._closing = True
            left = list(self._queue)
            self._queue.clear()
            self._changed.notify_all()
        for job in left:
            job.post(Ended("failed", STOPPING))
        self._worker.join(patience)

    def _admit(self, request: Request, client: str) -> None:
        """Raises `MaquetteError` while closing, and `BusyError` where there is no room for another."""
        waiting, seconds = len(self._queue), self._seconds_before(len(self._queue))
        own = sum(job.client == client for job in (*self._queue, *([self._running] if self._running else [])))
        soon = "" if seconds is None else f", about {max(1, round(seconds))} s"
        if self._closing:
            raise StoppingError(STOPPING)
        if own >= self.limits.per_client:
            raise BusyError(
                f"{own} of your requests wait already, as many as one client may have; this one would be number "
                f"{waiting + 1} in the queue{soon}.",
                waiting + 1,
                seconds,
            )
        held = request.bytes + sum(job.request.bytes for job in self._queue)
        if waiting >= self.limits.waiting or (waiting and held > self.limits.queue_bytes):
            raise BusyError(
                f"The queue is full: this request would be number {waiting + 1} of at most {self.limits.waiting}"
                f"{soon}. Try again later.",
                waiting + 1,
                seconds,
            )

    def _drop(self, job: Job) -> bool:
        """Take a job out of the queue; False if it is no longer there."""
        with self._changed:
            if job not in self._queue:
                return False
            self._queue.remove(job)
            self._tell_places()
            return True

    def _tell_places(self) -> None:
        for place, job in enumerate(self._queue):
            job.post(Queued(place + 1, self._seconds_before(place)))

    def _seconds_before(self, place: int) -> float | None:
        """The seconds until the job at a place of the queue begins; None before anything was measured."""
        ahead = [self._pace.seconds(self._work_of(job.request)) for job in list(self._queue)[:place]]
        if self._running is not None:
            told = [event.seconds for _, event in self._running.since(0) if isinstance(event, Progress)]
            ahead.append(told[-1] if told else self._pace.seconds(self._work_of(self._running.request)))
        known = [seconds for seconds in ahead if seconds is not None]
        return sum(known) if len(known) == len(ahead) else None

    def _work_of(self, request: Request) -> float:
        return request.count * self._work_of_one(request)

    def _work_of_one(self, request: Request) -> float:
        usual = self.studio.base.defaults
        steps = request.steps or usual.steps
        guidance = usual.guidance if request.guidance is None else request.guidance
        return work_of(request, size_of(request, self.studio), steps, guidance)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                self._carry_out(job)
                end = Ended("finished")
            except StopRequested:
                end = Ended("cancelled")
            except Exception as error:
                end = _failure(error)
            with self._changed:
                self._running = None
                self._tell_places()
            job.post(end)

    def _next(self) -> Job | None:
        """The next job, when there is one; None once the engine closes."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            if not self._queue:
                return None
            self._running = job = self._queue.popleft()
            job.begin()
            self._tell_places()
            return job

    def _carry_out(self, job: Job) -> None:
        with warnings.catch_warnings(record=True) as noted:
            warnings.simplefilter("always", MaquetteWarning)
            controls = controls_of(job.request, self.studio, self.nets, self.detectors.open)
            settings = settings_of(job.request, self.studio)
            watch, said = _Watch(job, _passes(job.request)), set[str]()
            for number, seed in enumerate(job.request.seeds):
                job.check()
                image, prompt = self._picture(job.request, number, controls, {**settings, "seed": seed}, watch)
                for sentence in [str(note.message) for note in noted if issubclass(note.category, MaquetteWarning)]:
                    if sentence not in said:
                        said.add(sentence)
                        job.post(Note(sentence))
                name = _kept(job, image, seed)
                job.post(Finished(number, seed, prompt, image, self._fidelity(job, image, controls), name))

    def _picture(
        self, request: Request, number: int, controls: list[Control], settings: dict[str, Any], watch: "_Watch"
    ) -> tuple[Image.Image, str]:
        """One picture, and the prompt that it was made with."""
        began, base, prompt, last = time.monotonic(), self.studio.base, request.text, _passes(request) - 1
        common: dict[str, Any] = {**settings, "batch_size": 1, "callback": Previews(watch.show)}
        if last:
            captioner = self.detectors.open(check_captioner(None, base.name))
            (prompt,) = automatic(
                base, controls, lambda images: [str(text) for text in captioner(images)],
                **common, record=False, progress=watch.of_pass(number, 0),
            )  # fmt: skip
        (image,) = generate(base, prompt, controls, **common, progress=watch.of_pass(number, last))
        with self._changed:
            self._pace.note(self._work_of_one(request), time.monotonic() - began)
        return image, prompt

    def _fidelity(self, job: Job, image: Image.Image, controls: list[Control]) -> tuple[Fidelity, ...]:
        return tuple(
            self.detectors.fidelity(layer.condition, image, control.maps[0], layer.options)
            for layer, control in zip(job.request.layers, controls, strict=True)
            if isinstance(control.maps, list)
        )


class _Watch:
    """Tells a job how far it is, and stops it if it was cancelled.

    Args:
        passes: generations of a picture.
    """

    def __init__(self, job: Job, passes: int) -> None:
        self._job, self._passes = job, passes
        self._preview: Image.Image | None = None
        self._began = 0.0  # when the network had run once, which takes longer than later runs

    def show(self, images: list[Image.Image]) -> None:
        (self._preview,) = images

    def of_pass(self, number: int, passed: int) -> Callable[[int, int], None]:
        """The function (runs done, runs in all) that reports one of the generations of a picture."""

        def tick(done: int, runs: int) -> None:
            now, step = time.monotonic(), (number * self._passes + passed) * runs + done
            total = self._job.request.count * self._passes * runs
            self._began = now if step == 1 else self._began
            seconds = None if step == 1 else (now - self._began) / (step - 1) * (total - step)
            self._job.post(Progress(number, step, total, seconds, self._preview))
            self._job.check()

        return tick


def _kept(job: Job, image: Image.Image, seed: int) -> str | None:
    """The name of a picture in its session's gallery; None without one, and where it cannot be kept, which is told."""
    try:
        return job.session.add(image, seed) if job.session else None
    except (OSError, MaquetteError) as error:
        job.post(Note(f"The picture could not be kept, only shown: {error}"))
        return None


def _passes(request: Request) -> int:
    """Generations of a picture: an automatic prompt describes a first one."""
    return 2 if request.prompt_kind == "automatic" else 1


def _failure(error: Exception) -> Ended:
    """The end of a job that failed; what is no user's fault is logged with its trace."""
    if isinstance(error, MaquetteError):
        return Ended("failed", str(error), error.field)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Ended("failed", "There is not enough memory for this; ask for smaller pictures.", "size")
    _log.error("A request failed.", exc_info=error)
    return Ended("failed", BUSY.format(type(error).__name__))


def offered(base: str, nets: Iterable[str]) -> dict[str, str]:
    """The condition of each ControlNet that requests may name, by name: those given, then the base's own.

    Args:
        nets: names, or CONDITION=NAME; without it the condition is the last part of the name.
    """
    found = {}
    for given in nets:
        condition, equals, name = given.partition("=")
        found[name if equals else given] = condition if equals else Path(given).stem
    return found | {name: name.split("/")[-1] for name in bundled() if name.startswith(f"{base}/")}
