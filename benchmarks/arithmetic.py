"""Linear maps, attention and convolutions of Stable Diffusion 1.5's shapes: PyTorch's way and ours, on a CPU.

    OMP_NUM_THREADS=1 python benchmarks/arithmetic.py --dtype float32

Prints milliseconds of the processor, the least of five runs, and how far the two results are from that of double
precision, as shares of its deviation.
"""

import argparse
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from maquette.arithmetic.attention import attend
from maquette.arithmetic.products import linear
from maquette.arithmetic.winograd import convolved

LINEAR = ((8192, 320, 320), (8192, 320, 2560), (2048, 640, 5120), (512, 1280, 10240), (154, 768, 320))
"""Rows, numbers in, numbers out."""
ATTENTION = (
    (16, 4096, 4096, 40),
    (16, 1024, 1024, 80),
    (16, 256, 256, 160),
    (16, 4096, 77, 40),
    (16, 1024, 77, 80),
    (16, 256, 77, 160),
    (1, 4096, 4096, 512),
)
"""Heads of both rows of guidance, queries, keys, width of a head; the last is the autoencoder's."""
CONVOLUTION = ((2, 320, 64), (2, 640, 32), (2, 1280, 32), (1, 512, 64), (1, 512, 128), (1, 256, 256))
"""Rows, channels in and out, cells along a side."""

Way = Callable[..., Tensor]


def cases() -> Iterator[tuple[str, Way, Way, list[Tensor]]]:
    """What is computed, PyTorch's way, ours, and normal numbers to compute it of."""
    for rows, inside, outside in LINEAR:
        yield f"linear {rows} × {inside} → {outside}", F.linear, linear, _normal((rows, inside), (outside, inside))
    for heads, queries, keys, width in ATTENTION:
        states = _normal((1, heads, queries, width), (1, heads, keys, width), (1, heads, keys, width))
        name = f"attention {heads} × {queries} × {keys}, {width}"
        yield name, F.scaled_dot_product_attention, attend, states
    for rows, channels, side in CONVOLUTION:
        x, weight = _normal((rows, channels, side, side), (channels, channels, 3, 3))
        given = [value.contiguous(memory_format=torch.channels_last) for value in (x, weight)]
        yield f"convolution {rows} × {channels}, {side} × {side}", _plain, _ours, given


def _normal(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def _plain(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, padding=1)


def _ours(x: Tensor, weight: Tensor) -> Tensor:
    return convolved(x, weight, None)


def measure(way: Way, given: list[Tensor], exact: Tensor) -> str:
    """Milliseconds, and the difference from the exact result."""
    result, least = way(*given), float("inf")
    for _ in range(5):
        started = time.process_time()
        way(*given)
        least = min(least, time.process_time() - started)
    return f"{1000 * least:.3g} | {float((result.double() - exact).std() / exact.std()):.0e}"


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dtype", default="float32")
    dtype = getattr(torch, parser.parse_args().dtype)
    print("| | PyTorch | apart | here | apart |\n| --- | --- | --- | --- | --- |")
    for name, plain, ours, given in cases():
        exact = plain(*(value.double() for value in given))
        rounded = [value.to(dtype) for value in given]
        print(f"| {name} | {measure(plain, rounded, exact)} | {measure(ours, rounded, exact)} |", flush=True)


if __name__ == "__main__":
    main()
