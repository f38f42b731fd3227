"""What the values in an image's record may be. This module does not import torch."""

from collections.abc import Mapping
from typing import Any

from maquette.controlnet.choices import STRONGEST, Balance, Branch
from maquette.errors import MaquetteError, shortened
from maquette.foundation.reading.documents import parse_json
from maquette.foundation.reading.rules import Rule, check_values, either, listed, optional, table, typed
from maquette.foundation.settings import FilePrediction
from maquette.sampling.config import MOST_SEEDS, MOST_STEPS, WIDEST_FEATHER, ConditionIn, ResolutionWeights
from maquette.sampling.speed import MOST_REUSE, Decoder, Speed

ADVICE = "another program has changed it; take the image as it was written"

_TEXT, _SHARE = typed(str), typed(float, 0, 1)
_FACTOR = typed(float, 0, STRONGEST)

CONTROL: dict[str, Rule] = {
    "controlnet": _TEXT,
    "map": _TEXT,
    "weight": either(_FACTOR, listed(_FACTOR, 1, 1000)),
    "start": _SHARE,
    "end": _SHARE,
    "mask": optional(_TEXT),
    "balance": typed(Balance),
    "curve": optional(listed(listed(_FACTOR, 2, 2), 1, 1000)),
    "branch": optional(typed(Branch)),
    "hash": optional(_TEXT),
    "map_hash": optional(_TEXT),
    "type": optional(_TEXT),
    "paint": optional(_TEXT),
    "picture": optional(_TEXT),
}

LORA: dict[str, Rule] = {"file": _TEXT, "weight": typed(float, -1000, 1000), "sha256": optional(_TEXT)}

SETTINGS: dict[str, Rule] = {
    "steps": optional(typed(int, 1, MOST_STEPS)),
    "guidance": optional(typed(float, 0, 50)),
    "distilled_guidance": optional(typed(float, 0, 50)),
    "condition_in": typed(ConditionIn),
    "resolution_weights": typed(ResolutionWeights),
    "sampler": optional(_TEXT),
    "strength": _SHARE,
    "feather": optional(typed(int, 0, WIDEST_FEATHER)),
    "seed": typed(int, 0, MOST_SEEDS),
    "count": typed(int, 1),
    "size": listed(typed(int, 1, 2**15), 2, 2),
    "negative_prompt": _TEXT,
    "batch_size": typed(int, 1),
    "speed": typed(Speed),
    "guidance_interval": optional(listed(_SHARE, 2, 2)),
    "reuse": optional(typed(int, 1, MOST_REUSE)),
    "decoder": optional(typed(Decoder)),
}
"""The arguments of `generate` that a record may hold: all that it holds are given to it."""

RECORD: dict[str, Rule] = {
    "base": _TEXT,
    "prompt": _TEXT,
    "dtype": _TEXT,
    "settings": table(SETTINGS),
    "controls": listed(table(CONTROL), 0, 1000),
    "number": typed(int, 0),
    "device": _TEXT,
    "base_hash": optional(_TEXT),
    "image": optional(_TEXT),
    "mask": optional(_TEXT),
    "prediction": optional(typed(FilePrediction)),
    "loras": listed(table(LORA), 0, 1000),
    "versions": table({}),
    "unrecorded": listed(_TEXT, 0, 1000),
    "tiny_decoder": optional(_TEXT),
    "decoder_hash": optional(_TEXT),
    "pixels": optional(_TEXT),
}


def read_record(text: str, source: str, names: Mapping[str, set[str]]) -> dict[str, Any]:
    """The values of a record, checked.

    Args:
        source: the file, for messages.
        names: the fields of a "record" and of a "control" in it.

    Raises `MaquetteError` for a text that is no record.
    """
    try:
        values = parse_json(text)
    except ValueError as error:
        raise MaquetteError(f"The record of {source!r} is not JSON ({error}); {ADVICE}.") from error
    needed = ("base", "prompt", "dtype", "settings")
    read = check_values(values, RECORD, source, ADVICE, needed)
    for control in read.get("controls", []):
        check_values(control, CONTROL, source, ADVICE, ("controlnet", "map"))
    for lora in read.get("loras", []):
        check_values(lora, LORA, source, ADVICE, ("file",))
    check_values(read["settings"], SETTINGS, source, ADVICE, ("seed", "count", "size"))
    strange = read.keys() - names["record"] | read["settings"].keys() - SETTINGS.keys()
    strange |= {name for control in read.get("controls", []) for name in control.keys() - names["control"]}
    strange |= {name for lora in read.get("loras", []) for name in lora.keys() - LORA.keys()}
    if strange:
        raise MaquetteError(
            f"The record of {source!r} has {shortened(min(strange))!r}, which this version does not know; it was "
            "written by a later version, or changed by another program."
        )
    return read
