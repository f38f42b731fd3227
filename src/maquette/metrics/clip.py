"""CLIP's judgement of images: how well one shows what a text says, and LAION's score of how it looks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from maquette.conditions.networks.load import batch_of
from maquette.conditions.networks.pretrained import load_errors, open_model, read_preprocessor_config
from maquette.errors import MaquetteError
from maquette.foundation.devices import find_placement
from maquette.foundation.images import as_rgb
from maquette.foundation.weights import Weights, open_weights
from maquette.metrics.weights import judge_file, judge_folder

BATCH = 32


class Clip:
    """A CLIP of transformers: images and texts as unit vectors in one space (Radford et al. 2021).

    Args:
        name: a folder as `save_pretrained` writes it, with tokenizer and preprocessor_config.json; or org/name on the
            Hub.
        device: as for `torch.device`, or "auto".

    Raises `MaquetteError` for weights that are missing or of another network.
    """

    def __init__(self, name: str, device: str = "cpu") -> None:
        from transformers import AutoModel, AutoTokenizer

        self.folder = judge_folder(name, "The CLIP score")
        self.network: Any = open_model("the CLIP score", self.folder, AutoModel)
        if self.network.config.model_type != "clip":
            raise MaquetteError(f"{name!r} is a {self.network.config.model_type}; the CLIP score needs a CLIP.")
        self.network = self.network.to(find_placement(device, "float32").device)
        self.side = int(self.network.config.vision_config.image_size)
        settings = read_preprocessor_config(self.folder)
        place = self.network.device
        self._mean, self._deviation = (
            torch.tensor(settings[key], device=place).view(3, 1, 1) for key in ("image_mean", "image_std")
        )
        with load_errors(self.folder, "tokenizer of CLIP"):
            self._tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)

    @property
    def width(self) -> int:
        """How many numbers describe an image or a text."""
        return int(self.network.config.projection_dim)

    @torch.inference_mode()
    def images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Unit vectors (N, D) of images: their short side brought to the network's by bicubic filtering, then cut."""
        return np.concatenate([self._seen(images[start : start + BATCH]) for start in range(0, len(images), BATCH)])

    def _seen(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        pixels = batch_of([_square(image, self.side) for image in images], self.network)
        pooled = self.network.vision_model(pixel_values=(pixels - self._mean) / self._deviation).pooler_output
        return _unit(self.network.visual_projection(pooled))

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (N, D) of texts, of which CLIP reads the first 77 tokens."""
        return np.concatenate([self._read(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)])

    def _read(self, texts: Sequence[str]) -> NDArray[np.float32]:
        longest = self.network.config.text_config.max_position_embeddings
        tokens = self._tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        inputs = {key: tokens[key].to(self.network.device) for key in ("input_ids", "attention_mask")}
        return _unit(self.network.text_projection(self.network.text_model(**inputs).pooler_output))


def _unit(features: Tensor) -> NDArray[np.float32]:
    """Features (B, D) at length 1."""
    return F.normalize(features.float(), dim=-1).cpu().numpy()


def _square(image: Image.Image, side: int) -> Image.Image:
    """The middle of an image, `side` pixels a side, as CLIP's own preprocessing cuts it."""
    short = min(image.size)
    size = (int(side * image.width / short), int(side * image.height / short))
    scaled = as_rgb(image).resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return scaled.crop((left, top, left + side, top + side))


def clip_scores(images: NDArray[np.floating], texts: NDArray[np.floating]) -> list[float]:
    """The cosine of each image's vector and its text's, both (N, D) and of length 1; 0 where it is negative.

    The scale of the ControlNet paper (0.26); Hessel et al. 2021 multiply it by 2.5, torchmetrics by 100.
    """
    return (images * texts).sum(axis=1).clip(min=0).astype(float).tolist()


class Aesthetic:
    """LAION's aesthetic score, about 1 to 10: linear layers on CLIP's vector of an image.

    Either of the published heads: sa_0_4_vit_l_14_linear.pth, one layer, or sac+logos+ava1-l14-linearMSE.pth, five.

    Args:
        name: the head's file, or a repository on the Hub that holds it alone.
        width: of CLIP's vectors, which must be those the head was trained on: 768 of ViT-L/14.

    Raises `MaquetteError` for a file that is missing, holds no such layers or fits another CLIP.
    """

    def __init__(self, name: str, width: int) -> None:
        self.path = judge_file(name, "The aesthetic score")
        self._layers = _linear_layers(open_weights(self.path), self.path)
        expected = self._layers[0][0].shape[1]
        if expected != width:
            raise MaquetteError(
                f"The aesthetic head {self.path.name!r} reads vectors of {expected} numbers, and this CLIP's have "
                f"{width}; give the CLIP that it was trained on (openai/clip-vit-large-patch14 for LAION's)."
            )

    def __call__(self, vectors: NDArray[np.floating]) -> list[float]:
        """The scores of images from CLIP's unit vectors (N, D)."""
        values = np.asarray(vectors, np.float64)
        for weight, bias in self._layers:
            values = values @ weight.T + bias
        return values[:, 0].tolist()


Layer = tuple[NDArray[np.float64], NDArray[np.float64]]  # weight (out, in), bias (out,)


def _linear_layers(weights: Weights, path: Path) -> list[Layer]:
    """The layers of a head in order, the last with one output."""
    stems = sorted({name.removesuffix("weight") for name in weights if name.endswith("weight")}, key=_numbers)
    named = {f"{stem}{part}" for stem in stems for part in ("weight", "bias")}
    shapes = [weights.shapes[f"{stem}weight"] for stem in stems]
    chained = all(len(shape) == 2 for shape in shapes) and all(
        a[0] == b[1] for a, b in zip(shapes, [*shapes[1:], (0, 1)], strict=True)
    )
    if not stems or named != set(weights) or not chained:
        raise MaquetteError(
            f"{str(path)!r} is no head of an aesthetic score: it holds {', '.join(sorted(weights)[:3])}; give LAION's "
            "sa_0_4_vit_l_14_linear.pth or sac+logos+ava1-l14-linearMSE.pth."
        )
    return [tuple(weights[f"{stem}{part}"].double().numpy() for part in ("weight", "bias")) for stem in stems]  # type: ignore[misc]


def _numbers(stem: str) -> list[int]:
    return [int(part) for part in stem.split(".") if part.isdigit()]
