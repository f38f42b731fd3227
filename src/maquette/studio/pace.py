"""How long requests take, as measured on those before."""

from collections import deque
from statistics import median

from maquette.noise.choices import steps_taken
from maquette.studio.requests import Request

RECENT = 9  # measurements that the estimate is the median of
OF_A_LAYER = 0.5  # a ControlNet's cost as a share of its base's: it copies the encoder, about half of the network


class Pace:
    """Seconds for a unit of work: one pass of the base over one pixel."""

    def __init__(self) -> None:
        self._alone, self._together = deque[float](maxlen=RECENT), deque[float](maxlen=RECENT)

    def note(self, work: float, seconds: float, together: bool) -> None:
        """Remember how long so many units took, of one picture or of several at once."""
        (self._together if together else self._alone).append(seconds / work)

    def seconds(self, work: float, together: bool) -> float | None:
        """How long so many units will take; None before anything was measured."""
        own, other = (self._together, self._alone) if together else (self._alone, self._together)
        measured = own or other
        return median(measured) * work if measured else None


def work_of(request: Request, size: tuple[int, int], steps: int, guidance: float) -> float:
    """The units of one picture of a request.

    Args:
        size: (width, height) in pixels.
        steps: those of the request, or the base's default.
        guidance: likewise; at 1 there is one branch instead of two.
    """
    taken = steps if request.image is None else steps_taken(steps, request.strength)
    layers = sum(layer.end - layer.start for layer in request.layers)
    passes = taken * (2 if request.sampler == "heun" else 1) * (1 if guidance == 1 else 2)
    return size[0] * size[1] * passes * passes_of(request) * (1 + OF_A_LAYER * layers)


def passes_of(request: Request) -> int:
    """Generations of a picture: an automatic prompt describes a first one."""
    return 2 if request.prompt_kind == "automatic" else 1
