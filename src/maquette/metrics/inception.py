"""The Inception network of the Fréchet Inception distance, and its features.

As TensorFlow's network of 2015-12-05 was published for PyTorch (pytorch-fid, pt_inception-2015-12-05-6726825d.pth):
Szegedy et al.'s Inception v3 by torchvision's names, with two differences that the distance depends on. Average pools
leave the padding out, and the last block pools by maximum.
"""

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from maquette.conditions.networks.load import batch_of, open_network
from maquette.metrics.weights import judge_file

SIDE = 299  # pixels of the input
BATCH = 16

Kernel = int | tuple[int, int]
Conv = tuple[int, Kernel]  # channels, kernel
Branch = tuple[Conv | tuple[Conv, Conv], ...]  # one after the other; at the end maybe two beside each other
Pool = Literal["average", "max", "halve"]


class BasicConv(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, width: int, channels: int, kernel: Kernel, stride: int = 1, padding: bool = True) -> None:
        super().__init__()
        height, across = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        around = (height // 2, across // 2) if padding else 0
        self.conv = nn.Conv2d(width, channels, kernel, stride, around, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, channels, h', w')."""
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches of convolutions beside a pool, their outputs one after the other.

    Args:
        branches: by the name that their convolutions have in the published file, numbered where there are several.
        pool: what the last branch does first, or all that it does: "halve" ends every branch with a stride of 2.
    """

    def __init__(self, width: int, branches: dict[str, Branch], pool: Pool, pooled: int = 0) -> None:
        super().__init__()
        self.pool, self.pooled = pool, pooled
        self.chains: list[list[list[str]]] = []
        for name, branch in branches.items():
            chain, inside = [], width
            for number, step in enumerate(branch, start=1):
                last = number == len(branch)
                beside = step if isinstance(step[0], tuple) else (step,)
                label = f"{name}_{number}" if len(branch) > 1 else name
                names = [label + letter for letter in "ab"] if len(beside) > 1 else [label]
                for one, (channels, kernel) in zip(names, beside, strict=True):
                    halved = pool == "halve" and last
                    self.add_module(one, BasicConv(inside, channels, kernel, 2 if halved else 1, not halved))
                    inside_next = channels
                inside = inside_next
                chain.append(names)
            self.chains.append(chain)
        if pooled:
            self.branch_pool = BasicConv(width, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, D, h, w), or half as high and wide."""
        return torch.cat([*(self._follow(chain, x) for chain in self.chains), self._pooled(x)], dim=1)

    def _follow(self, chain: list[list[str]], x: Tensor) -> Tensor:
        """One branch: (B, C, h, w) to (B, channels, h', w')."""
        for names in chain:
            x = torch.cat([getattr(self, name)(x) for name in names], dim=1)
        return x

    def _pooled(self, x: Tensor) -> Tensor:
        """The pool's branch: (B, C, h, w) to (B, channels, h', w')."""
        if self.pool == "halve":
            return F.max_pool2d(x, 3, stride=2)
        if self.pool == "max":
            return self.branch_pool(F.max_pool2d(x, 3, stride=1, padding=1))
        return self.branch_pool(F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False))


def _block_a(width: int, pooled: int) -> Mixed:
    branches: dict[str, Branch] = {
        "branch1x1": ((64, 1),),
        "branch5x5": ((48, 1), (64, 5)),
        "branch3x3dbl": ((64, 1), (96, 3), (96, 3)),
    }
    return Mixed(width, branches, "average", pooled)


def _block_c(c: int) -> Mixed:
    across, down = (1, 7), (7, 1)
    branches: dict[str, Branch] = {
        "branch1x1": ((192, 1),),
        "branch7x7": ((c, 1), (c, across), (192, down)),
        "branch7x7dbl": ((c, 1), (c, down), (c, across), (c, down), (192, across)),
    }
    return Mixed(768, branches, "average", 192)


