"""How networks see images of any size: at a working size that follows from an image's own, one size in a batch.

Maps in levels of grey are made by networks that see an image at its own size.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.options import option

if TYPE_CHECKING:
    from torch import nn

AT_ONCE = 2**21  # pixels in a batch: eight images of 512 × 512, whose features take some two gigabytes
ON_CPU = 2**18  # the same where larger batches leave the caches and gain nothing
LONGEST = 4.0  # an image is seen no longer than this times its short side: a strip is squeezed
SMALLEST, LARGEST = 256, 1024  # pixels, the short side of what a network sees unless told otherwise

RESOLUTION = option(
    None, "Short side of what the network sees, in pixels; without, the image's own, from 256 to 1024.", 64, 4096
)


def working_size(size: tuple[int, int], short: int, multiple: int) -> tuple[int, int]:
    """Width and height whose shorter side is about `short` pixels, in the image's shape, both multiples."""
    scale = short / min(size)
    longest = short * LONGEST
    width, height = (max(multiple, round(min(side * scale, longest) / multiple) * multiple) for side in size)
    return width, height


def resize_batches(
    images: Sequence[Image.Image],
    size_of: Callable[[tuple[int, int]], tuple[int, int]],
    predict: Callable[[list[Image.Image]], Sequence[Any]],
    pixels: int = AT_ONCE,
) -> list[Any]:
    """What a network sees in each image, in their order.

    Args:
        size_of: the working size for an image's; both (width, height).
        predict: images of one size in, an answer each out.
        pixels: in a batch, of the working size.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for number, image in enumerate(images):
        groups.setdefault(size_of(image.size), []).append(number)
    answers: dict[int, Any] = {}
    for size, numbers in groups.items():
        at_once = max(1, pixels // (size[0] * size[1]))
        for start in range(0, len(numbers), at_once):
            chunk = numbers[start : start + at_once]
            answers.update(zip(chunk, predict([scaled(images[number], size) for number in chunk]), strict=True))
    return [answers[number] for number in range(len(images))]


def pixels_at_once(network: "nn.Module") -> int:
    """How large batches pay, by where a network is."""
    return ON_CPU if next(network.parameters()).device.type == "cpu" else AT_ONCE


def scaled(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An image at a size: by areas when it becomes smaller, by Lanczos when larger."""
    if image.size == size:
        return image
    smaller = size[0] * size[1] < image.width * image.height
    method = cv2.INTER_AREA if smaller else cv2.INTER_LANCZOS4
    return Image.fromarray(cv2.resize(np.asarray(image), size, interpolation=method))


def back(answer: NDArray[Any], size: tuple[int, int], categorical: bool = False) -> NDArray[Any]:
    """An answer (h, w) or (h, w, channels) at the image's own size; numbers of classes are never mixed."""
    if answer.shape[1::-1] == size:
        return answer
    smaller = size[0] * size[1] < answer.shape[0] * answer.shape[1]  # by areas: lines stay whole
    method = cv2.INTER_NEAREST if categorical else cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(answer, size, interpolation=method))


def grayscale_inference(
    images: Sequence[Image.Image],
    resolution: int | None,
    multiple: int,
    look: Callable[[list[Image.Image]], NDArray[np.float32]],
    pixels: int,
) -> list[NDArray[np.float32]]:
    """What a network draws of each image: (h, w) in [0, 1], of the image's own size.

    Args:
        resolution: short side of what the network sees; None: the image's own, from 256 to 1024.
        multiple: of which both sides are.
        look: images of one size in, (B, h, w) of that size in [0, 1] out.
        pixels: in a batch.
    """

    def seen(size: tuple[int, int]) -> tuple[int, int]:
        return working_size(size, resolution or min(max(min(size), SMALLEST), LARGEST), multiple)

    found = resize_batches(images, seen, lambda group: list(look(group)), pixels)
    return [back(one, image.size) for one, image in zip(found, images, strict=True)]


def shown(levels: NDArray[np.float32]) -> Image.Image:
    """(h, w) from 0, black, to 1, white, as RGB; fractions of a level are cut off."""
    return Image.fromarray((levels.clip(0, 1) * 255).astype(np.uint8)).convert("RGB")
