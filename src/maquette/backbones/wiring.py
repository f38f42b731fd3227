"""Which output of a ControlNet goes to which slots of a base: a tuple of slot numbers per output.

A ControlNet on a transformer has fewer outputs than the base has blocks, and published families spread them by
different rules. A rule says which output each slot receives; an output that no slot receives is never computed.
"""

import math
from collections.abc import Sequence

Wiring = tuple[tuple[int, ...], ...]


def identity(slots: int) -> Wiring:
    """Output i goes to slot i: U-Nets."""
    return _spread(slots, range(slots))


def ceil(outputs: int, slots: int) -> Wiring:
    """Slot i gets output i // ceil(slots / outputs): Flux, Qwen-Image. The last outputs may be unused."""
    slots_per_output = math.ceil(slots / outputs)
    return _spread(outputs, [slot // slots_per_output for slot in range(slots)])


def floor(outputs: int, blocks: int, slots: int | None = None) -> Wiring:
    """Slot i gets output int(i / (blocks / outputs)): Stable Diffusion 3.

    Args:
        blocks: number of blocks in the base.
        slots: number of slots, if only the first blocks take residuals.
    """
    return _spread(outputs, [int(slot / (blocks / outputs)) for slot in range(blocks if slots is None else slots)])


def modulo(outputs: int, slots: int) -> Wiring:
    """Slot i gets output i mod outputs: XLabs' ControlNets for Flux."""
    return _spread(outputs, [slot % outputs for slot in range(slots)])


def shifted(outputs: int, by: int = 1) -> Wiring:
    """Output j goes to slot j + by, earlier slots get none: Sana, PixArt."""
    return tuple((output + by,) for output in range(outputs))


def places(slots: Sequence[int]) -> Wiring:
    """Output j goes to slot `slots[j]`: VACE."""
    return tuple((slot,) for slot in slots)


def last_alone(wiring: Wiring) -> Wiring:
    """Only the last output is used: training with the middle block's residual alone."""
    return (*((),) * (len(wiring) - 1), wiring[-1])


def used(wiring: Wiring) -> int:
    """How many outputs must be computed: up to the last one in use."""
    return max((number + 1 for number, slots in enumerate(wiring) if slots), default=0)


def _spread(outputs: int, output_of: Sequence[int]) -> Wiring:
    """A wiring from the output number of each slot."""
    return tuple(tuple(slot for slot, output in enumerate(output_of) if output == number) for number in range(outputs))
