"""Networks of transformers from a folder, as `save_pretrained` writes it: nothing is fetched, and no code in it is run.

Images are scaled here and not by transformers' image processors, whose results differ with their version and with
what else is installed; of the folder's preprocessor_config.json are taken size, mean and standard deviation.
"""

import json
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
from maquette.errors import MaquetteError
from maquette.foundation.devices import find_placement
from maquette.foundation.weights import find_weights, open_weights

IDLE = "neck.fusion_stage.layers.0.residual_layer1."
"""Weights that published files lack: DPT never uses its first layer's."""


MULTIPLE = 32
"""Of which sides are, where nothing else is said: what the deepest features of all these networks are smaller by."""

LARGEST = 10_000  # pixels: no network was made to see more


class Pretrained:
    """A network, ready to look, and how it wants images.

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
        wishes = read_wishes(self.folder)
        mean, deviation = (wishes[f"image_{what}"] for what in ("mean", "std"))
        self._mean, self._deviation = (torch.tensor(one, device=place).view(3, 1, 1) for one in (mean, deviation))
        self._size: dict[str, int] = wishes["size"]
        self._keeps_shape = wishes.get("keep_aspect_ratio", "shortest_edge" in self._size)
        self._multiple = wishes.get("ensure_multiple_of") or wishes.get("size_divisor") or MULTIPLE

    @property
    def resolution(self) -> int:
        """Short side of what it was made to see, in pixels."""
        return self._size.get("shortest_edge") or min(self._size["height"], self._size["width"])

    def size_of(self, size: tuple[int, int], resolution: int | None = None) -> tuple[int, int]:
        """What it sees of an image's size, both (width, height): squeezed, where it was made for one shape alone.

        Args:
            resolution: of the short side; None: that which it was made for.
        """
        short = resolution or self.resolution
        if self._keeps_shape:
            return working_size(size, short, self._multiple)
        own = (self._size.get("width", short), self._size.get("height", short))
        return working_size(own, short, self._multiple)

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """RGB images of one size as (B, 3, H, W), normalised as it was trained."""
        return (batch_of(images, self.model) - self._mean) / self._deviation


def read_wishes(folder: Path) -> dict[str, Any]:
    """How images are wanted, as image processors of transformers keep it.

    `size` is a dictionary of pixels, with "shortest_edge" or else "height" and "width"; `image_mean` and `image_std`
    are three numbers each, of RGB in [0, 1]. Raises `MaquetteError` where they are none, or nothing is said.
    """
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            content = _json(folder / name)
            return _checked(content.get("image_processor", content), folder / name)
    raise MaquetteError(f"{str(folder)!r} does not say how its network wants images; add preprocessor_config.json.")


def _checked(wishes: Any, path: Path) -> dict[str, Any]:
    if not isinstance(wishes, dict):
        raise MaquetteError(f"{str(path)!r} holds no settings; fetch it anew.")
    given = wishes.get("size", 384)
    sides = given if isinstance(given, dict) else {"height": given, "width": given}
    size = {one: sides.get(one) for one in (("shortest_edge",) if sides.get("shortest_edge") else ("height", "width"))}
    if not all(type(side) is int and 0 < side <= LARGEST for side in size.values()):
        raise _no_wish(path, "size", given, "the short side in pixels, or height and width")
    levels = {f"image_{what}": wishes.get(f"image_{what}", [0.5] * 3) for what in ("mean", "std")}
    for name, three in levels.items():
        if not (isinstance(three, list) and len(three) == 3 and all(_is_level(one) for one in three)):
            raise _no_wish(path, name, three, "three numbers from 0 to 1")
    if 0 in levels["image_std"]:
        raise _no_wish(path, "image_std", levels["image_std"], "three numbers above 0")
    for name in ("ensure_multiple_of", "size_divisor"):
        multiple = wishes.get(name) or MULTIPLE
        if type(multiple) is not int or not 0 < multiple <= LARGEST:
            raise _no_wish(path, name, multiple, "a number of pixels")
    return {**wishes, **levels, "size": size}


def _is_level(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def _no_wish(path: Path, name: str, given: Any, wanted: str) -> MaquetteError:
    return MaquetteError(f"{name!r} in {str(path)!r} is {wanted}, not {given!r}; fetch the file anew.")


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise MaquetteError(f"{str(path)!r} cannot be read as JSON ({error}); fetch it anew.") from error
    if not isinstance(content, dict):
        raise MaquetteError(f"{str(path)!r} holds no settings; fetch it anew.")
    return content


def open_model(detector: str, folder: Path, family: Any, others: Mapping[str, Any] | None = None) -> Any:
    """The network of a folder in float32, on the CPU, without gradients; arguments and errors are `Pretrained`'s."""
    if not (folder / "config.json").is_file():
        raise MaquetteError(
            f"{str(folder)!r} holds no weights of {detector}: they are a folder with config.json, "
            "preprocessor_config.json and model.safetensors (or pytorch_model.bin), as on the Hub."
        )
    _json(folder / "config.json")
    path = find_weights(folder)
    if path is None:
        raise MaquetteError(f"{str(folder)!r} has a config.json but no weights beside it; fetch it anew.")
    held = dict(open_weights(path))
    with sound(folder, f"network of {detector}"):
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        kind = (others or {}).get(config.model_type) or _class_of(config, family)
        model, report = kind.from_pretrained(
            None, config=config, state_dict=held, dtype=torch.float32, output_loading_info=True
        )
    missing = [name for name in report["missing_keys"] if not name.startswith(IDLE)]
    if missing:
        raise MaquetteError(
            f"{path.name} in {str(folder)!r} lacks {len(missing)} tensors of its network, {min(missing)!r} first; "
            "fetch it anew."
        )
    return model.eval().requires_grad_(False)


@contextmanager
def sound(folder: Path, what: str) -> Iterator[None]:
    """Whatever transformers stumbles over in a folder's files becomes `MaquetteError`: that it holds no `what`."""
    try:
        yield
    except Exception as error:  # broken settings end in errors of any kind, bare ones of the tokenizers' among them
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise MaquetteError(
            f"{str(folder)!r} holds no {what} ({reason}); give one that was published for it."
        ) from error


def _class_of(config: Any, family: Any) -> Any:
    with torch.device("meta"):  # made for its class alone
        return type(family.from_config(config))
