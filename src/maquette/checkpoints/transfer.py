"""Transferring a ControlNet to another base of the same family by adding the difference of the two bases."""

import json
from dataclasses import replace
from pathlib import Path

from maquette.checkpoints import controlnets
from maquette.checkpoints.bases import base_weights
from maquette.checkpoints.convert import describe, encoder_weights
from maquette.controlnet.contract import METADATA, fingerprint
from maquette.controlnet.save import WEIGHTS, write_config
from maquette.errors import MaquetteError
from maquette.formats.control import read_control, transferred
from maquette.formats.write import write_weights
from maquette.foundation.weights import Weights


def transfer(source: str | Path, old: str | Path, new: str | Path, target: str | Path) -> Path:
    """Write `source`, trained on the base `old`, for the base `new`, as a folder in diffusers' format.

    Copied weights gain the difference of the two bases; zero convolutions and condition encoder stay as they are.

    Raises `MaquetteError` for bases of different families, or if the ControlNet was trained on a third one.
    """
    source, target = Path(source), Path(target)
    from_base, to_base = base_weights(old), base_weights(new)
    _check_alike(from_base, to_base)
    kept, weights = controlnets.opened(source)
    control = read_control(weights, encoder_weights(from_base))
    config = kept or describe(control)
    contract = controlnets.read_contract(source, config, weights.metadata)
    if contract.belongs_to(fingerprint(from_base)) is False:
        raise MaquetteError(f"{str(source)!r} was trained on {contract.base!r}, not on {str(old)!r}; give that base.")
    moved = replace(contract, stated=True, base=str(new), base_fingerprint=fingerprint(to_base)).to_json()
    settings = {**config.get("maquette", {}), "contract": moved}
    tensors = transferred(control, encoder_weights(from_base), encoder_weights(to_base))
    write_weights(tensors, target / WEIGHTS, {**control.metadata, METADATA: json.dumps(moved)})
    write_config(target, {**config, "global_pool_conditions": contract.pooled, "maquette": settings})
    return target


def _check_alike(old: Weights, new: Weights) -> None:
    for name, shape in encoder_weights(old).shapes.items():
        if new.shapes.get(name) != shape:
            raise MaquetteError(
                f"{str(old.source)!r} and {str(new.source)!r} are of different families ({name!r} has the shapes "
                f"{shape} and {new.shapes.get(name)}); a ControlNet can only be transferred within a family."
            )
