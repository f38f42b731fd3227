"""A request while it is made, picture by picture, and which requests are made at once."""

import time
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

from PIL import Image

from maquette.controlnet.control import Control
from maquette.errors import MaquetteError
from maquette.sampling.generate import generate
from maquette.sampling.prompts import automatic, check_captioner
from maquette.sampling.step import Previews
from maquette.studio.arguments import controls_of, settings_of, size_of
from maquette.studio.detection import Detectors
from maquette.studio.jobs import Ended, Fidelity, Finished, Job, Note, Progress
from maquette.studio.networks import Studio
from maquette.studio.notes import noting
from maquette.studio.pace import passes_of
from maquette.studio.requests.limits import Limits
from maquette.studio.requests.request import Request


class Making:
    """The pictures of a job.

    Args:
        nets: as for `Layer.net_name`.
        at_once: pictures of this job that are made at once.
    """

    def __init__(self, job: Job, studio: Studio, nets: dict[str, str], detectors: Detectors, at_once: int) -> None:
        self.job, self.left = job, job.request.count  # pictures to make
        self.end: Ended | None = None  # once it has come
        self._studio, self._nets, self._detectors = studio, nets, detectors
        self._watch = _Watch(job, at_once)
        self._said: set[str] = set()

    def picture(self, number: int) -> None:
        """Make one, keep it, and tell of it and of warnings.

        Raises `MaquetteError` as `generate` does, `StopRequested` if stopped.
        """
        job, seed = self.job, self.job.request.seeds[number]
        job.check()
        with noting(self._note):
            image, prompt = self._generated(number, {**self._settings, "seed": seed})
            name = _kept(job, image, seed)
            job.post(Finished(number, seed, prompt, image, self._fidelity(image), name))

    def _note(self, sentence: str) -> None:
        """Tell a warning, each once."""
        if sentence not in self._said:
            self._said.add(sentence)
            self.job.post(Note(sentence))

    @cached_property
    def _controls(self) -> list[Control]:
        return controls_of(self.job.request, self._studio, self._nets, self._detectors.open)

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return settings_of(self.job.request, self._studio)

    def _generated(self, number: int, settings: dict[str, Any]) -> tuple[Image.Image, str]:
        """A picture, and the prompt that it was made with."""
        base, prompt, last = self._studio.base, self.job.request.text, passes_of(self.job.request) - 1
        common: dict[str, Any] = {**settings, "batch_size": 1, "callback": self._watch.previews(number)}
        if last:
            captioner = self._detectors.open(check_captioner(None, base.name))
            (prompt,) = automatic(
                base, self._controls, lambda images: [str(text) for text in captioner(images)],
                **common, record=False, progress=self._watch.of_pass(number, 0),
            )  # fmt: skip
        (image,) = generate(base, prompt, self._controls, **common, progress=self._watch.of_pass(number, last))
        return image, prompt

    def _fidelity(self, image: Image.Image) -> tuple[Fidelity, ...]:
        return tuple(
            self._detectors.fidelity(layer.condition, image, control.maps[0], layer.options)
            for layer, control in zip(self.job.request.layers, self._controls, strict=True)
            if isinstance(control.maps, list)
        )


class _Watch:
    """Tells a job how far it is, and stops it if it was cancelled."""

    def __init__(self, job: Job, at_once: int) -> None:
        self._job, self._at_once = job, at_once
        self._done = 0  # runs of the network, over all pictures
        self._preview: Image.Image | None = None
        self._began = 0.0  # when the network had run once, which takes longer than later runs

    def previews(self, number: int) -> Previews | None:
        """What looks at a picture while it is made: at the first of those that are made at once."""
        return Previews(self._show) if number % self._at_once == 0 else None

    def _show(self, images: list[Image.Image]) -> None:
        (self._preview,) = images

    def of_pass(self, number: int, passed: int) -> Callable[[int, int], None]:
        """The function (runs done, runs in all) that reports one of the generations of a picture."""
        request = self._job.request
        passes, turn = passes_of(request), number // self._at_once

        def tick(done: int, runs: int) -> None:
            now, round_ = time.monotonic(), (turn * passes + passed) * runs + done
            rounds = -(-request.count // self._at_once) * passes * runs
            if round_ == 1:
                self._began = now
            seconds = None if round_ == 1 else (now - self._began) / (round_ - 1) * (rounds - round_)
            self._done += 1
            first, total = turn * self._at_once, request.count * passes * runs
            self._job.post(Progress(first, self._done, total, seconds, self._preview))
            self._job.check()

        return tick


def batches(jobs: Iterable[Job], studio: Studio, limits: Limits) -> list[list[Job]]:
    """Jobs in the order of a queue, by those that are made at once: the first, and what fits to it of the others."""
    left, found = [(job, _kind(job.request, studio)) for job in jobs], []
    while left:
        (first, kind), *others = left
        batch, room = [first], at_once(first.request, studio, limits) - first.request.count
        for job, its in others:
            if its == kind and job.request.count <= room:
                batch.append(job)
                room -= job.request.count
        left = [(job, its) for job, its in others if job not in batch]
        found.append(batch)
    return found


def at_once(request: Request, studio: Studio, limits: Limits) -> int:
    """How many pictures of a request's kind are made at once."""
    if studio.base.execution_device is not None:  # networks come and go with each picture
        return 1
    width, height = size_of(request, studio)
    return max(1, min(limits.together, limits.together_pixels // (width * height)))


def _kind(request: Request, studio: Studio) -> tuple[Any, ...]:
    """What requests have in common that are made at once: what their networks compute, and how often."""
    guidance = studio.base.defaults.guidance if request.guidance is None else request.guidance
    layers = [(layer.net or layer.condition, layer.start, layer.end) for layer in request.layers]
    return (
        size_of(request, studio), request.parts(studio.base), guidance == 1, request.strength if request.image else 1,
        passes_of(request), layers,
    )  # fmt: skip


def _kept(job: Job, image: Image.Image, seed: int) -> str | None:
    """The name of a picture in its session's gallery; None without one, and where it cannot be kept, which is told."""
    try:
        return job.session.add(image, seed) if job.session else None
    except (OSError, MaquetteError) as error:
        job.post(Note(f"The picture could not be kept, only shown: {error}"))
        return None
