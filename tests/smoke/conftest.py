"""A tiny base and ControlNet in folders, an image, and the command line in-process."""

import sys
import warnings
from pathlib import Path

import pytest
from PIL import Image
from tests.conftest import randomise, tiny_base

from maquette.checkpoints.save import save_base
from maquette.cli import main as cli
from maquette.controlnet.network import ControlNet


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    save_base(tiny_base("diorama", "v_prediction", context=96), folder)
    return folder


@pytest.fixture(scope="module")
def net(base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("net")
    randomise(ControlNet.attach(tiny_base("diorama", "v_prediction", context=96))).save(folder)
    return folder


@pytest.fixture
def image(tmp_path) -> Path:
    image = Image.new("RGB", (160, 130), "white")
    image.paste((180, 40, 40), (40, 30, 110, 90))
    image.save(tmp_path / "house.png")
    return tmp_path / "house.png"


@pytest.fixture
def maquette(monkeypatch, capsys, tmp_path):
    """Run a command line in-process: its exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["maquette", *map(str, arguments)])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as stop:  # typer exits after every command
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return run
