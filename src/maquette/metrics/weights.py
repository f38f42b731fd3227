"""Weights of the networks that judge: a file or folder of the user's, or a repository on the Hub."""

from pathlib import Path

from maquette.errors import MaquetteError
from maquette.foundation.hub import is_hub_id, require_repository, snapshot

FILES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


def check_judge(name: str, what: str) -> None:
    """Check that a judge's weights are here or may be had from the Hub, without loading anything.

    Args:
        what: who needs them, for the message.

    Raises `MaquetteError` where they are neither.
    """
    if Path(name).exists():
        return
    if not is_hub_id(name) or Path(name).suffix in FILES:
        raise MaquetteError(
            f"{what} needs weights, and there is no {name!r}; give a file or folder, or org/name on the Hub."
        )
    require_repository(name)


def judge_file(name: str, what: str) -> Path:
    """The one file of weights that is meant. Raises `MaquetteError` where there is none, or more than one."""
    check_judge(name, what)
    path = Path(name)
    if path.is_file():
        return path
    folder = path if path.is_dir() else snapshot(name, [f"*{ending}" for ending in FILES])
    files = sorted(file for file in folder.iterdir() if file.suffix in FILES)
    if len(files) != 1:
        held = ", ".join(file.name for file in files) or "no such file"
        raise MaquetteError(f"{what} needs one file of weights, and {name!r} holds {held}; name the file itself.")
    return files[0]


def judge_folder(name: str, what: str) -> Path:
    """The folder of a network of transformers. Raises `MaquetteError` where there is none."""
    check_judge(name, what)
    path = Path(name)
    if path.is_file():
        raise MaquetteError(f"{what} needs a folder as transformers saves networks; {name!r} is a file.")
    return path if path.is_dir() else _snapshot(name)


def _snapshot(name: str) -> Path:
    """A repository with one of its sets of weights: safetensors before pickled ones."""
    folder = snapshot(name, ("*.json", "*.txt", "model*.safetensors"))
    return (
        folder if any(folder.glob("model*.safetensors")) else snapshot(name, ("*.json", "*.txt", "pytorch_model*.bin"))
    )
