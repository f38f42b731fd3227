"""Find weight files, and tell their format by the first bytes. This module does not import torch."""

from pathlib import Path
from typing import Literal

from maquette.errors import MaquetteError
from maquette.foundation.reading.files import open_regular

LONGEST_HEADER = 100_000_000  # bytes: the limit of the safetensors format

STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
ENDINGS = (
    ".safetensors.index.json",
    ".safetensors",
    ".safetensors.index.fp16.json",
    ".fp16.safetensors",
    ".bin.index.json",
    ".bin",
)


def find_weights(folder: Path) -> Path | None:
    """The weights in a folder, by diffusers' and transformers' names: safetensors first, then the fp16 variant."""
    paths = (folder / f"{stem}{ending}" for ending in ENDINGS for stem in STEMS)
    return next((path for path in paths if path.is_file()), None)


def weights_kind(path: Path) -> Literal["index", "safetensors", "zip", "pickle"]:
    """The format of a file: an index of shards by its name, all else by its first bytes.

    Raises `MaquetteError` for a file that cannot be read or has no known format.
    """
    try:
        with open_regular(path) as stream:
            head = stream.read(9)
    except OSError as error:
        raise MaquetteError(f"The weights {str(path)!r} cannot be read ({error.strerror}).") from error
    if ".index." in path.name and path.suffix == ".json":
        return "index"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < LONGEST_HEADER:
        return "safetensors"
    if head[:2] == b"PK":  # a zip archive of torch.save
        return "zip"
    if head[:1] == b"\x80":
        return "pickle"
    raise MaquetteError(
        f"{str(path)!r} holds no weights: it begins neither as .safetensors nor as a file of torch; "
        "perhaps a web page or a Git LFS pointer was saved in its place; fetch it anew."
    )
