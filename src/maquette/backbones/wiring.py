"""Which output of a ControlNet goes to which slots of a base: a tuple of slot numbers for each output.

A ControlNet on a transformer has fewer outputs than the base has blocks, and published families spread them by
different rules. The rules say which output a slot gets; an output that no slot gets is never computed.
"""

import math
from collections.abc import Sequence

Wiring = tuple[tuple[int, ...], ...]


def identity(slots: int) -> Wiring:
    """As many outputs as slots, each at its own: U-Nets."""
    return _spread(slots, range(slots))


def ceil(outputs: int, slots: int) -> Wiring:
    """Slot i gets output i // ceil(slots / outputs): Flux, Qwen-Image. The last outputs may go nowhere."""
    each = math.ceil(slots / outputs)
    return _spread(outputs, [slot // each for slot in range(slots)])


def floor(outputs: int, blocks: int, slots: int | None = None) -> Wiring:
    """Slot i gets output int(i / (blocks / outputs)): Stable Diffusion 3.

    Args:
        blocks: of the base, by which the rule goes.
        slots: of the base, where fewer than its blocks take residuals: the first ones.
    """
    return _spread(outputs, [int(slot / (blocks / outputs)) for slot in range(blocks if slots is None else slots)])


def modulo(outputs: int, slots: int) -> Wiring:
    """Slot i gets output i mod outputs: XLabs' ControlNets for Flux."""
    return _spread(outputs, [slot % outputs for slot in range(slots)])


def shifted(outputs: int, by: int = 1) -> Wiring:
    """Output j goes to slot j + by, the slots before get none: Sana, PixArt."""
    return tuple((output + by,) for output in range(outputs))


def places(slots: Sequence[int]) -> Wiring:
    """Output j goes to the slot with the j-th number: ControlNets in the manner of VACE."""
    return tuple((slot,) for slot in slots)


def last_alone(wiring: Wiring) -> Wiring:
    """The last output where it goes, the others nowhere: training with the middle block's residual alone."""
    return (*((),) * (len(wiring) - 1), wiring[-1])


def used(wiring: Wiring) -> int:
    """How many outputs have to be computed: up to the last one that goes anywhere."""
    return max((number + 1 for number, slots in enumerate(wiring) if slots), default=0)


def _spread(outputs: int, of_slots: Sequence[int]) -> Wiring:
    return tuple(tuple(slot for slot, output in enumerate(of_slots) if output == number) for number in range(outputs))
