"""Where memory is too little for a generation: what would fit, in one sentence."""

from dataclasses import dataclass, replace

import torch

from maquette.errors import MaquetteError
from maquette.foundation.memory import return_freed
from maquette.sampling.memory.free import free_memory
from maquette.sampling.memory.need import ALWAYS, Request

PER_PIXEL = 2**13
"""Bytes, more than any base takes for a pixel: where so many are free, nothing is estimated."""

MARGIN = 1.25
"""How much more than its estimate must be free for what is recommended."""


def check_memory(request: Request) -> None:
    """Refuse what the machine's own memory is too little for: the system would end the process without a word.

    A device of its own says so by itself.

    Raises `MaquetteError` with what would fit.
    """
    if request.base.device.type != "cpu":
        return
    (width, height), free = request.size, free_memory()
    if free is None or request.batch * width * height * PER_PIXEL <= free:
        return
    return_freed()
    free, needs = free_memory(), _needs(request)
    if free is not None and needs is not None and max(needs.values()) > free:
        raise too_little(request)


def too_little(request: Request) -> MaquetteError:
    """The error for a request that does not fit, after all that it had allocated is free again."""
    error = MaquetteError(_sentence(request))
    error.field = "size"
    return error


def _sentence(request: Request) -> str:
    width, height = request.size
    images = f"{request.batch} images of {width}×{height} pixels" if request.batch > 1 else f"{width}×{height} pixels"
    start = f"The memory of {_name(request.base.device)} is too little for {images}"
    room, needs, low = _room(request), _needs(request), _needs(replace(request, low_memory=True))
    if needs is None or low is None or room is None:
        return (
            f"{start}; take a smaller size or batch, a lower precision (--dtype bfloat16), or low_memory=True "
            "(--low-memory)."
        )
    held = request.weights()
    work = max(needs, key=lambda name: held[name] + needs[name])
    known = max(0, room - held[work])
    free = f"{_gib(known)} are free" if known < needs[work] else "less is free in one piece"
    room = min(room, held[work] + needs[work] - 1)  # it did not fit, whatever the estimate says
    ways = _Room(request, room, {False: needs, True: low}).ways()
    advice = f"{' or '.join(ways)} would fit" if ways else "no smaller size fits either, another device may"
    return f"{start}: {work} takes about {_gib(needs[work])} beside the weights, {free}; {advice}."


@dataclass(frozen=True)
class _Room:
    """What fits beside a request that does not.

    Args:
        room: bytes for weights and all else.
        needs: those of the request, without and with low memory.
    """

    request: Request
    room: int
    needs: dict[bool, dict[str, int]]

    def ways(self) -> list[str]:
        """Settings that fit, from what costs least; empty if none does."""
        size, batch, is_low = self.request.size, self.request.batch, self.request.low_memory
        if batch > 1 and self._fits(size, 1, is_low):
            return ["batch_size=1 (--count 1)"]
        one = "batch_size=1 (--count 1) with " if batch > 1 else ""
        low = "low_memory=True (--low-memory)"
        ways = [low] if not is_low and self._fits(size, 1, True) else []
        if smaller := self._largest(is_low):
            ways.append(_size(smaller))
        elif not is_low and not ways and (smaller := self._largest(True)):
            ways.append(f"{low} with {_size(smaller)}")
        return [one + way for way in ways]

    def _fits(self, size: tuple[int, int], batch: int, low: bool) -> bool:
        """Whether it does, if a need grows as the pixels do, and the batch but where images are decoded one by one."""
        pixels = size[0] * size[1] / (self.request.size[0] * self.request.size[1])
        held = replace(self.request, low_memory=low).weights()
        for work, need in self.needs[low].items():
            rows = 1.0 if low and work == "decoding" else batch / self.request.batch
            if held[work] + MARGIN * (ALWAYS + (need - ALWAYS) * pixels * rows) > self.room:
                return False
        return all(weights <= self.room for weights in held.values())

    def _largest(self, low: bool) -> tuple[int, int] | None:
        """The largest size of about the request's proportions, below it, of which one image fits."""
        step, (width, height) = self.request.base.size_multiple, self.request.size
        count = max(width, height) // step
        for part in reversed(range(1, count)):
            size = tuple(max(step, side * part // (count * step) * step) for side in (width, height))
            if self._fits((size[0], size[1]), 1, low):
                return size[0], size[1]
        return None


def _needs(request: Request) -> dict[str, int] | None:
    """None for networks whose shapes depend on values, or that do something unknown to the estimate."""
    try:
        return request.needs()
    except Exception:  # an estimate is no reason for another error
        return None


def _room(request: Request) -> int | None:
    """Bytes on the base's device, free or of its weights; None where the device does not say it."""
    device = request.base.device
    if device.type == "cuda":
        torch.cuda.empty_cache()
        free: int | None = torch.cuda.mem_get_info(device)[0]
    else:
        return_freed()
        free = free_memory() if device.type == "cpu" else None
    resident = 0 if request.base.execution_device else request.weights()["denoising"]
    return None if free is None else free + resident


def _name(device: torch.device) -> str:
    return "this machine" if device.type == "cpu" else str(device)


def _size(size: tuple[int, int]) -> str:
    return f"size=({size[0]}, {size[1]}) (--size {size[0]}x{size[1]})"


def _gib(count: int) -> str:
    """Bytes in words."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
