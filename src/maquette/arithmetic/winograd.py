"""Convolutions of 3 × 3 at 4/9 of the products, of doubled cells at 1/4: Winograd's, as in Lavin and Gray (2016)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from maquette.arithmetic.products import products

TILES = 512  # of 2 × 2 results at once, which stay in the cache


@dataclass(frozen=True)
class Scheme:
    """Along one side: two neighbouring results as sums of products of sums of cells and sums of the three weights."""

    taps: tuple[tuple[float, float, float], ...]  # how each weight enters each product
    cells: tuple[tuple[int, int, int], ...]  # for each product: a cell, another one and its sign
    stride: int  # cells from one pair of results to the next
    even: tuple[int, ...]  # the signs of the products in the first result
    odd: tuple[int, ...]  # and in the second


PLAIN = Scheme(
    taps=((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
    cells=((0, 2, -1), (1, 2, 1), (2, 1, -1), (1, 3, -1)),
    stride=2,
    even=(1, 1, 1, 0),
    odd=(0, 1, -1, -1),
)
DOUBLED = Scheme(  # where the inner two of four cells are the same: without the product of their difference
    taps=((1, 0, 0), (1, 1, 1), (0, 0, 1)),
    cells=((0, 1, -1), (1, 1, 0), (1, 2, -1)),
    stride=1,
    even=(1, 1, 0),
    odd=(0, 1, -1),
)


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None, scheme: Scheme = PLAIN) -> Tensor:
    """A convolution of x, of even height and width: (B, C, h, w) to (B, D, h, w), channels innermost in memory.

    Equal up to rounding to `conv2d(x, weight, bias, padding=1)`, by weights (D, C, 3, 3). Sums of cells and of weights
    are rounded before they are multiplied. With `DOUBLED` each cell of x, of any size, is doubled first: the result is
    (B, D, 2 h, 2 w).
    """
    count, _, height, width = x.shape
    larger = 2 // scheme.stride
    weights, padded = _weights(weight, scheme), F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    result = x.new_empty((count, larger * height, larger * width, len(weight)))
    pairs = width // scheme.stride
    rows = min(height, scheme.stride * max(1, TILES // pairs))
    images = max(1, scheme.stride * TILES // (rows * pairs))
    for first in range(0, count, images):
        for top in range(0, height, rows):
            cells = padded[first : first + images, top : top + rows + 2]
            places = result[first : first + images, larger * top : larger * (top + rows)]
            _convolve(cells, weights, bias, places, scheme)
    return result.permute(0, 3, 1, 2)


def _weights(weight: Tensor, scheme: Scheme) -> Tensor:
    """(D, C, 3, 3) to (P², D, C), one matrix for each of P² products, the column's number first."""
    taps = torch.tensor(scheme.taps, dtype=weight.dtype, device=weight.device)
    sums = torch.kron(taps, taps) @ weight.permute(3, 2, 0, 1).flatten(2).flatten(0, 1)
    return sums.unflatten(1, weight.shape[:2])


def _convolve(cells: Tensor, weights: Tensor, bias: Tensor | None, result: Tensor, scheme: Scheme) -> None:
    """Into the result (B, H, W, D): cells (B, h + 2, w + 2, C) by weights (P², D, C)."""
    number = len(scheme.taps)
    factors = _factors(_factors(cells, 1, scheme), 3, scheme)
    found = products(factors.flatten(0, 1).flatten(1, 3), weights)
    if bias is not None:
        found[number + 1] += bias  # which is added in all four results
    tiles = found.view(number, *factors.shape[1:-1], -1)
    columns = found.new_empty((2, *tiles.shape[1:]))
    _sums(tiles, columns[0], columns[1], scheme)
    places = result.unflatten(1, (-1, 2)).unflatten(3, (-1, 2))
    for column in (0, 1):
        _sums(columns[column], places[:, :, 0, :, column], places[:, :, 1, :, column], scheme)


def _factors(cells: Tensor, along: int, scheme: Scheme) -> Tensor:
    """(..., n s + 2, ...) to (P, ..., n, ...) for a stride of s: what is multiplied by the sums of weights."""
    length = cells.shape[along] - 2
    at = [cells[(slice(None),) * along + (slice(k, k + length, scheme.stride),)] for k in range(scheme.stride + 2)]
    result = cells.new_empty((len(scheme.cells), *at[0].shape))
    for place, (one, other, sign) in zip(result, scheme.cells, strict=True):
        torch.add(at[one], at[other], alpha=sign, out=place)
    return result


def _sums(products: Tensor, even: Tensor, odd: Tensor, scheme: Scheme) -> None:
    """Two neighbouring results from their products (P, ...)."""
    for result, signs in ((even, scheme.even), (odd, scheme.odd)):
        (first, _), (second, sign), *others = ((number, sign) for number, sign in enumerate(signs) if sign)
        torch.add(products[first], products[second], alpha=sign, out=result)
        for number, sign in others:
            result.add_(products[number], alpha=sign)
