"""The memory that generating takes beside the weights, from the networks' own shapes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from maquette.arithmetic.footprint import footprint
from maquette.arithmetic.together import apart
from maquette.base import Base
from maquette.controlnet.control import sum_residuals
from maquette.sampling.denoiser import EncodedControl
from maquette.text.conditioning import Conditioning

KERNELS, ALWAYS = 1.3, 2**24
"""What kernels take for themselves, as a factor on the tensors between them, and bytes that any computation takes."""


@dataclass(frozen=True)
class Request:
    """What decides how much memory a generation takes.

    Args:
        text: the conditioning of one row.
        size: (width, height) in pixels.
        batch: images at once.
        branches: 2 with guidance, else 1.
        tiny: whether the tiny decoder makes the images.
        low_memory: as for `load_base`.
        is_decoded: whether images are wanted, or latents.
    """

    base: Base
    conditions: Sequence[EncodedControl]
    text: Conditioning
    size: tuple[int, int]
    batch: int
    branches: int
    tiny: bool
    low_memory: bool
    is_decoded: bool = True

    def needs(self) -> dict[str, int]:
        """Bytes at most, weights apart, by what is done."""
        works = {"denoising": self.denoise} | ({"decoding": self.decode} if self.is_decoded else {})
        with apart():
            return {name: round(KERNELS * footprint(work)) + ALWAYS for name, work in works.items()}

    def weights(self) -> dict[str, int]:
        """Bytes of the weights on the device, by what is done with them; where all stay there, of all."""
        nets = {id(condition.control.net): condition.control.net for condition in self.conditions}
        base = self.base
        parts: dict[str, Sequence[nn.Module]] = {
            "encoding text": base.text.modules,
            "denoising": [base.backbone.network, *nets.values()],
            "decoding": [base.autoencoder, *([base.tiny_decoder] if base.tiny_decoder else [])],
        }
        each = {name: sum(map(_bytes, modules)) for name, modules in parts.items()}
        offloads = self.low_memory and base.device.type != "cpu"
        return each if offloads else dict.fromkeys(each, sum(each.values()))

    def _latents(self, rows: int) -> Tensor:
        """(rows, C, h, w)."""
        width, height = (side // self.base.backbone.downscale for side in self.size)
        channels = self.base.backbone.latent_channels
        return torch.empty((rows, channels, height, width), device=self.base.device, dtype=self.base.dtype)

    def denoise(self) -> None:
        """One step of all controls and the base, on tensors without meaningful values."""
        rows = self.batch * self.branches
        x, time = self._latents(rows), torch.empty((), device=self.base.device)
        texts = self.text.tensors().items()
        text = self.text.like({name: _like(value, (rows, *value.shape[1:])) for name, value in texts})
        parts = [self._scaled(condition).residuals(x, time, text, 0, 1) for condition in self.conditions]
        self.base.predict(x, time, text, sum_residuals(parts) if parts else None)

    def _scaled(self, condition: EncodedControl) -> EncodedControl:
        """A control whose features, (N, C, h, w), are those of this size, without its masks, which are small."""
        width, height = condition.maps.shape[-1], condition.maps.shape[-2]
        features = condition.features
        rows, channels, h, w = features.shape
        shape = (rows, channels, h * self.size[1] // height, w * self.size[0] // width)
        return replace(condition, features=_like(features, shape), masks=None)

    def decode(self) -> None:
        """The images of as many latents as are decoded at once."""
        self.base.decoded(self._latents(1 if self.low_memory else self.batch), self.tiny, self.low_memory)


def _like(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A tensor of that shape, and of the type and on the device of a value of any shape."""
    return torch.empty(shape, dtype=value.dtype, device=value.device)


def _bytes(module: nn.Module) -> int:
    return sum(value.nbytes for value in (*module.parameters(), *module.buffers()))
