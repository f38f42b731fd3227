"""Networks of transformers from a folder, as `save_pretrained` writes it; nothing is downloaded, no code in it is run.

Images are resized here and not by transformers' image processors, whose results vary with versions and installed
packages. Size, mean and standard deviation come from the folder's preprocessor_config.json.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from torch import Tensor

from maquette.conditions.inference import working_size
from maquette.conditions.networks.load import batch_of
from maquette.conditions.weight_sources import WeightSource, locate
from maquette.errors import MaquetteError, shortened
from maquette.foundation.devices import find_placement
from maquette.foundation.reading.documents import read_json
from maquette.foundation.reading.files import TEXT, check_folder
from maquette.foundation.reading.networks import check_network
from maquette.foundation.weights import find_weights, open_weights

IDLE = "neck.fusion_stage.layers.0.residual_layer1."
"""Unused weights of DPT's first fusion layer, which published files lack."""

MULTIPLE = 32
"""Default multiple of the input's sides: the stride of the deepest features in all these networks."""

LARGEST = 10_000  # pixels per side; no network was trained on more


class Pretrained:
    """A network in evaluation mode and its image preprocessing.

    Args:
        known: its published weights.
        weights: a name among `known`, a folder, or None for the first of `known`.
        device: as for `torch.device`, or "auto".
        family: the Auto class of transformers that it belongs to.
        others: classes to use instead of transformers', by architecture.

    Raises `MaquetteError` for weights that cannot be found, are incomplete or belong to another kind of network.
    """

    def __init__(
        self,
        detector: str,
        known: Mapping[str, WeightSource],
        weights: str | Path | None,
        device: str,
        family: Any,
        others: Mapping[str, Any] | None = None,
    ) -> None:
        place = find_placement(device, "float32").device
        self.folder = locate(detector, known, weights)
        self.model = open_model(detector, self.folder, family, others).to(place)
        self.config: Any = self.model.config
        settings = read_preprocessor_config(self.folder)
        self._mean, self._deviation = (
            torch.tensor(settings[name], device=place).view(3, 1, 1) for name in ("image_mean", "image_std")
        )
        self._size: dict[str, int] = settings["size"]
        self._keeps_shape = settings.get("keep_aspect_ratio", "shortest_edge" in self._size)
        self._multiple = settings.get("ensure_multiple_of") or settings.get("size_divisor") or MULTIPLE

    @property
    def resolution(self) -> int:
        """Short side of its native input size, in pixels."""
        return self._size.get("shortest_edge") or min(self._size["height"], self._size["width"])

    def size_of(self, size: tuple[int, int], resolution: int | None = None) -> tuple[int, int]:
        """Input size for an image's size, both (width, height); squeezed where the network takes a fixed aspect ratio.

        Args:
            resolution: short side in pixels; None for the native one.
        """
        short = resolution or self.resolution
        if self._keeps_shape:
            return working_size(size, short, self._multiple)
        native = (self._size.get("width", short), self._size.get("height", short))
        return working_size(native, short, self._multiple)

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """RGB images of one size as (B, 3, H, W), normalised as in training."""
        return (batch_of(images, self.model) - self._mean) / self._deviation


def read_preprocessor_config(folder: Path) -> dict[str, Any]:
    """The preprocessing settings of a folder, as transformers' image processors store them.

    `size` holds pixels, under "shortest_edge" or under "height" and "width"; `image_mean` and `image_std` are three
    numbers each, for RGB in [0, 1]. Raises `MaquetteError` for a missing file and for invalid settings.
    """
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            content = _json(folder / name)
            return _checked(content.get("image_processor", content), folder / name)
    raise MaquetteError(f"{str(folder)!r} does not say how to preprocess images; add preprocessor_config.json.")


def _checked(settings: Any, path: Path) -> dict[str, Any]:
    if not isinstance(settings, dict):
        raise MaquetteError(f"{str(path)!r} holds no settings; download it again.")
    value = settings.get("size", 384)
    sides = value if isinstance(value, dict) else {"height": value, "width": value}
    names = ("shortest_edge",) if sides.get("shortest_edge") else ("height", "width")
    size = {name: sides.get(name) for name in names}
    if not all(type(side) is int and 0 < side <= LARGEST for side in size.values()):
        raise _invalid(path, "size", value, "the short side in pixels, or height and width")
    levels = {name: settings.get(name, [0.5] * 3) for name in ("image_mean", "image_std")}
    for name, channels in levels.items():
        if not (isinstance(channels, list) and len(channels) == 3 and all(_is_level(level) for level in channels)):
            raise _invalid(path, name, channels, "three numbers from 0 to 1")
    if 0 in levels["image_std"]:
        raise _invalid(path, "image_std", levels["image_std"], "three numbers above 0")
    for name in ("ensure_multiple_of", "size_divisor"):
        multiple = settings.get(name) or MULTIPLE
        if type(multiple) is not int or not 0 < multiple <= LARGEST:
            raise _invalid(path, name, multiple, "a number of pixels")
    return {**settings, **levels, "size": size}


def _is_level(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def _invalid(path: Path, name: str, value: Any, expected: str) -> MaquetteError:
    said = shortened(repr(value))
    return MaquetteError(f"{name!r} in {str(path)!r} must be {expected}, not {said}; download the file again.")


def _json(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise MaquetteError(f"{str(path)!r} cannot be read as JSON ({error}); download it again.") from error
    if not isinstance(content, dict):
        raise MaquetteError(f"{str(path)!r} holds no settings; download it again.")
    return content


def open_model(detector: str, folder: Path, family: Any, others: Mapping[str, Any] | None = None) -> Any:
    """The network of a folder in float32, on the CPU, without gradients; arguments as for `Pretrained`.

    Raises `MaquetteError` for a folder that is incomplete or holds another kind of network.
    """
    if not (folder / "config.json").is_file():
        raise MaquetteError(
            f"{str(folder)!r} holds no weights of {detector}: they are a folder with config.json, "
            "preprocessor_config.json and model.safetensors (or pytorch_model.bin), as on the Hub."
        )
    settings = _json(folder / "config.json")
    path = find_weights(folder)
    if path is None:
        raise MaquetteError(f"{str(folder)!r} has a config.json but no weights beside it; download it again.")
    tensors = dict(open_weights(path))
    check_network(settings, {}, len(tensors), str(folder / "config.json"))
    with load_errors(folder, f"network of {detector}"):
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        model_class = (others or {}).get(config.model_type) or _class_of(config, family)
        model, report = model_class.from_pretrained(
            None, config=config, state_dict=tensors, dtype=torch.float32, output_loading_info=True
        )
    missing = [name for name in report["missing_keys"] if not name.startswith(IDLE)]
    if missing:
        raise MaquetteError(
            f"{path.name} in {str(folder)!r} lacks {len(missing)} tensors of its network, {min(missing)!r} first; "
            "download it again."
        )
    return model.eval().requires_grad_(False)


@contextmanager
def load_errors(folder: Path, what: str) -> Iterator[None]:
    """Turn errors of transformers while it loads a folder into a message that it holds no `what`.

    Raises `MaquetteError` for any exception in the block.
    """
    try:
        check_folder(folder, (".json", ".txt"), TEXT)
        yield
    except Exception as error:  # broken files cause errors of any type, even bare `Exception` in tokenizers
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise MaquetteError(
            f"{str(folder)!r} holds no {what} ({reason}); give one that was published for it."
        ) from error


def _class_of(config: Any, family: Any) -> Any:
    with torch.device("meta"):  # only its class is needed
        return type(family.from_config(config))
