"""Sharing a ControlNet on the Hub: its folder and a model card."""

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

from maquette.controlnet.contract import OURS, Contract
from maquette.controlnet.save import Written, own_layout, save
from maquette.errors import MaquetteError
from maquette.foundation.reading.documents import read_json

HUB_ID = r"[\w.-]+/[\w.-]+(@.+)?"  # org/name, optionally @revision
CARD, CURVE, GRID = "README.md", "curve.png", "grid.png"


def push(net: Written, name: str, run: Path | None, private: bool, token: str | None) -> str:
    """Upload a ControlNet as org/name; returns the address of its page.

    Raises `MaquetteError` if the Hub cannot be reached or refuses.
    """
    with tempfile.TemporaryDirectory() as folder:
        prepare(net, Path(folder), name, run)
        api = HfApi(token=token)
        try:
            api.create_repo(name, private=private, exist_ok=True)
            api.upload_folder(repo_id=name, folder_path=folder, commit_message="A ControlNet made with maquette")
        except (HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled, OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise MaquetteError(
                f"{name!r} could not be put on the Hub ({reason}); log in with `hf auth login`, or give token=. "
                "The ControlNet itself is unchanged: net.save(folder) saves it locally."
            ) from error
    return f"https://huggingface.co/{name}"


def prepare(net: Written, folder: Path, name: str, run: Path | None = None) -> None:
    """Write everything that is uploaded: weights, configuration, card, and a run's curve and last grid."""
    save(net, folder)
    shown = []
    if run is not None:
        grids = sorted((run / "grids").glob("*.png"))
        for source, target in ((run / CURVE, CURVE), *((grid, GRID) for grid in grids[-1:])):
            if source.is_file():
                shutil.copy(source, folder / target)
                shown.append(target)
    (folder / CARD).write_text(card(net, name, shown, _settings(run)))


def _settings(run: Path | None) -> dict[str, Any]:
    kept = run / "training.json" if run is not None else None
    if kept is None or not kept.is_file():
        return {}
    try:
        settings = read_json(kept)
    except (OSError, ValueError) as error:
        raise MaquetteError(f"The settings of the run in {str(kept)!r} cannot be read ({error}).") from error
    return settings if isinstance(settings, dict) else {}


def card(net: Written, name: str, shown: list[str], settings: dict[str, Any]) -> str:
    """The model card: Markdown with the Hub's metadata header."""
    contract = net.contract
    public = contract.base and re.fullmatch(HUB_ID, contract.base) and not Path(contract.base).exists()
    base = contract.base.split("@")[0] if contract.base and public else None
    lines = [
        "---",
        f"library_name: {'maquette' if own_layout({OURS: vars(net.config)}) else 'diffusers'}",
        "tags: [controlnet, maquette]",
        *([f"base_model: {base}"] if base else []),
        "---",
        "",
        f"# {name}",
        "",
        f"A ControlNet for {contract.base or 'Stable Diffusion'}, steered by {contract.detector or 'a condition map'}.",
        "",
        "```python",
        "import maquette as mq",
        "",
        f'base = mq.load_base("{contract.base or "BASE"}")',
        f'net = mq.load_controlnet("{name}", base)',
        "```",
        "",
        "| expected input | |",
        "| --- | --- |",
        *_rows(contract),
    ]
    if settings:
        lines += ["", "| training | |", "| --- | --- |", *(f"| {key} | {value} |" for key, value in settings.items())]
    for image in shown:
        lines += ["", f"![{image.removesuffix('.png')}]({image})"]
    return "\n".join(lines) + "\n"


def _rows(contract: Contract) -> list[str]:
    left_out = ("base_fingerprint",)
    return [
        f"| {key.replace('_', ' ')} | {value} |" for key, value in contract.to_json().items() if key not in left_out
    ]
