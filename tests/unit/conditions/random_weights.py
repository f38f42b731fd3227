"""Weights by a formula, for networks whose published ones are too large to be brought or fetched."""

from binascii import crc32
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from maquette.conditions.networks.hed import Hed
from maquette.conditions.networks.lineart import Drawer, Sketcher
from maquette.conditions.networks.mlsd import Large, Tiny

NETWORKS: dict[str, type[nn.Module]] = {
    "mlsd": Tiny,
    "mlsd_large": Large,
    "hed": Hed,
    "lineart": Drawer,
    "lineart_anime": Sketcher,
}


def by_formula(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Tensors for names and shapes, the same wherever this runs.

    A tensor's numbers are the raw 64 bits of PCG64, seeded with the CRC-32 of its name, as evenly spread u in [-1, 1).
    Weights of convolutions are u √(3 / fan-in), where fan-in is all but the first axis. Of vectors, variances and
    scales are 1 + u / 2 and the rest are u / 10; the mean colour of HED is 120 + 20 u; counters are 0.
    """
    return {name: _tensor(name, shape) for name, shape in shapes.items()}


def _tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    count = int(np.prod(shape))
    raw = np.random.PCG64(crc32(name.encode())).random_raw(count) >> np.uint64(11)
    u = raw.astype(np.float64) * 2.0**-52 - 1
    if name == "norm":
        u = 120 + 20 * u
    elif len(shape) > 1:
        u *= np.sqrt(3 / np.prod(shape[1:]))
    else:
        u = 1 + u / 2 if name.endswith(("weight", "running_var")) else u / 10
    return torch.from_numpy(u.astype(np.float32).reshape(shape))


def write_random(name: str, folder: Path) -> Path:
    """A file of weights that the detector opens: "mlsd" (its tiny network), "hed", "lineart" or "lineart_anime"."""
    with torch.device("meta"):
        network = NETWORKS[name]()
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    path = folder / f"{name}.pth"
    torch.save(by_formula(shapes), path)
    return path
