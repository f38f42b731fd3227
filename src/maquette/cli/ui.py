"""maquette ui"""

import importlib.util
from pathlib import Path
from typing import Annotated, Literal

import typer

from maquette.errors import MaquetteError
from maquette.foundation.memory import importing

EXAMPLE = "maquette ui --port 7860"
NEEDED = ("fastapi", "uvicorn")  # the page needs gradio, the API does not


def run(
    base: Annotated[str, typer.Option(help="Base model: diorama; a folder, a file, or a name on the Hub.")] = "diorama",
    controlnet: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION=NAME", help="A ControlNet to offer: a folder, a file or a name on the Hub; repeatable."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to serve at; 0.0.0.0 lets your network in, with --token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to serve at; 0 takes a free one.")] = 7860,
    token: Annotated[
        str | None, typer.Option(envvar="MAQUETTE_TOKEN", help="Secret that every visitor must show.")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="Another name of this machine, as a proxy passes it on; repeatable.")
    ] = None,
    gallery: Annotated[Path, typer.Option(help="Folder that keeps the pictures.")] = Path("gallery"),
    runs: Annotated[
        Path | None, typer.Option(help="Folder of trainings; default: runs, or none at a host that others reach.")
    ] = None,
    pairs: Annotated[Path, typer.Option(help="Folder whose folders the page may train on.")] = Path(),
    language: Annotated[
        Literal["en", "ja", "zh"] | None, typer.Option(help="Language of the page; otherwise the browser's.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps; auto: the fastest one.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16; auto: by the device.")] = "auto",
    low_memory: Annotated[
        bool, typer.Option("--low-memory", help="Keep only the running part on the device; decode in bands.")
    ] = False,
) -> None:
    """Generate in a browser, and serve the API that docs/api.md describes."""
    _check_packages()
    from maquette.foundation.settings import check_device, check_dtype

    with importing():
        from maquette.studio.server import serve  # torch from here on

    check_device(device)
    check_dtype(dtype)
    serve(
        base, host, port, token, gallery=gallery, device=device, dtype=dtype, low_memory=low_memory,
        nets=controlnet or [], names=name or [], language=language, runs=runs, pairs=pairs,
    )  # fmt: skip


def _check_packages() -> None:
    """Raises `MaquetteError` for packages of the extra that are missing."""
    missing = [package for package in NEEDED if importlib.util.find_spec(package) is None]
    if missing:
        raise MaquetteError(f"maquette ui needs {', '.join(missing)}; install them with: pip install 'maquette[ui]'.")
