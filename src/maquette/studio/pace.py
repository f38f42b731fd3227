"""How long requests take, as measured on those before."""

from collections import deque
from statistics import median

from maquette.noise.choices import steps_taken
from maquette.studio.requests import Request

RECENT = 9  # pictures that the estimate is the median of
OF_A_LAYER = 0.5  # a ControlNet's cost as a share of its base's: it copies the encoder, about half of the network


class Pace:
    """Seconds for a unit of work: one pass of the base over one pixel."""

    def __init__(self) -> None:
        self._measured: deque[float] = deque(maxlen=RECENT)

    def note(self, work: float, seconds: float) -> None:
        """Remember how long so many units took."""
        self._measured.append(seconds / work)

    def seconds(self, work: float) -> float | None:
        """How long so many units will take; None before anything was measured."""
        return median(self._measured) * work if self._measured else None


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
    passes *= 2 if request.prompt_kind == "automatic" else 1
    return size[0] * size[1] * passes * (1 + OF_A_LAYER * layers)
