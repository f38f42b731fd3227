"""What `generate` writes down of each image, in `image.info`: all that generates it again by itself."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from maquette.base import Base
from maquette.controlnet.control import Control
from maquette.controlnet.network import ControlNet
from maquette.formats.module_hash import module_hash
from maquette.foundation.files import text_hash
from maquette.foundation.images import fit
from maquette.foundation.pixels import to_unit
from maquette.sampling.config import Sampling
from maquette.sampling.denoiser import EncodedControl
from maquette.sampling.metadata import KEY, ControlRecord, Record, image_hash, pack
from maquette.sampling.speed import NEUTRAL

PACKAGES = ("maquette", "torch", "diffusers")  # their versions affect the last bits


def with_records(
    images: list[Image.Image],
    base: Base,
    prompts: Sequence[str],
    negative_prompt: str,
    conditions: Sequence[EncodedControl],
    sampling: Sampling,
    size: tuple[int, int],
    start: tuple[Image.Image | None, Image.Image | None],
    altered: bool,
) -> list[Image.Image]:
    """The images of a generation, each with its own record: its seed, its prompt and its condition maps.

    Args:
        conditions: the controls with their maps at the images' size.
        size: (width, height) in pixels.
        start: the start image and where it may change, as they were read.
        altered: whether a callback may have changed what was computed, which cannot be recorded.
    """
    image, mask = start
    functions = [name for name in RECORDED if callable(getattr(sampling, name))]
    settings = {name: getattr(sampling, name) for name in RECORDED if name not in functions}
    settings |= {name: getattr(sampling, name) for name in NEUTRAL if getattr(sampling, name) != NEUTRAL[name]}
    tiny = base.tiny_decoder if sampling.decoder == "tiny" else None
    shared = Record(
        base.name,
        "",
        str(base.dtype).removeprefix("torch."),
        {**settings, "negative_prompt": negative_prompt, "seed": sampling.seed, "count": 1, "size": list(size)},
        device=base.device.type,
        base_hash=base.hash(),
        image=None if image is None else pack(fit(image, size)),
        mask=None if mask is None else pack(mask),
        prediction=base.requested_prediction,
        loras=list(base.loras),
        versions=versions(),
        tiny_decoder=None if tiny is None else tiny.name,
        decoder_hash=None if tiny is None else module_hash(tiny),
        unrecorded=[
            *(f"the {name}, a function" for name in functions),
            *_unrecorded(conditions),
            *(["the callback"] if altered else []),
        ],
    )
    controls = [_Recorder(condition) for condition in conditions]
    for row, (made, prompt) in enumerate(zip(images, prompts, strict=True)):
        made.info[KEY] = replace(
            shared,
            prompt=prompt,
            settings={**shared.settings, "seed": sampling.seed + row},
            controls=[control.record(row) for control in controls],
            pixels=image_hash(made),
        ).to_json()
    return images


def net_hash(net: ControlNet) -> str:
    """Hash of a ControlNet's weights and of the settings that its output depends on."""
    contract = net.contract
    settings: list[Any] = [net.config, contract.channel_order, contract.pooled, *(contract.types or ())]
    settings += [contract.encoded_range] if contract.encoded_range else []
    return text_hash(repr([module_hash(net), *settings]))


@cache
def versions() -> dict[str, str]:
    """The packages whose versions affect the last bits."""
    return {package: version(package) for package in PACKAGES}


RECORDED = (
    "steps", "guidance", "distilled_guidance", "condition_in", "resolution_weights", "sampler", "strength", "feather",
)  # fmt: skip


class _Recorder:
    """Records of one control, whose map is packed once where the images share it."""

    def __init__(self, condition: EncodedControl) -> None:
        control: Control = condition.control
        self._maps = condition.maps
        self._settings: dict[str, Any] = {
            "controlnet": control.net.name or "",
            "weight": list(control.weight) if isinstance(control.weight, Sequence) else control.weight,
            "start": control.start,
            "end": control.end,
            "mask": None if control.region is None else pack(control.region),
            "balance": control.balance,
            "curve": None if control.curve is None or callable(control.curve) else [list(p) for p in control.curve],
            "branch": control.branch,
            "type": control.type,
            "hash": net_hash(control.net),
        }
        self._packed = cache(self._pack)

    def record(self, row: int) -> ControlRecord:
        """For one of the images."""
        return ControlRecord(**self._packed(row if len(self._maps) > 1 else 0), **self._settings)

    def _pack(self, row: int) -> dict[str, Any]:
        """A map with its hash, and a picture to paint in with where."""
        first, last = self._maps[row][:3], self._maps[row][-3:]  # the same, unless both are given
        image, blank = _image(first), _blank(last)
        packed = {"map": pack(image), "map_hash": image_hash(image)}
        if len(self._maps[row]) == 6:
            packed["picture"] = pack(_image(last))
        return packed | ({"paint": pack(_image(blank.float()))} if "picture" in packed or bool(blank.any()) else {})


def _unrecorded(conditions: Sequence[EncodedControl]) -> Iterator[str]:
    """What cannot be stored of the controls, in words."""
    for number, condition in enumerate(conditions, start=1):
        if condition.control.net.name is None:
            yield f"the ControlNet of control {number}, which came from no file"
        if callable(condition.control.curve):
            yield f"the curve of control {number}, a function"
        if any(not torch.equal(_restored(one), one.float().cpu()) for one in condition.maps):
            yield f"the condition of control {number}, which is finer than the 256 levels of an image"


def _blank(pixels: Tensor) -> Tensor:
    """Where (3, H, W) is −1, to be painted in: bool, of the same shape."""
    return (pixels < 0).all(dim=0).expand_as(pixels)


def _restored(pixels: Tensor) -> Tensor:
    """What a record of (3, H, W), or 6, brings back, of the same shape."""
    return torch.cat([to_unit(_image(part)).masked_fill(_blank(part).cpu(), -1) for part in pixels.split(3)])


def _image(pixels: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] as an image; what is below is black."""
    return Image.fromarray((pixels.float().clamp(0, 1).movedim(0, -1) * 255).round().byte().cpu().numpy())
