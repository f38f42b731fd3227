"""What is uploaded to the Hub with a ControlNet; and the error if the Hub cannot be reached."""

import json

import pytest
from huggingface_hub import constants
from tests.conftest import tiny_base

import maquette as mq
from maquette.controlnet.contract import Contract
from maquette.controlnet.publish import prepare
from maquette.errors import MaquetteError


@pytest.fixture
def net() -> mq.ControlNet:
    net = mq.ControlNet.attach(tiny_base("sd15"))
    net.contract = Contract(stated=True, detector="canny", base="someone/house", prompt_drop=0.5, optimizer_steps=800)
    return net


def test_the_card_says_what_it_was_trained_on(net, tmp_path) -> None:
    run, folder = tmp_path / "run", tmp_path / "folder"
    (run / "grids").mkdir(parents=True)
    for name in ("curve.png", "grids/step-000100.png", "grids/step-000800.png"):
        (run / name).write_bytes(name.encode())
    (run / "training.json").write_text(json.dumps({"learning_rate": 7e-4}))
    prepare(net, folder, "me/canny", run)
    card = (folder / "README.md").read_text()
    for text in ("base_model: someone/house", "| detector | canny |", "| prompt drop | 0.5 |", "| learning_rate |"):
        assert text in card
    assert "![curve](curve.png)" in card
    assert (folder / "grid.png").read_bytes() == b"grids/step-000800.png"
    assert mq.load_controlnet(folder, tiny_base("sd15")).contract.detector == "canny"


def test_without_a_network(net, monkeypatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MaquetteError, match="'me/canny' could not be put on the Hub"):
        net.push("me/canny")
