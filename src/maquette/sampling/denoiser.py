"""The denoiser: base, controls and guidance as one function, which is all that a sampler calls."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from maquette.backbones.residuals import Residuals
from maquette.base import Base
from maquette.controlnet.control import Control, sum_residuals
from maquette.errors import MaquetteError
from maquette.foundation.images import fit
from maquette.foundation.pixels import to_unit
from maquette.sampling.config import Sampling
from maquette.sampling.guidance import classifier_free, resolution_weights
from maquette.text.conditioning import Conditioning


@dataclass(frozen=True)
class EncodedControl:
    """A control with its encoded condition maps: E(c), computed once per generation."""

    control: Control
    maps: Tensor  # (1 or number of images, 3, H, W) in [0, 1]
    features: Tensor  # (number of maps, C, h, w); empty until `rows` picks a batch of them

    @staticmethod
    def of(base: Base, control: Control, size: tuple[int, int], count: int) -> "EncodedControl":
        """Encode a map shared by all images; maps per image are encoded batch by batch, in `rows`.

        Raises `MaquetteError` for a condition tensor that is not (1 or count, 3, H, W).
        """
        maps = control.condition
        if isinstance(maps, Image.Image):
            maps = to_unit(fit(maps, size, control.net.contract.kind))[None]
        expected = (3, size[1], size[0])
        if maps.ndim != 4 or maps.shape[0] not in (1, count) or tuple(maps.shape[1:]) != expected:
            raise MaquetteError(
                f"A condition tensor is (1 or {count}, 3, height, width) in [0, 1] at the images' size, here "
                f"{expected}, not {tuple(maps.shape)}."
            )
        shared = len(maps) == 1
        return EncodedControl(control, maps, _encode(base, control, maps) if shared else torch.empty(0))

    def rows(self, base: Base, start: int, count: int) -> "EncodedControl":
        """The control for `count` of the images, from image `start` on."""
        if len(self.maps) == 1:
            return self
        return EncodedControl(self.control, self.maps, _encode(base, self.control, self.maps[start : start + count]))

    def residuals(self, latents: Tensor, timestep: Tensor, text: Conditioning) -> Residuals:
        """Weighted residuals for latents (B, C, h, w), or (2 B, C, h, w) with both guidance branches."""
        features = self.features
        if len(features) not in (1, len(latents)):
            features = features.repeat(len(latents) // len(features), 1, 1, 1)
        return self.control.net(latents, timestep, text, features).scaled(self.control.weight)


@torch.no_grad()
def _encode(base: Base, control: Control, maps: Tensor) -> Tensor:
    """E(c) of condition maps (N, 3, H, W), with the network on the execution device meanwhile."""
    with base.on_device(control.net):
        return control.net.encode(control.net.condition_input(maps, base.encode_maps))


class Denoiser:
    """The guided prediction of a base under its controls.

    With guidance two branches run as one batch: the negative prompt's first, then the prompts'.

    Args:
        text: conditioning of the batch's prompts, B rows.
        negative: conditioning of the negative prompt, one row.
        conditions: encoded controls for the batch's rows.
    """

    def __init__(
        self,
        base: Base,
        text: Conditioning,
        negative: Conditioning,
        conditions: Sequence[EncodedControl],
        sampling: Sampling,
    ) -> None:
        self.base, self.conditions, self.sampling = base, conditions, sampling
        self.guided = sampling.guidance != 1 and not self._branches_agree(text, negative)
        self.text = Conditioning.cat([*[negative] * len(text), text]) if self.guided else text

    def __call__(self, x: Tensor, time: Tensor, step: int, steps: int) -> Tensor:
        """The guided prediction (B, C, h, w) in float32, for latents x (B, C, h, w) at a scalar time ().

        Args:
            step, steps: index and number of steps; they decide which controls are active.
        """
        x = x.to(self.base.dtype)
        both = torch.cat([x, x]) if self.guided else x
        active = [condition for condition in self.conditions if condition.control.active(step, steps)]
        residuals = self._residuals(active, both, time) if active else None
        prediction = self.base.predict(both, time, self.text, residuals).float()
        if not self.guided:
            return prediction
        negative, positive = prediction.chunk(2)
        return classifier_free(negative, positive, self.sampling.guidance)

    def _branches_agree(self, text: Conditioning, negative: Conditioning) -> bool:
        """Whether both branches would be equal: the same prompts, and every condition in both."""
        conditional_only = self.sampling.condition_in != "both" or any(map(_pooled, self.conditions))
        return not conditional_only and text.is_all(negative)

    def _residuals(self, active: Sequence[EncodedControl], x: Tensor, time: Tensor) -> Residuals:
        """Sum over the controls active in this step, for x (B, C, h, w), or (2 B, C, h, w) with guidance.

        A condition that enters the conditional branch alone is computed for that half of the batch only.
        """
        half = len(x) // 2 if self.guided else 0
        parts = []
        for condition in active:
            skipped = half if self.sampling.condition_in != "both" or _pooled(condition) else 0
            rows = slice(skipped, None)
            parts.append(condition.residuals(x[rows], time, self.text[rows]).pad_front(skipped))
        total = sum_residuals(parts)
        if self.sampling.condition_in != "weighted":
            return total
        return total.scaled(resolution_weights(self.base.backbone.slots, self.sampling.resolution_weights))


def _pooled(condition: EncodedControl) -> bool:
    """Whether the ControlNet was trained for the conditional branch alone."""
    return condition.control.net.contract.pooled
