"""How ControlNets take part in a generation, alone or combined: a weighted sum of their residuals."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

from PIL import Image

from maquette.backbones.residuals import Residuals
from maquette.controlnet.choices import Balance, Branch, Curve, check_strength, factor_at, slot_factors
from maquette.controlnet.maps import Condition, Maps, Picture, read_maps, read_mask
from maquette.controlnet.network import ControlNet


@dataclass(frozen=True)
class Control:
    """A ControlNet, its condition map, and how strongly, when and where it acts.

    Each of weight, balance, curve and mask multiplies the residuals, so they combine in any way.

    Args:
        net: any ControlNet for the base that generates.
        condition: a PIL image, a path, an array (H, W, 3), or a tensor (1, 3, H, W) in [0, 1], RGB; or one for each
            image generated: a list of images or paths, an array (N, H, W, 3) or a tensor (N, 3, H, W).
        weight: factor on its residuals from 0 (off) to 10, usually up to 2; or a list with one for each slot of the
            base, shallow to deep and the middle last: 13 for Stable Diffusion, 10 for XL.
        start, end: fractions of the steps, in [0, 1], between which it is active. end=0.5: the paper's coarse control.
        mask: an image, path or array: white where it acts, black or transparent where it does not, grey for a share.
        balance: "prompt" multiplies slot i of n by 0.825 ** (n − 1 − i), so that the prompt counts more; "control" lets
            it enter the conditional branch alone, so that guidance amplifies it.
        curve: a factor, from 0 to 10, by the fraction of the steps done, in [0, 1): a function, or a list of
            (fraction, factor) points joined by straight lines. Where it is 0, the ControlNet is not run.
        type: of a union ControlNet, the kind of the condition, such as "canny"; `net.contract.types` names them.
            Controls of one union act together, each condition with its weight, unless one has a mask, a list of
            weights, balance="prompt" or another branch: that one acts by itself.
        branch: of guidance, "both" or "conditional"; None for the call's `condition_in`.

    Raises `MaquetteError` for a condition or mask of another type or range, and for settings outside their limits.
    """

    net: ControlNet
    condition: Condition
    weight: float | Sequence[float] = 1.0
    start: float = 0.0
    end: float = 1.0
    mask: Picture | None = None
    balance: Balance = "balanced"
    curve: Curve | None = None
    branch: Branch | None = None
    type: str | None = None
    maps: Maps = field(init=False, repr=False, compare=False)  # the condition as it has been read
    region: Image.Image | None = field(init=False, repr=False, compare=False)  # the mask as it has been read

    def __post_init__(self) -> None:
        check_strength(self.weight, self.start, self.end, self.balance, self.curve, self.branch)
        object.__setattr__(self, "maps", read_maps(self.condition))
        object.__setattr__(self, "region", None if self.mask is None else read_mask(self.mask))

    @property
    def joins(self) -> bool:
        """Whether it acts together with other conditions of its net, a union."""
        plain = self.mask is None and not isinstance(self.weight, Sequence) and self.balance != "prompt"
        return plain and self.net.control.types > 0 and self.net.control.joins_types

    def in_range(self, step: int, steps: int) -> bool:
        """Whether a step lies between start and end, by the same rule as diffusers."""
        return step / steps >= self.start and (step + 1) / steps <= self.end

    def active(self, step: int, steps: int) -> bool:
        """Whether it runs at all in a step."""
        return self.in_range(step, steps) and any(self.factors(1, step, steps))

    def factors(self, slots: int, step: int, steps: int) -> list[float]:
        """The factor on each slot's residual in a step: weight × balance × curve.

        With a list of weights there are as many factors as weights.
        """
        weights = list(self.weight) if isinstance(self.weight, Sequence) else [self.weight] * slots
        now = factor_at(self.curve, step / steps)
        softer = slot_factors(self.balance, len(weights))
        return [weight * soft * now for weight, soft in zip(weights, softer, strict=True)]

    def in_both_branches(self, condition_in: str) -> bool:
        """Whether it enters both branches of guidance, in a call with this `condition_in`.

        A pooled ControlNet was trained for the conditional branch alone, and stays there unless `branch` is given.
        """
        if self.balance == "control":
            return False
        if self.branch is not None:
            return self.branch == "both"
        return condition_in == "both" and not self.net.contract.pooled


def sum_residuals(residuals: Iterable[Residuals]) -> Residuals:
    """Combine several ControlNets by adding their outputs (v3 §3.4); no interpolation is needed."""
    return reduce(add, residuals)
