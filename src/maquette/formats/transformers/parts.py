"""Tensors that files store as one and networks have as several, such as queries, keys and values."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from maquette.foundation.weights import Weights


@dataclass(frozen=True)
class Part:
    """Rows of a stored tensor."""

    stored: str
    first: int
    rows: int
    swapped: bool = False  # whether its halves are in the other order


def taken_apart(weights: Weights, parts: Mapping[str, Part]) -> Weights:
    """The parts by name, read lazily."""
    shapes = {name: (part.rows, *weights.shapes[part.stored][1:]) for name, part in parts.items()}

    def read(name: str) -> Tensor:
        """In the same shape as in `shapes`, (N, ...)."""
        part = parts[name]
        rows = weights[part.stored][part.first : part.first + part.rows]
        return torch.cat([*reversed(rows.chunk(2))]) if part.swapped else rows.clone()

    return Weights(weights.source, shapes, read, weights.metadata)
