"""What a ControlNet was trained to be given, kept beside its weights, so that misuse is noticed.

Kept as JSON in config.json ("maquette": {"contract": ...}) and in the metadata of the safetensors file
("maquette.contract"), so that either alone is enough.
"""

import json
import warnings
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from torch import Tensor

from maquette.errors import MaquetteError, MaquetteWarning

SAMPLES = 64  # weights in a fingerprint
METADATA = "maquette.contract"

ALIKE = 2**-7  # relative: what rounding to bfloat16 may do to a weight, and fine-tuning exceeds


def fingerprint(unet: Mapping[str, Tensor]) -> tuple[float, ...]:
    """Some weights of a base, spread over all of them by name: the same, up to rounding, in any precision."""
    names = sorted(name for name in unet if name.endswith("weight") and "norm" not in name)
    chosen = [unet[names[number * len(names) // SAMPLES]] for number in range(SAMPLES)]
    drawn = (float(one.flatten()[(number * 7919) % one.numel()]) for number, one in enumerate(chosen))
    return tuple(float(f"{value:.6g}") for value in drawn)


def _parsed(words: str) -> dict[str, Any] | None:
    try:
        own = json.loads(words)
    except json.JSONDecodeError:
        own = words
    if own is not None and not isinstance(own, dict):
        raise MaquetteError(f"The contract among the weights' metadata is not JSON: {words[:40]!r}; fetch them anew.")
    return own


@dataclass(frozen=True)
class Contract:
    """The defaults are what every published ControlNet expects; `stated` says whether this one said so itself."""

    stated: bool = False
    condition_range: tuple[float, float] = (0.0, 1.0)  # of the condition's values
    channel_order: Literal["rgb", "bgr"] = "rgb"
    detector: str | None = None  # what drew its conditions
    detector_version: str | None = None  # package and version
    detector_options: str | None = None  # in words
    resize: str | None = None  # how maps came to the images' size
    base: str | None = None  # the base it was trained on, by name
    base_fingerprint: tuple[float, ...] | None = None  # `fingerprint` of that base
    prompt_drop: float | None = None  # share of empty prompts in training
    optimizer_steps: int | None = None
    pooled: bool = False  # shuffle: residuals are averaged over the image, in the conditional branch alone

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "stated" and value is not None}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Contract":
        if "optimiser_steps" in values:  # as version 0.1 wrote it
            values = {"optimizer_steps": values["optimiser_steps"], **values}
        known = {field.name for field in fields(Contract)}
        own: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items() if key in known
        }
        return Contract(**{**own, "stated": True})

    @staticmethod
    def read(config: Mapping[str, Any], metadata: Mapping[str, str]) -> "Contract":
        """From config.json or the weights' metadata; without either, the published defaults.

        diffusers' own two words in config.json count too: `global_pool_conditions` and
        `controlnet_conditioning_channel_order`.
        """
        own = config.get("maquette", {}).get("contract") or _parsed(metadata.get(METADATA, "null"))
        if own is not None:
            return Contract.from_json(own)
        order = config.get("controlnet_conditioning_channel_order", "rgb")
        return Contract(channel_order=order, pooled=bool(config.get("global_pool_conditions")))

    def belongs_to(self, other: Sequence[float]) -> bool | None:
        """Whether a base of this fingerprint is the one it was trained on; None where it does not say."""
        own = self.base_fingerprint
        if own is None:
            return None
        if len(own) != len(other):
            return False
        return all(abs(a - b) <= ALIKE * abs(a) + 1e-6 for a, b in zip(own, other, strict=True))

    def check_detector(self, name: str, known: Container[str]) -> None:
        """Warn where maps of this detector are not what it was trained on; one that does not say takes any.

        A detector of the diorama's own differs from the one of that name for photographs; where there is none, as for
        edges, the one for all images drew its maps.

        Args:
            known: the names of all detectors.
        """
        trained = self.detector if self.detector in known else (self.detector or name).rsplit("/")[-1]
        if trained != name:
            warnings.warn(
                f"This ControlNet was trained on maps of {self.detector!r} and is given {name!r}: it may follow them "
                f"badly. Take a ControlNet for {name}, or the condition it knows.",
                MaquetteWarning,
                stacklevel=2,
            )
