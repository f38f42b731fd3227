"""The denoiser: base, controls and guidance as one function, which is all that a sampler calls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from maquette.arithmetic.together import shared
from maquette.backbones.residuals import Residuals
from maquette.backbones.reuse import Kept
from maquette.base import Base
from maquette.controlnet.control import Control, sum_residuals
from maquette.errors import MaquetteError
from maquette.foundation.images import fit
from maquette.foundation.pixels import to_unit
from maquette.sampling.config import Guided, Sampling
from maquette.sampling.guidance import classifier_free, resolution_weights
from maquette.sampling.masks import framed_mask, slot_masks
from maquette.sampling.speed import in_interval
from maquette.text.conditioning import Conditioning


@dataclass(frozen=True)
class EncodedControl:
    """A control with its encoded condition maps, E(c), and its masks: computed once per generation."""

    control: Control
    maps: Tensor  # (1 or number of images, 3, H, W) in [0, 1]; 6 with a picture to paint in behind
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
        maps, both = maps.contiguous(), control.net.control.paints == "also"
        expected = (6 if both and maps.shape[1] == 6 else 3, size[1], size[0])
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
        """Residuals as the ControlNet puts them out for latents (B, C, h, w), or (2 B, C, h, w) with both branches."""
        net, features = self.control.net, self._for_rows(len(latents))
        given = [net.typed(features, self.control.type)] if net.control.types else features
        if net.early:
            weighed: Residuals = net(latents, timestep, text, given, partial(self.weighted, step=step, steps=steps))
            return weighed
        by_itself = net.control.types or net.by_itself
        given_all = latents, timestep, text, given
        residuals: Residuals = net(*given_all) if by_itself else shared(net, *given_all)
        return residuals

    def weighted(self, residuals: Residuals, step: int, steps: int) -> Residuals:
        """Residuals with the control's weight, balance, curve and mask in a step."""
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
    """E(c) of condition maps (N, 3, H, W), with what computes it on the execution device meanwhile."""
    in_context = control.net.config.variant == "context"  # then the base's own blocks read the map
    with base.on_device(control.net, *([base.backbone.network] if in_context else [])):
        return control.net.encode(control.net.condition_input(maps, base.encode_maps))


def _masks(base: Base, control: Control, size: tuple[int, int]) -> list[Tensor] | None:
    """A control's mask at the resolution of each slot, (1, 1, h, w)."""
    if control.region is None:
        return None
    mask = framed_mask(control.region, size).to(base.device)
    return [at_slot.to(base.dtype) for at_slot in slot_masks(mask, base.backbone.slots, base.backbone.downscale)]


class Denoiser:
    """The guided prediction of a base under its controls, in three parts: residuals, branches, guidance.

    With guidance two branches run as one batch: the negative prompt's first, then the prompts'. In steps outside the
    guidance interval the prompts' branch runs alone (Kynkäänniemi et al. 2024).

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
        self._guides = own_guidance or (sampling.guidance != 1 and not agree)
        both = Conditioning.cat([*[negative] * len(text), text]) if self._guides else text
        self._text, self._both_texts = (one.guided(sampling.distilled_guidance) for one in (text, both))
        self._kept = Kept(sampling.reuse) if sampling.reuse > 1 else None

    def two_branches(self, step: int, steps: int) -> bool:
        """Whether both branches run in a step."""
        return self._guides and in_interval(self.sampling.guidance_interval, step, steps)

    @property
    def drift(self) -> dict[str, float]:
        """See `Step.drift`."""
        return {} if self._kept is None else self._kept.drift

    def residuals(self, x: Tensor, time: Tensor, step: int, steps: int) -> Residuals | None:
        """The sum over the controls active in a step, for x (B, C, h, w) at a scalar time (); None without any.

        A condition that enters the conditional branch alone is computed for that half of the batch only, and so is one
        of a family whose residuals under the prompt serve both.
        """
        active = [condition for condition in self.conditions if condition.control.active(step, steps)]
        if not active:
            return None
        two, parts = self.two_branches(step, steps), []
        both, text = self._for_branches(x, two)
        for group in self._groups(active):
            in_both = self._in_both(group[0])
            shared = two and in_both and group[0].control.net.control.serves_both
            skipped = len(x) if shared or (two and not in_both) else 0
            part = self._of_group(group, (both[skipped:], time, text[skipped:]), step, steps)
            parts.append(part.twice() if shared else part.pad_front(skipped))
        total = sum_residuals(parts)
        if self.sampling.condition_in != "weighted":
            return total
        return total.scaled(resolution_weights(self.base.backbone.slots, self.sampling.resolution_weights))

    def _of_group(
        self, group: Sequence[EncodedControl], given: tuple[Tensor, Tensor, Conditioning], step: int, steps: int
    ) -> Residuals:
        """Weighted residuals in a step; what a union sees together is weighted inside of it, so that nothing is kept.

        Args:
            given: latents (B, C, h, w), the time () and their text.
        """
        if len(group) > 1:
            return EncodedControl.joint(group, *given, step, steps)
        (condition,) = group
        run = partial(condition.residuals, *given, step, steps)
        if self._kept is None:
            return condition.weighted(run(), step, steps)
        number = next(number for number, one in enumerate(self.conditions, start=1) if one is condition)
        return condition.weighted(self._kept.residuals(f"control {number}", step, len(given[0]), run), step, steps)

    def _groups(self, active: Sequence[EncodedControl]) -> list[list[EncodedControl]]:
        """The controls that run as one: those of one union in the same branches, and every other by itself."""
        groups: dict[tuple[int, bool], list[EncodedControl]] = {}
        for condition in active:
            one = condition.control.net if condition.control.joins else condition
            groups.setdefault((id(one), self._in_both(condition)), []).append(condition)
        return list(groups.values())

    def branches(self, x: Tensor, time: Tensor, residuals: Residuals | None, step: int, steps: int) -> Tensor:
        """The base's prediction in float32, (B, C, h, w) or (2 B, C, h, w), for x (B, C, h, w) at a scalar time ()."""
        both, text = self._for_branches(x, self.two_branches(step, steps))
        if self._kept is None or (residuals is not None and residuals.alone is not None):
            given = both, time, text, residuals
            by_itself = residuals is not None and residuals.own
            return (self.base.predict(*given) if by_itself else shared(self.base.predict, *given)).float()
        backbone: Any = self.base.backbone
        state = self._kept.state(
            step,
            len(both),
            lambda: backbone.prepare(both, time, text),
            lambda state: backbone.resume(state, both, time, text),
        )
        prediction: Tensor = backbone.finish(state, residuals)
        return prediction.float()

    def guided(self, branches: Tensor, step: Guided) -> Tensor:
        """One prediction (B, C, h, w) from those of `branches`, (B, C, h, w) or (2 B, C, h, w)."""
        if not self.two_branches(step.index, step.steps):
            return branches
        negative, positive = branches.chunk(2)
        guidance = self.sampling.guidance
        if callable(guidance):
            return guidance(negative, positive, step)
        guide: Callable[[Tensor, Tensor, float], Tensor] = getattr(self.base.backbone, "guide", classifier_free)
        return guide(negative, positive, guidance)

    def _for_branches(self, x: Tensor, two: bool) -> tuple[Tensor, Conditioning]:
        """Latents (B, C, h, w) in the base's dtype with their text, twice if there are two branches."""
        x = x.to(self.base.dtype)
        return (torch.cat([x, x]), self._both_texts) if two else (x, self._text)

    def _in_both(self, condition: EncodedControl) -> bool:
        return condition.control.in_both_branches(self.sampling.condition_in)
