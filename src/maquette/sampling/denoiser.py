"""The denoiser: base, controls and guidance as one function, which is all that a sampler calls."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from maquette.backbones.residuals import Residuals
from maquette.base import Base
from maquette.controlnet.control import Control, sum_residuals
from maquette.errors import MaquetteError
from maquette.foundation.images import fit
from maquette.foundation.pixels import to_unit
from maquette.sampling.config import Guided, Sampling
from maquette.sampling.guidance import classifier_free, resolution_weights
from maquette.sampling.masks import framed_mask, slot_masks
from maquette.text.conditioning import Conditioning


@dataclass(frozen=True)
class EncodedControl:
    """A control with its encoded condition maps, E(c), and its masks: computed once per generation."""

    control: Control
    maps: Tensor  # (1 or number of images, 3, H, W) in [0, 1]
    features: Tensor  # (number of maps, C, h, w); empty until `rows` picks a batch of them
    masks: list[Tensor] | None = None  # (1, 1, h, w) for each slot

    @staticmethod
    def of(base: Base, control: Control, size: tuple[int, int], count: int) -> "EncodedControl":
        """Encode a map shared by all images; maps per image are encoded batch by batch, in `rows`.

        Raises `MaquetteError` unless there are 1 or `count` maps, and for a tensor that is not (1 or count, 3, H, W).
        """
        maps, kind = control.maps, control.net.contract.kind
        if isinstance(maps, list):
            maps = torch.stack([to_unit(fit(image, size, kind)) for image in maps])
        maps, expected = maps.contiguous(), (3, size[1], size[0])
        if maps.ndim != 4 or maps.shape[0] not in (1, count) or tuple(maps.shape[1:]) != expected:
            raise MaquetteError(
                f"A condition tensor is (1 or {count}, 3, height, width) in [0, 1] at the images' size, here "
                f"{expected}, not {tuple(maps.shape)}; of a list there is one map for each image."
            )
        shared = len(maps) == 1
        features = _encode(base, control, maps) if shared else torch.empty(0)
        return EncodedControl(control, maps, features, _masks(base, control, size))

    def rows(self, base: Base, start: int, count: int) -> "EncodedControl":
        """The control for `count` of the images, from image `start` on."""
        if len(self.maps) == 1:
            return self
        return replace(self, features=_encode(base, self.control, self.maps[start : start + count]))

    def residuals(self, latents: Tensor, timestep: Tensor, text: Conditioning, step: int, steps: int) -> Residuals:
        """Weighted residuals in a step for latents (B, C, h, w), or (2 B, C, h, w) with both guidance branches."""
        net, features = self.control.net, self._for_rows(len(latents))
        given = [net.typed(features, self.control.type)] if net.control.types else features
        residuals = net(latents, timestep, text, given)
        return residuals.scaled(self.control.factors(len(residuals), step, steps)).masked(self.masks)

    def _for_rows(self, rows: int) -> Tensor:
        """The features, (1 or rows, C, h, w)."""
        repeats = 1 if len(self.features) in (1, rows) else rows // len(self.features)
        return self.features.repeat(repeats, 1, 1, 1) if repeats > 1 else self.features

    @staticmethod
    def joint(
        group: "Sequence[EncodedControl]", latents: Tensor, timestep: Tensor, text: Conditioning, step: int, steps: int
    ) -> Residuals:
        """The residuals of one union under several conditions, each with its own weight; latents as in `residuals`,
        (B, C, h, w) or (2 B, C, h, w).
        """
        net = group[0].control.net
        given = [
            net.typed(one._for_rows(len(latents)), one.control.type, one.control.factors(1, step, steps)[0])
            for one in group
        ]
        residuals: Residuals = net(latents, timestep, text, given)
        return residuals


@torch.no_grad()
def _encode(base: Base, control: Control, maps: Tensor) -> Tensor:
    """E(c) of condition maps (N, 3, H, W), with the network on the execution device meanwhile."""
    with base.on_device(control.net):
        return control.net.encode(control.net.condition_input(maps, base.encode_maps))


def _masks(base: Base, control: Control, size: tuple[int, int]) -> list[Tensor] | None:
    """A control's mask at the resolution of each slot, (1, 1, h, w)."""
    if control.region is None:
        return None
    mask = framed_mask(control.region, size).to(base.device)
    return [at_slot.to(base.dtype) for at_slot in slot_masks(mask, base.backbone.slots, base.backbone.downscale)]


class Denoiser:
    """The guided prediction of a base under its controls, in three parts: residuals, branches, guidance.

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
        own_guidance = callable(sampling.guidance)
        agree = text.is_all(negative) and all(map(self._in_both, conditions))
        self.two_branches = own_guidance or (sampling.guidance != 1 and not agree)
        self.text = Conditioning.cat([*[negative] * len(text), text]) if self.two_branches else text

    def residuals(self, x: Tensor, time: Tensor, step: int, steps: int) -> Residuals | None:
        """The sum over the controls active in a step, for x (B, C, h, w) at a scalar time (); None without any.

        A condition that enters the conditional branch alone is computed for that half of the batch only.
        """
        active = [condition for condition in self.conditions if condition.control.active(step, steps)]
        if not active:
            return None
        both = self._for_branches(x)
        parts = []
        for group in self._groups(active):
            skipped = len(x) if self.two_branches and not self._in_both(group[0]) else 0
            given = both[skipped:], time, self.text[skipped:], step, steps
            part = group[0].residuals(*given) if len(group) == 1 else EncodedControl.joint(group, *given)
            parts.append(part.pad_front(skipped))
        total = sum_residuals(parts)
        if self.sampling.condition_in != "weighted":
            return total
        return total.scaled(resolution_weights(self.base.backbone.slots, self.sampling.resolution_weights))

    def _groups(self, active: Sequence[EncodedControl]) -> list[list[EncodedControl]]:
        """The controls that run as one: those of one union in the same branches, and every other by itself."""
        groups: dict[tuple[int, bool], list[EncodedControl]] = {}
        for condition in active:
            one = condition.control.net if condition.control.joins else condition
            groups.setdefault((id(one), self._in_both(condition)), []).append(condition)
        return list(groups.values())

    def branches(self, x: Tensor, time: Tensor, residuals: Residuals | None) -> Tensor:
        """The base's prediction in float32, (B, C, h, w) or (2 B, C, h, w), for x (B, C, h, w) at a scalar time ()."""
        return self.base.predict(self._for_branches(x), time, self.text, residuals).float()

    def guided(self, branches: Tensor, step: Guided) -> Tensor:
        """One prediction (B, C, h, w) from those of `branches`, (B, C, h, w) or (2 B, C, h, w)."""
        if not self.two_branches:
            return branches
        negative, positive = branches.chunk(2)
        guidance = self.sampling.guidance
        if callable(guidance):
            return guidance(negative, positive, step)
        return classifier_free(negative, positive, guidance)

    def _for_branches(self, x: Tensor) -> Tensor:
        """Latents (B, C, h, w) in the base's dtype, twice if there are two branches."""
        x = x.to(self.base.dtype)
        return torch.cat([x, x]) if self.two_branches else x

    def _in_both(self, condition: EncodedControl) -> bool:
        return condition.control.in_both_branches(self.sampling.condition_in)
