"""Weight files of any format, read lazily.

The format follows from the content, never from the name. Pickled files are read by torch's weights-only loader: a file
that would run code is refused without running any.
"""

import pickle
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from maquette.errors import MaquetteError, MaquetteWarning, shortened
from maquette.foundation.reading.documents import parse_json, read_json
from maquette.foundation.reading.files import open_regular
from maquette.foundation.weight_files import find_weights, weights_kind

__all__ = ["Shape", "Weights", "find_weights", "open_weights"]

Shape = tuple[int, ...]
LONGEST_NAME = 1000  # characters of a tensor's name
LONGEST_FILE_NAME = 255  # characters, as file systems have it
CHECKSUMS = "maquette.checksums"  # in the metadata of files that we write: of each tensor, as JSON


class Weights(Mapping[str, Tensor]):
    """Tensors of any shape by name. Shapes are known; a tensor is read on access.

    Attributes:
        source: the file, for messages.
        shapes: shape of each tensor.
        metadata: strings stored beside the tensors.
    """

    def __init__(
        self, source: Path, shapes: dict[str, Shape], read: Callable[[str], Tensor], metadata: dict[str, str]
    ) -> None:
        self.source, self.shapes, self.metadata, self._read = source, shapes, metadata, read

    @staticmethod
    def held(tensors: dict[str, Tensor], source: Path, metadata: dict[str, str] | None = None) -> "Weights":
        """Wrap tensors that are already in memory."""
        shapes = {name: tuple(value.shape) for name, value in tensors.items()}
        return Weights(source, shapes, tensors.__getitem__, metadata or {})

    def __getitem__(self, name: str) -> Tensor:
        """A tensor. Raises `MaquetteError` if it cannot be read or holds anything but finite numbers."""
        try:
            tensor = self._read(name)
        except (SafetensorError, RuntimeError, OSError) as error:
            reason = shortened(str(error))
            raise MaquetteError(
                f"{name!r} in {str(self.source)!r} cannot be read ({reason}); fetch it anew."
            ) from error
        if not _is_finite(tensor):
            raise MaquetteError(
                f"{str(self.source)!r} holds values in {name!r} that are not finite numbers, so that every image would "
                "be black; fetch or train these weights anew."
            )
        return tensor

    def __contains__(self, name: object) -> bool:
        return name in self.shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def renamed(self, names: Mapping[str, str]) -> "Weights":
        """The tensors in `names` (old → new), under their new names."""
        back = {new: old for old, new in names.items()}
        shapes = {new: self.shapes[old] for new, old in back.items()}
        return Weights(self.source, shapes, lambda name: self[back[name]], self.metadata)

    def below(self, prefix: str) -> "Weights":
        """The tensors whose names begin with `prefix`, without it."""
        return self.renamed({name: name.removeprefix(prefix) for name in self if name.startswith(prefix)})


def _is_finite(tensor: Tensor) -> bool:
    """Whether a tensor of any shape holds neither NaN nor infinity; one pass at the speed of memory."""
    if not tensor.is_floating_point() or tensor.itemsize == 1 or not tensor.numel():
        return True
    return all(torch.isfinite(extreme) for extreme in torch.aminmax(tensor))


def open_weights(path: Path) -> Weights:
    """Open a .safetensors, .pth, .ckpt or .bin file, or an index of shards (.index.json).

    Raises `MaquetteError` for a file that is missing, truncated, of no known format, or that would run code.
    """
    kind = weights_kind(path)
    if kind == "index":
        weights = _open_shards(path)
    else:
        weights = _open_safetensors(path) if kind == "safetensors" else _open_torch(path, mapped=kind == "zip")
    if long := next((name for name in weights if len(name) > LONGEST_NAME), None):
        raise MaquetteError(f"{str(path)!r} has a tensor called {shortened(long)!r}; give a file of weights.")
    return weights


def _open_safetensors(path: Path) -> Weights:
    try:
        file: Any = safe_open(path, "pt", backend="pread")  # mapped pages would count as used memory
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata() or {})
        checksums = _checksums(metadata.pop(CHECKSUMS, "{}"))
        return Weights(path, shapes, partial(_checked, path, file.get_tensor, checksums), metadata)
    except (SafetensorError, OSError, ValueError) as error:
        raise MaquetteError(f"{str(path)!r} is cut off or broken ({shortened(str(error))}); fetch it anew.") from error


