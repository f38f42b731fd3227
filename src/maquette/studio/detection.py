"""The detectors of the studio, each loaded once: maps of pictures, and how well pictures follow maps."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock
from typing import Any

from PIL import Image

from maquette.conditions.detect import Detector
from maquette.conditions.registry import detector_spec
from maquette.conditions.requirements import drawn_by
from maquette.errors import MaquetteError
from maquette.foundation.images import fit
from maquette.metrics.fidelity import map_scorer
from maquette.studio.jobs import BusyError, Fidelity


class Detectors:
    """Detectors by name, of which one runs at a time.

    Args:
        base: its name; where it has detectors of its own these come first.
        device: as for `Detector`.
        most: callers that `room` has place for.
    """

    def __init__(self, base: str, device: str, most: int) -> None:
        self._base, self._device, self._most = base, device, most
        self._room = BoundedSemaphore(most)
        self._opened: dict[str, Detector] = {}
        self._one = Lock()

    @contextmanager
    def room(self) -> Iterator[None]:
        """A place among those who may wait for a detector. Raises `BusyError` where there is none."""
        if not self._room.acquire(blocking=False):
            raise BusyError(f"{self._most} maps wait to be detected; try again in a moment.", self._most + 1, None)
        try:
            yield
        finally:
            self._room.release()

    def open(self, name: str) -> Detector:
        """A detector. Raises `MaquetteError` for an unknown one, and for weights that are not on this machine."""
        if name not in self._opened:
            detector_spec(name).check_present()  # a request starts no download
            self._opened[name] = Detector(name, device=self._device)
        return self._opened[name]

    def detect(self, condition: str, image: Image.Image, options: Mapping[str, Any] | None = None) -> Image.Image | str:
        """The map of a picture, RGB and of its size, or the text of a captioner.

        Raises `MaquetteError` as `open` does, and for unknown options.
        """
        name, chosen = drawn_by(condition, self._base), dict(options or {})
        detector_spec(name).options.given(name, chosen)
        with self._one:
            found: Image.Image | str = self.open(name)(image, **chosen)
        return found

    def fidelity(
        self, condition: str, image: Image.Image, map_: Image.Image, options: Mapping[str, Any] | None = None
    ) -> Fidelity:
        """How well a picture follows a map, which is brought to the picture's size.

        Args:
            options: those that the map was detected with.
        """
        name = drawn_by(condition, self._base)

        def again(picture: Image.Image) -> Image.Image:
            found = self.detect(name, picture, options)
            assert isinstance(found, Image.Image), "a condition with a metric has maps"
            return found

        try:
            spec = detector_spec(name)
            scorer = map_scorer(name, self._device, again)
            (score,) = scorer([image], [fit(map_, image.size, spec.kind)])
        except MaquetteError as error:
            return Fidelity(condition, "", None, str(error))
        if score != score:
            return Fidelity(condition, scorer.label, None, "There is nothing in the map to compare with.")
        return Fidelity(condition, scorer.label, score)
