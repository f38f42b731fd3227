"""Inference on images of any size: resize to a working size, batch images of equal size, resize the outputs back."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.spec import option

if TYPE_CHECKING:
    from torch import nn

BATCH_PIXELS = 2**21  # pixels per batch on a GPU: eight 512 × 512 images, whose features take about 2 GB
CPU_BATCH_PIXELS = 2**18  # on a CPU, where larger batches overflow the caches and gain nothing
LONGEST = 4.0  # maximum aspect ratio of a network's input; longer strips are squeezed
SMALLEST, LARGEST = 256, 1024  # pixels: default limits of the input's short side

RESOLUTION = option(
    None, "Short side of the network's input, in pixels; by default the image's own, clamped to 256 to 1024.", 64, 4096
)


def working_size(size: tuple[int, int], short: int, multiple: int) -> tuple[int, int]:
    """Width and height with the image's aspect ratio and a short side of about `short` pixels.

    Both are multiples of `multiple`; the long side is at most four times `short`.
    """
    scale = short / min(size)
    longest = short * LONGEST
    width, height = (max(multiple, round(min(side * scale, longest) / multiple) * multiple) for side in size)
    return width, height


def resize_batches(
    images: Sequence[Image.Image],
    size_of: Callable[[tuple[int, int]], tuple[int, int]],
    predict: Callable[[list[Image.Image]], Sequence[Any]],
    pixels: int = BATCH_PIXELS,
) -> list[Any]:
    """Run a network on images of any sizes, batching those of equal working size; results in the images' order.

    Args:
        size_of: working size for an image size, both (width, height).
        predict: takes images of one size, returns one result per image.
        pixels: maximum pixels per batch, at the working size.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for number, image in enumerate(images):
        groups.setdefault(size_of(image.size), []).append(number)
    results: dict[int, Any] = {}
    for size, numbers in groups.items():
        batch_size = max(1, pixels // (size[0] * size[1]))
        for start in range(0, len(numbers), batch_size):
            batch = numbers[start : start + batch_size]
            results.update(zip(batch, predict([resized(images[number], size) for number in batch]), strict=True))
    return [results[number] for number in range(len(images))]


def batch_pixels(network: "nn.Module") -> int:
    """Pixels per batch that suit the device of a network."""
    return CPU_BATCH_PIXELS if next(network.parameters()).device.type == "cpu" else BATCH_PIXELS


def resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image at `size` (width, height): area averaging to shrink, Lanczos to enlarge."""
    if image.size == size:
        return image
    smaller = size[0] * size[1] < image.width * image.height
    method = cv2.INTER_AREA if smaller else cv2.INTER_LANCZOS4
    return Image.fromarray(cv2.resize(np.asarray(image), size, interpolation=method))


def resized_back(output: NDArray[Any], size: tuple[int, int], categorical: bool = False) -> NDArray[Any]:
    """A network's output (h, w) or (h, w, channels) at the image's size (width, height).

    Class numbers (`categorical`) are taken from the nearest pixel, never interpolated.
    """
    if output.shape[1::-1] == size:
        return output
    smaller = size[0] * size[1] < output.shape[0] * output.shape[1]  # area averaging keeps thin lines whole
    method = cv2.INTER_NEAREST if categorical else cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(output, size, interpolation=method))


def grayscale_inference(
    images: Sequence[Image.Image],
    resolution: int | None,
    multiple: int,
    predict: Callable[[list[Image.Image]], NDArray[np.float32]],
    pixels: int,
) -> list[NDArray[np.float32]]:
    """A grey-level map per image from a network: (H, W) in [0, 1], at the size of the image.

    Args:
        resolution: short side of the network's input in pixels; None for the image's own, clamped to 256 to 1024.
        multiple: both sides of the input are multiples of it.
        predict: takes B images of one size, returns (B, h, w) in [0, 1] at that size.
        pixels: maximum pixels per batch.
    """

    def input_size(size: tuple[int, int]) -> tuple[int, int]:
        return working_size(size, resolution or min(max(min(size), SMALLEST), LARGEST), multiple)

    outputs = resize_batches(images, input_size, lambda batch: list(predict(batch)), pixels)
    return [resized_back(levels, image.size) for levels, image in zip(outputs, images, strict=True)]


def grey_image(levels: NDArray[np.float32]) -> Image.Image:
    """Levels (H, W) from 0 (black) to 1 (white) as an RGB image, rounded down to 8 bits."""
    return Image.fromarray((levels.clip(0, 1) * 255).astype(np.uint8)).convert("RGB")