def checksum(tensor: Tensor) -> str:
    """Of the bytes of a tensor of any shape."""
    bits = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return f"{zlib.crc32(bits.numpy().data):08x}"


def _checksums(text: str) -> dict[str, str]:
    try:
        found = parse_json(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _checked(path: Path, read: Callable[[str], Tensor], checksums: Mapping[str, str], name: str) -> Tensor:
    """A tensor of any shape; warns if it is not the one that was written.

    It is taken nevertheless: another program may have changed it and kept what it did not know.
    """
    tensor = read(name)
    if name in checksums and checksum(tensor) != checksums[name]:
        warnings.warn(
            f"{name!r} in {str(path)!r} is not as it was written: the file is damaged, or another program changed it.",
            MaquetteWarning,
            stacklevel=4,
        )
    return tensor


def _open_torch(path: Path, mapped: bool) -> Weights:
    try:
        if mapped:
            _check_archive(path)
        with open_regular(path) as stream, warnings.catch_warnings(action="ignore"):
            # torch.load decides by the name where it ends in .safetensors
            named = mapped and path.suffix != ".safetensors"
            content = torch.load(path if named else stream, map_location="cpu", weights_only=True, mmap=named)
    except pickle.UnpicklingError as error:
        raise MaquetteError(
            f"{str(path)!r} holds more than weights: loading it would run code that it contains. It was not loaded; "
            "use a .safetensors file of the same weights."
        ) from error
    except Exception as error:  # an unpickler's instructions fail in more ways than can be listed
        reason = shortened(next(iter(str(error).splitlines()), type(error).__name__))
        raise MaquetteError(f"{str(path)!r} is cut off or broken ({reason}); fetch it anew.") from error
    return Weights.held(_flat(content, path), path)


def _check_archive(path: Path) -> None:
    """Check that an archive is as torch writes it: stored, so that it takes no more memory than it has bytes.

    Raises `ValueError` for one that would unpack to more.
    """
    with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
        parts = archive.infolist()
        stated = sum(part.file_size for part in parts)
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts) or stated > stream.seek(0, 2):
            raise ValueError(f"it is packed and would take {stated:,} bytes; torch stores weights as they are")


def _flat(content: Any, path: Path) -> dict[str, Tensor]:
    """The tensors of a pickled file, which trainers often wrap as {"state_dict": ..., "epoch": ...}."""
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
    if not tensors or not all(isinstance(name, str) for name in tensors):
        raise MaquetteError(f"{str(path)!r} contains no named tensors; give a file of weights.")
    for name, value in tensors.items():
        if not _is_plain(value):
            raise MaquetteError(
                f"{str(path)!r} holds {name!r} as a sparse, quantized, nested, complex, repeated or empty tensor; save "
                "plain tensors."
            )
    return tensors


def _is_plain(value: Tensor) -> bool:
    """Whether a tensor of any shape holds real numbers, all of them stored: not one repeated by a stride of 0."""
    if value.layout != torch.strided or value.is_quantized or value.is_nested or value.is_meta or value.is_complex():
        return False
    return value.numel() * value.itemsize <= value.untyped_storage().nbytes()


def _open_shards(index: Path) -> Weights:
    shard_of = _shard_names(index)
    shards = {shard: open_weights(index.parent / shard) for shard in sorted(set(shard_of.values()))}
    for name, shard in shard_of.items():
        if name not in shards[shard]:
            raise MaquetteError(
                f"{str(index)!r} says that {shortened(name)!r} is in {shortened(shard)!r}, but it is not; fetch both "
                "anew."
            )
    shapes = {name: shards[shard].shapes[name] for name, shard in shard_of.items()}
    return Weights(index, shapes, lambda name: shards[shard_of[name]][name], {})


def _shard_names(index: Path) -> dict[str, str]:
    """The file name of each tensor's shard, beside the index.

    Raises `MaquetteError` for a file that is no index, or that names files elsewhere or other indices.
    """
    try:
        shard_of = read_json(index)["weight_map"]
        names = set(shard_of.values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise MaquetteError(
            f"{str(index)!r} is not an index of shards ({shortened(str(error))}); fetch it anew."
        ) from error
    for name in names:
        is_file_name = isinstance(name, str) and name == PurePath(name).name and len(name) <= LONGEST_FILE_NAME
        if not is_file_name or ".index." in name:
            raise MaquetteError(
                f"{str(index)!r} names the shard {shortened(repr(name))}; shards are files of weights beside it."
            )
    return dict(shard_of)
