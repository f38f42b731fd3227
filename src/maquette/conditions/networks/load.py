"""How a detector's network comes to its weights: strictly, and without a draw from any random source."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor, nn

from maquette.conditions.weight_sources import WeightSource, locate
from maquette.errors import MaquetteError
from maquette.foundation.devices import find_placement
from maquette.foundation.pixels import to_unit
from maquette.foundation.weights import Weights, open_weights

N = TypeVar("N", bound=nn.Module)

WRAPPED = "module."  # what torch's DataParallel puts before every name


def open_network(
    detector: str,
    known: Mapping[str, WeightSource],
    weights: str | Path | None,
    device: str,
    build: Callable[[Weights], N],
) -> N:
    """A network with all its weights, in float32, ready to look.

    Args:
        known: its published weights, one file each.
        weights: a name among `known`, a file, a folder that holds one of those files, or None for the usual ones.
        device: as `torch.device` takes it, or "auto".
        build: the network that a file of weights is for; it is called where tensors take no memory.

    Raises `MaquetteError` for weights that cannot be had, and for those of another network.
    """
    place = find_placement(device, "float32").device
    path = _file(detector, known, weights)
    held = open_weights(path)
    if all(name.startswith(WRAPPED) for name in held):
        held = held.below(WRAPPED)
    with torch.device("meta"):
        network = build(held)
    _check(detector, path, network, held)
    network.load_state_dict(dict(held), assign=True)
    return network.float().to(place).eval().requires_grad_(False)


def batch_of(images: Sequence[Image.Image], network: nn.Module) -> Tensor:
    """RGB images of one size as (B, 3, H, W) in [0, 1], where a network is."""
    place = next(network.parameters()).device
    return torch.stack([to_unit(image) for image in images]).to(place)


def _file(detector: str, known: Mapping[str, WeightSource], weights: str | Path | None) -> Path:
    path = locate(detector, known, weights)
    if not path.is_dir():
        return path
    names = [Path(name).name for one in known.values() for name in one.files]
    for name in names:
        if (path / name).is_file():
            return path / name
    raise MaquetteError(f"The folder {str(path)!r} holds no weights of {detector}: none of {', '.join(names)}.")


def _check(detector: str, path: Path, network: nn.Module, held: Weights) -> None:
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    wrong = [name for name, shape in wanted.items() if held.shapes.get(name) != shape]
    foreign = [name for name in held if name not in wanted]
    if wrong or foreign:
        raise MaquetteError(
            f"{str(path)!r} holds no weights of {detector}: {len(wrong)} of its {len(wanted)} tensors are missing or "
            f"of another shape, and {len(foreign)} are not its own, {(wrong + foreign)[0]!r} first; give the file that "
            "was published for it."
        )
