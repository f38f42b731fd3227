"""Networks of transformers from a folder, as `save_pretrained` writes it: nothing is fetched, and no code in it is run.

Pictures are scaled here and not by transformers' image processors, whose results differ with their version and with
what else is installed; of the folder's preprocessor_config.json are taken size, mean and standard deviation.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from torch import Tensor

from maquette.conditions.batches import working_size
from maquette.conditions.networks.load import batch_of
from maquette.conditions.published import Published, locate
from maquette.errors import MaquetteError
from maquette.foundation.devices import find_placement
from maquette.foundation.weights import find_weights, open_weights

IDLE = "neck.fusion_stage.layers.0.residual_layer1."
"""Weights that published files lack: DPT never uses its first layer's."""


MULTIPLE = 32
"""Of which sides are, where nothing else is said: what the deepest features of all these networks are smaller by."""


class Pretrained:
    """A network, ready to look, and how it wants pictures.

    Args:
        known: its published weights.
        weights: a name among `known`, a folder, or None for the usual ones.
        device: as `torch.device` takes it, or "auto".
        family: the one of transformers' Auto classes that it is of.
        others: classes that stand for transformers' own, by architecture.

    Raises `MaquetteError` for weights that cannot be had, are not whole or are of another kind of network.
    """

    def __init__(
        self,
        detector: str,
        known: Mapping[str, Published],
        weights: str | Path | None,
        device: str,
        family: Any,
        others: Mapping[str, Any] | None = None,
    ) -> None:
        place = find_placement(device, "float32").device
        self.folder = _folder(detector, locate(detector, known, weights))
        self.model = _load(detector, self.folder, family, others or {}).to(place).requires_grad_(False)
        self.config: Any = self.model.config
        wishes = _wishes(self.folder)
        mean, deviation = (wishes.get(f"image_{what}", [0.5] * 3) for what in ("mean", "std"))
        self._mean, self._deviation = (torch.tensor(one, device=place).view(3, 1, 1) for one in (mean, deviation))
        self._size = wishes.get("size", 384)
        self._keeps_shape = wishes.get("keep_aspect_ratio", "shortest_edge" in _as_dict(self._size))
        self._multiple = wishes.get("ensure_multiple_of") or wishes.get("size_divisor") or MULTIPLE

    @property
    def resolution(self) -> int:
        """Short side of what it was made to see, in pixels."""
        size = _as_dict(self._size)
        return int(size.get("shortest_edge") or min(size["height"], size["width"]))

    def size_of(self, size: tuple[int, int], resolution: int | None = None) -> tuple[int, int]:
        """What it sees of a picture's size, both (width, height): squeezed, where it was made for one shape alone.

        Args:
            resolution: of the short side; None: that which it was made for.
        """
        short = resolution or self.resolution
        if self._keeps_shape:
            return working_size(size, short, self._multiple)
        wide = _as_dict(self._size)
        own = (wide.get("width", short), wide.get("height", short))
        return working_size(own, short, self._multiple)

    def pixels(self, pictures: Sequence[Image.Image]) -> Tensor:
        """RGB pictures of one size as (B, 3, H, W), normalised as it was trained."""
        return (batch_of(pictures, self.model) - self._mean) / self._deviation


def _as_dict(size: Any) -> dict[str, int]:
    return size if isinstance(size, dict) else {"height": size, "width": size}


def _folder(detector: str, path: Path) -> Path:
    if (path / "config.json").is_file():
        return path
    raise MaquetteError(
        f"{str(path)!r} holds no weights of {detector}: they are a folder with config.json, preprocessor_config.json "
        "and model.safetensors (or pytorch_model.bin), as on the Hub."
    )


def _wishes(folder: Path) -> dict[str, Any]:
    """How pictures are wanted, as image processors of transformers keep it."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            content = _json(folder / name)
            wishes: dict[str, Any] = content.get("image_processor", content)
            return wishes
    raise MaquetteError(f"{str(folder)!r} does not say how its network wants pictures; add preprocessor_config.json.")


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise MaquetteError(f"{str(path)!r} cannot be read as JSON ({error}); fetch it anew.") from error
    if not isinstance(content, dict):
        raise MaquetteError(f"{str(path)!r} holds no settings; fetch it anew.")
    return content


def _load(detector: str, folder: Path, family: Any, others: Mapping[str, Any]) -> Any:
    path = find_weights(folder)
    if path is None:
        raise MaquetteError(f"{str(folder)!r} has a config.json but no weights beside it; fetch it anew.")
    held = dict(open_weights(path))
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        kind = others.get(config.model_type) or _class_of(config, family)
        model, report = kind.from_pretrained(
            None, config=config, state_dict=held, dtype=torch.float32, output_loading_info=True
        )
    except (ValueError, RuntimeError, KeyError, ImportError, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise MaquetteError(f"{str(folder)!r} holds no network of {detector} ({reason}).") from error
    missing = [name for name in report["missing_keys"] if not name.startswith(IDLE)]
    if missing:
        raise MaquetteError(
            f"{path.name} in {str(folder)!r} lacks {len(missing)} tensors of its network, {min(missing)!r} first; "
            "fetch it anew."
        )
    return model.eval()


def _class_of(config: Any, family: Any) -> Any:
    with torch.device("meta"):  # made for its class alone
        return type(family.from_config(config))
