"""Loading of detector networks: strict, and without random initialisation."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from re import Pattern
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

WRAPPED = "module."  # prefix of torch's DataParallel


def open_network(
    detector: str,
    known: Mapping[str, WeightSource],
    weights: str | Path | None,
    device: str,
    build: Callable[[Weights], N],
    unused: Pattern[str] | None = None,
) -> N:
    """A network with its weights, in float32, in evaluation mode.

    Args:
        known: its published weights, one file each.
        weights: a name among `known`, a file, a folder with one of those files, or None for the first of `known`.
        device: as for `torch.device`, or "auto".
        build: makes the network for a file's tensors; called on the meta device.
        unused: matches the names of tensors that do not matter, whether the file or the network lacks them.

    Raises `MaquetteError` for weights that cannot be loaded, and for those of another network.
    """
    place = find_placement(device, "float32").device
    path = _file(detector, known, weights)
    tensors = open_weights(path)
    if all(name.startswith(WRAPPED) for name in tensors):
        tensors = tensors.below(WRAPPED)
    if unused is not None:
        tensors = tensors.renamed({name: name for name in tensors if not unused.match(name)})
    with torch.device("meta"):
        network = build(tensors)
    _check(detector, path, network, tensors, unused)
    network.load_state_dict(dict(tensors), assign=True)
    return network.float().to(place).eval().requires_grad_(False)


def batch_of(images: Sequence[Image.Image], network: nn.Module) -> Tensor:
    """RGB images of one size as (B, 3, H, W) in [0, 1], on a network's device."""
    place = next(network.parameters()).device
    return torch.stack([to_unit(image) for image in images]).to(place)


def _file(detector: str, known: Mapping[str, WeightSource], weights: str | Path | None) -> Path:
    path = locate(detector, known, weights)
    if not path.is_dir():
        return path
    names = [Path(name).name for source in known.values() for name in source.files]
    for name in names:
        if (path / name).is_file():
            return path / name
    raise MaquetteError(f"The folder {str(path)!r} holds no weights of {detector}: none of {', '.join(names)}.")


def _check(detector: str, path: Path, network: nn.Module, tensors: Weights, unused: Pattern[str] | None) -> None:
    state = network.state_dict()
    expected = {name: tuple(state[name].shape) for name in state if unused is None or not unused.match(name)}
    wrong = [name for name, shape in expected.items() if tensors.shapes.get(name) != shape]
    extra = [name for name in tensors if name not in expected]
    if wrong or extra:
        raise MaquetteError(
            f"{str(path)!r} holds no weights of {detector}: {len(wrong)} of its {len(expected)} tensors are missing or "
            f"of another shape, and {len(extra)} are unexpected, {(wrong + extra)[0]!r} first; give the file that was "
            "published for it."
        )
