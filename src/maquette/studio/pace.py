"""How long requests take, as measured on those before."""

from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any

from maquette.noise.choices import steps_taken
from maquette.studio.requests.request import Request

RECENT = 9  # measurements that the estimate is the median of
OF_THE_ENCODER = 0.5  # the encoder's share of a base's cost, which steps may share
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


def work_of(request: Request, size: tuple[int, int], parts: Mapping[str, Any], guidance: float) -> float:
    """The units of one picture of a request.

    Args:
        size: (width, height) in pixels.
        parts: `Request.parts`.
        guidance: that of the request, or the base's; at 1 there is one branch instead of two.
    """
    steps = parts["steps"]
    taken = steps if request.image is None else steps_taken(steps, request.strength)
    layers = sum(layer.end - layer.start for layer in request.layers)
    start, end = parts["guidance_interval"]
    passes = taken * (2 if parts["sampler"] == "heun" else 1) * (1 if guidance == 1 else 1 + end - start)
    kept = 1 - OF_THE_ENCODER * (1 - 1 / parts["reuse"])
    controls = OF_A_LAYER * layers / parts["reuse"]
    return size[0] * size[1] * passes * passes_of(request) * (kept + controls)


def passes_of(request: Request) -> int:
    """Generations of a picture: an automatic prompt describes a first one."""
    return 2 if request.prompt_kind == "automatic" else 1
