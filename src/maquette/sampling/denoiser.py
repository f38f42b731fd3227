"""The denoiser: what a sampler sees of the base, its controls and its guidance, as one function."""

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
    """A control with its condition maps encoded: E(c) once a generation."""

    control: Control
    maps: Tensor  # (1 or as many as images, 3, H, W)
    features: Tensor  # (1 or as many as there are maps here, C, h, w)

    @staticmethod
    def of(base: Base, control: Control, size: tuple[int, int], count: int) -> "EncodedControl":
        """One map for all images is encoded here; of one each, the batch that is at work.

        Raises `MaquetteError` for a condition tensor of another shape.
        """
        maps = control.condition
        if isinstance(maps, Image.Image):
            maps = to_unit(fit(maps, size))[None]
        wanted = (3, size[1], size[0])
        if maps.ndim != 4 or maps.shape[0] not in (1, count) or tuple(maps.shape[1:]) != wanted:
            raise MaquetteError(
                f"A condition tensor is (1 or {count}, 3, height, width) in [0, 1] at the images' size, here "
                f"{wanted}, not {tuple(maps.shape)}."
            )
        shared = len(maps) == 1
        return EncodedControl(control, maps, _encode(base, control, maps) if shared else torch.empty(0))

    def rows(self, base: Base, start: int, count: int) -> "EncodedControl":
        """For some of the images."""
        if len(self.maps) == 1:
            return self
        return EncodedControl(self.control, self.maps, _encode(base, self.control, self.maps[start : start + count]))

    def residuals(self, latents: Tensor, timestep: Tensor, text: Conditioning) -> Residuals:
        """For a batch of latents (B, C, h, w), or for its two branches one after the other."""
        features = self.features
        if len(features) not in (1, len(latents)):
            features = features.repeat(len(latents) // len(features), 1, 1, 1)
        return self.control.net(latents, timestep, text, features).scaled(self.control.weight)


@torch.no_grad()
def _encode(base: Base, control: Control, maps: Tensor) -> Tensor:
    """E(c) of condition maps (N, 3, H, W), with the network on the device for that time."""
    with base.on_device(control.net):
        return control.net.encode(control.net.condition_input(maps, base.encode_maps))


class Denoiser:
    """The guided prediction of a base under its controls.

    With guidance there are two branches, run as one batch: the negative prompt's first, then the prompts'.

    Args:
        text: of a batch's prompts, B rows.
        negative: of the prompt to lead away from, one row.
        conditions: for the batch's rows.
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
        """The prediction for latents x (B, C, h, w) at a time (), like x in shape, float32.

        Args:
            step, steps: which of how many: controls are on for a share of them.
        """
        x = x.to(self.base.dtype)
        both = torch.cat([x, x]) if self.guided else x
        active = [one for one in self.conditions if one.control.active(step, steps)]
        residuals = self._residuals(active, both, time) if active else None
        prediction = self.base.predict(both, time, self.text, residuals).float()
        if not self.guided:
            return prediction
        negative, positive = prediction.chunk(2)
        return classifier_free(negative, positive, self.sampling.guidance)

    def _branches_agree(self, text: Conditioning, negative: Conditioning) -> bool:
        """Whether both branches would be the same: the same words, and every condition in both."""
        conditional_only = self.sampling.condition_in != "both" or any(_pooled(one) for one in self.conditions)
        return not conditional_only and text.is_all(negative)

    def _residuals(self, active: Sequence[EncodedControl], x: Tensor, time: Tensor) -> Residuals:
        """The sum over the controls that are on in this step, for x (B or 2 B, C, h, w).

        With the condition in the conditional branch alone, only that half of the batch is run.
        """
        half = len(x) // 2 if self.guided else 0
        parts = []
        for one in active:
            left_out = half if self.sampling.condition_in != "both" or _pooled(one) else 0
            rows = slice(left_out, None)
            parts.append(one.residuals(x[rows], time, self.text[rows]).pad_front(left_out))
        added = sum_residuals(parts)
        if self.sampling.condition_in != "weighted":
            return added
        return added.scaled(resolution_weights(self.base.backbone.slots, self.sampling.resolution_weights))


def _pooled(condition: EncodedControl) -> bool:
    """Whether the ControlNet is made for the conditional branch alone."""
    return condition.control.net.contract.pooled