def _block_e(width: int, pool: Pool) -> Mixed:
    beside: tuple[Conv, Conv] = ((384, (1, 3)), (384, (3, 1)))
    branches: dict[str, Branch] = {
        "branch1x1": ((320, 1),),
        "branch3x3": ((384, 1), beside),
        "branch3x3dbl": ((448, 1), (384, 3), beside),
    }
    return Mixed(width, branches, pool, 192)


class InceptionNetwork(nn.Module):
    """Four stages, after each of which features may be taken, averaged over the image: 64, 192, 768 or 2048 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = BasicConv(3, 32, 3, 2, padding=False)
        self.Conv2d_2a_3x3 = BasicConv(32, 32, 3, padding=False)
        self.Conv2d_2b_3x3 = BasicConv(32, 64, 3)
        self.Conv2d_3b_1x1 = BasicConv(64, 80, 1)
        self.Conv2d_4a_3x3 = BasicConv(80, 192, 3, padding=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _block_a(192, 32), _block_a(256, 64), _block_a(288, 64)
        self.Mixed_6a = Mixed(288, {"branch3x3": ((384, 3),), "branch3x3dbl": ((64, 1), (96, 3), (96, 3))}, "halve")
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = map(_block_c, (128, 160, 160, 192))
        down: dict[str, Branch] = {
            "branch3x3": ((192, 1), (320, 3)),
            "branch7x7x3": ((192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3)),
        }
        self.Mixed_7a = Mixed(768, down, "halve")
        self.Mixed_7b, self.Mixed_7c = _block_e(1280, "average"), _block_e(2048, "max")

    def forward(self, x: Tensor, count: int = 2048) -> Tensor:
        """Features (B, count) of pixels (B, 3, 299, 299) in [-1, 1]."""
        for stage, features in zip(self._stages(), FEATURES, strict=True):
            for layer in stage:
                x = layer(x)
            if features == count:
                break
        return x.mean(dim=(2, 3))

    def _stages(self) -> tuple[tuple[nn.Module, ...], ...]:
        pool = nn.MaxPool2d(3, 2)
        return (
            (self.Conv2d_1a_3x3, self.Conv2d_2a_3x3, self.Conv2d_2b_3x3, pool),
            (self.Conv2d_3b_1x1, self.Conv2d_4a_3x3, pool),
            (
                *(self.Mixed_5b, self.Mixed_5c, self.Mixed_5d, self.Mixed_6a),
                *(self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e),
            ),
            (self.Mixed_7a, self.Mixed_7b, self.Mixed_7c),
        )


FEATURES = (64, 192, 768, 2048)
"""How many features each stage gives."""

UNUSED = re.compile(r"(fc|AuxLogits)\.|.*\.num_batches_tracked$")
"""The classifier's tensors in the published file, and counts of training steps that some copies of it hold."""


class Inception:
    """The loaded network.

    Args:
        weights: its file, or a repository on the Hub that holds it.
        device: as for `torch.device`, or "auto".

    Raises `MaquetteError` for weights that are missing or of another network.
    """

    def __init__(self, weights: str, device: str = "cpu") -> None:
        path = judge_file(weights, "The Fréchet Inception distance")
        self.network = open_network("inception", {}, path, device, lambda _: InceptionNetwork(), UNUSED)

    @torch.inference_mode()
    def features(self, images: Sequence[Image.Image], count: int = 2048) -> NDArray[np.float32]:
        """Features (N, count) of images of any sizes, which are resized to 299 × 299, bilinearly and not antialiased.

        Args:
            count: one of `FEATURES`; fewer are of an earlier stage, and suit smaller sets.
        """
        batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
        return np.concatenate([self.network(self._pixels(batch), count).cpu().numpy() for batch in batches])

    def _pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """Images as the network takes them, (B, 3, 299, 299) in [-1, 1]."""
        sized = [
            F.interpolate(batch_of([image], self.network), (SIDE, SIDE), mode="bilinear", align_corners=False)
            for image in images
        ]
        return torch.cat(sized) * 2 - 1
