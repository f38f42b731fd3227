"""Makes pictures for several people: one base in memory, one worker, a bounded queue with measured waiting times.

Pictures are made as if one at a time (`batch_size=1`), also those of one request: each is the same bit for bit whoever
else asks, and its record makes it again. Where requests fit (`making.batches`), their networks run at once all the
same, as far as that changes no bit (`arithmetic.together`).
"""

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Condition, Lock, Thread
from typing import Any
from weakref import WeakValueDictionary

from maquette.arithmetic.together import Together
from maquette.checkpoints.names import bundled
from maquette.errors import MaquetteError
from maquette.foundation.memory import ran_out
from maquette.sampling.metadata import Record
from maquette.studio.arguments import size_of
from maquette.studio.detection import Detectors
from maquette.studio.gallery import Gallery, MissingError, Session
from maquette.studio.jobs import BusyError, Ended, Job, Progress, Queued, StopRequested
from maquette.studio.making import Making, at_once, batches
from maquette.studio.networks import Studio
from maquette.studio.pace import Pace, work_of
from maquette.studio.requests.limits import Limits
from maquette.studio.requests.request import Request

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
        self._running: list[Job] = []
        self._aside = 0  # that compute, or wait to, between requests
        self._turn = Lock()  # of those
        self._together = Together()
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
            return len(self._queue) + len(self._running), self._waits()[1]

    @contextmanager
    def aside(self) -> Iterator[Studio]:
        """Compute something else with the networks, once the requests that are being made are done."""
        with self._turn:
            with self._changed:
                self._aside += 1
                self._changed.wait_for(lambda: not self._running)
            try:
                yield self.studio
            finally:
                with self._changed:
                    self._aside -= 1
                    self._changed.notify_all()

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
        waiting, seconds = len(self._queue), self._waits()[1]
        own = sum(job.client == client for job in (*self._queue, *self._running))
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
        waits = self._waits()[0]
        for place, job in enumerate(self._queue):
            job.post(Queued(place + 1, waits[job]))

    def _waits(self) -> tuple[dict[Job, float | None], float | None]:
        """The seconds until each job of the queue begins, and a further one; None before anything was measured."""
        seconds, found = self._seconds_left() if self._running else 0.0, dict[Job, float | None]()
        for batch in batches(self._queue, self.studio, self.limits):
            found |= dict.fromkeys(batch, seconds)
            own = self._seconds_of(batch)
            seconds = None if seconds is None or own is None else seconds + own
        return found, seconds

    def _seconds_left(self) -> float | None:
        """Of the jobs that are being made."""
        told = [[event.seconds for _, event in job.since(0) if isinstance(event, Progress)] for job in self._running]
        known = [seconds[-1] for seconds in told if seconds and seconds[-1] is not None]
        return max(known) if known else self._seconds_of(self._running)

    def _seconds_of(self, jobs: Sequence[Job]) -> float | None:
        work, together = sum(self._work_of(job.request) for job in jobs), sum(job.request.count for job in jobs) > 1
        return self._pace.seconds(work, together and at_once(jobs[0].request, self.studio, self.limits) > 1)

    def _work_of(self, request: Request) -> float:
        return request.count * self._work_of_one(request)

    def _work_of_one(self, request: Request) -> float:
        base = self.studio.base
        guidance = base.defaults.guidance if request.guidance is None else request.guidance
        return work_of(request, size_of(request, self.studio), request.parts(base), guidance)

    def _work(self) -> None:
        while jobs := self._next():
            self._carry_out(jobs)

    def _next(self) -> list[Job]:
        """The next jobs, when there are any; none once the engine closes."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or (self._queue and not self._aside))
            if not self._queue:
                return []
            self._running = jobs = batches(self._queue, self.studio, self.limits)[0]
            for job in jobs:
                self._queue.remove(job)
                job.begin()
            self._tell_places()
            return list(jobs)

    def _carry_out(self, jobs: list[Job]) -> None:
        """Make the pictures of jobs that fit together; each ends when its own are done."""
        most = at_once(jobs[0].request, self.studio, self.limits)
        makings = [Making(job, self.studio, self.nets, self.detectors, most) for job in jobs]
        left = [(making, number) for making in makings for number in range(making.job.request.count)]
        while left:
            some, left = left[:most], left[most:]
            began, together = time.monotonic(), len(some) > 1
            works, turns = [partial(self._make, *one) for one in some], [making for making, _ in some]
            self._together.run(works, partial(self._attended, turns))
            work = sum(self._work_of_one(making.job.request) for making, _ in some)
            if all(making.end is None or making.end.kind == "finished" for making, _ in some):
                with self._changed:
                    self._pace.note(work, time.monotonic() - began, together)

    def _make(self, making: Making, number: int) -> None:
        """One picture, unless its request has ended already."""
        try:
            if making.end is None:
                making.picture(number)
                making.left -= 1
                if making.left == 0:
                    making.end = making.end or Ended("finished")
        except StopRequested:
            making.end = making.end or Ended("cancelled")
        except Exception as error:
            making.end = making.end or _failure(error)
            making.job.cancel()  # pictures that are made beside it stop at their next step

    @contextmanager
    def _attended(self, makings: Sequence[Making], number: int) -> Iterator[None]:
        """A turn of one of several pictures, after which the end of its request is told, if it has come."""
        making = makings[number]
        yield
        if making.end is not None and not making.job.ended:
            with self._changed:
                self._running.remove(making.job)
                self._tell_places()
                self._changed.notify_all()
            making.job.post(making.end)


def _failure(error: Exception) -> Ended:
    """The end of a job that failed; what is no user's fault is logged with its trace."""
    if isinstance(error, MaquetteError):
        return Ended("failed", str(error), error.field)
    if ran_out(error):
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
