"""How far bfloat16 is from float32 in final latents, and what each faster way adds to that, on the diorama.

python benchmarks/rounding.py

The diorama's networks are too small for most of these ways: their thresholds are lowered, so that every attention and
every convolution of 3 × 3 takes them. The last line is Winograd's way in float32.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch

import maquette as mq
from maquette.arithmetic import attention, fast
from maquette.diorama.dataset import TEST

IMAGES = 4


def latents(dtype: str) -> torch.Tensor:
    """(IMAGES, C, h, w) of unseen scenes by their edges and captions."""
    base = mq.load_base("diorama", device="cpu", dtype=dtype)
    scenes = [mq.diorama.scene(TEST + number) for number in range(IMAGES)]
    control = mq.Control(mq.load_controlnet("diorama/canny", base), [mq.detect("canny", one.image) for one in scenes])
    return mq.generate(base, [one.caption for one in scenes], control, returns="latents")


@contextmanager
def ways(powers: bool = False, tiles: bool = False) -> Iterator[None]:
    """Attention by powers of two and convolutions in tiles, everywhere or nowhere."""
    long, cells = (0 if used else 10**9 for used in (powers, tiles))
    with (
        patch.multiple(attention, LONG=long, REGISTER=128 if powers else attention.REGISTER),
        patch.multiple(fast, TILED_CELLS=cells, TILED_CHANNELS=0),
    ):
        yield


def main() -> None:
    with ways():
        exact = latents("float32")
    for name, powers, tiles, dtype in (
        ("attention in blocks", False, False, "bfloat16"),
        ("by powers of two", True, False, "bfloat16"),
        ("convolutions in tiles", False, True, "bfloat16"),
        ("convolutions in tiles, float32", False, True, "float32"),
    ):
        with ways(powers, tiles):
            found = latents(dtype)
        print(f"{name}: {float((found - exact).std() / exact.std()):.2e} of the latents' deviation")


if __name__ == "__main__":
    main()
