"""Transferring a ControlNet to another base, and describing files without loading them."""

import warnings

import pytest
import torch
from tests.conftest import randomise, tiny_base
from tests.unit.checkpoints.test_original import model, tokenizer, whole  # noqa: F401
from typer.testing import CliRunner

import maquette as mq
from maquette.checkpoints.convert import convert, transfer
from maquette.checkpoints.info import info
from maquette.checkpoints.save import save_base
from maquette.cli.main import app
from maquette.controlnet.contract import Contract, fingerprint
from maquette.errors import MaquetteError
from maquette.formats.write import write_weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two bases of a family, and a ControlNet for the first, with its fingerprint."""
    folder = tmp_path_factory.mktemp("folder")
    for number in (0, 1):
        save_base(tiny_base("sd15", seed=number), folder / f"base-{number}")
    base = mq.load_base(folder / "base-0")
    net = randomise(mq.ControlNet.attach(base))
    with torch.no_grad():
        for parameter in net.trainable_copy.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    expected = fingerprint(base.backbone.network.state_dict())
    net.contract = Contract(stated=True, detector="canny", base="base-0", base_fingerprint=expected, prompt_drop=0.5)
    net.save(folder / "net")
    return folder


def test_copied_weights_move_with_the_bases(folder, tmp_path) -> None:
    old, new = (mq.load_base(folder / name) for name in ("base-0", "base-1"))
    path = transfer(folder / "net", folder / "base-0", folder / "base-1", tmp_path / "moved")
    net, moved = mq.load_controlnet(folder / "net", old), mq.load_controlnet(path, new)
    first, second = (mq.ControlNet.attach(base).trainable_copy.state_dict() for base in (old, new))
    for name, value in moved.trainable_copy.state_dict().items():
        expected = net.trainable_copy.state_dict()[name] + second[name] - first[name]
        assert torch.allclose(value, expected, atol=1e-6)
    for part in ("condition_encoder", "zero_convs"):
        before, after = (getattr(controlnet, part).state_dict() for controlnet in (net, moved))
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert moved.contract.detector == "canny"
    assert moved.contract.base == str(folder / "base-1")


def test_a_base_fine_tuned_by_a_lora_takes_the_controlnet_as_it_is_and_by_offset(folder, tmp_path) -> None:
    """By offset, the copied weights gain exactly what the LoRA added to the base; as it is, they stay."""
    old, new = (mq.load_base(folder / "base-0") for _ in range(2))
    module = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    down, up = torch.randn(4, 32), torch.randn(32, 4)
    tensors = {f"unet.{module}.lora_A.weight": down, f"unet.{module}.lora_B.weight": up}
    write_weights(tensors, tmp_path / "lora.safetensors", {})
    new.add_lora(tmp_path / "lora.safetensors", 0.5)
    save_base(new, tmp_path / "new")
    net = mq.load_controlnet(folder / "net", old).trainable_copy.state_dict()
    with warnings.catch_warnings(action="ignore"):  # that its base is another, if the sample of weights has this one
        as_it_is = mq.load_controlnet(folder / "net", new).trainable_copy.state_dict()
    path = transfer(folder / "net", folder / "base-0", tmp_path / "new", tmp_path / "moved")
    moved = mq.load_controlnet(path, new).trainable_copy.state_dict()
    change = {f"{module}.weight": 0.5 * up @ down}
    for name, value in net.items():
        assert torch.equal(as_it_is[name], value)
        assert torch.allclose(moved[name], value + change.get(name, 0), atol=1e-6)


def test_a_fresh_one_moves_to_a_fresh_one(folder, tmp_path) -> None:
    """A copy that equals the old base equals the new base afterwards."""
    old, new = (mq.load_base(folder / name) for name in ("base-0", "base-1"))
    mq.ControlNet.attach(old).save(tmp_path / "fresh")
    moved = mq.load_controlnet(transfer(tmp_path / "fresh", folder / "base-0", folder / "base-1", tmp_path / "to"), new)
    for name, value in mq.ControlNet.attach(new).trainable_copy.state_dict().items():
        assert torch.allclose(moved.trainable_copy.state_dict()[name], value, atol=1e-7)


def test_what_does_not_move(folder, tmp_path) -> None:
    save_base(tiny_base("sd21"), tmp_path / "other")
    with pytest.raises(MaquetteError, match="are of different families"):
        transfer(folder / "net", folder / "base-0", tmp_path / "other", tmp_path / "to")
    with pytest.raises(MaquetteError, match="was trained on 'base-0', not on"):
        transfer(folder / "net", folder / "base-1", folder / "base-0", tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_info(folder, tokenizer, tmp_path) -> None:  # noqa: F811
    text = info(folder / "net")
    assert "a ControlNet, format diffusers" in text
    assert "SD 1.x, text 24 wide" in text
    assert "13: 16×4 32×9" in text
    assert "detector          canny" in text
    original = convert(folder / "net", tmp_path / "net.pth", "original")
    assert "format original" in info(original)
    assert "none: taken as published, condition in [0, 1], RGB" in info(original)  # .pth has no place for a contract
    difference = convert(folder / "net", tmp_path / "d.safetensors", "difference", folder / "base-0")
    assert "format difference" in info(difference)
    assert "detector          canny" in info(difference)
    write_weights(whole(model("xl", tokenizer), "xl"), tmp_path / "xl.safetensors", {})
    assert "a base\ntopology    laid out as SDXL, text 192 wide\nslots       10: 64×10" in info(
        tmp_path / "xl.safetensors"
    )
    assert "float16" in info("diorama")
    for name in ("diorama", "diorama/canny"):
        assert "laid out as SD 2.x, text 128 wide" in info(name)
    with pytest.raises(MaquetteError, match="There is no base 'nothing'"):
        info("nothing")


def test_commands(folder, tmp_path) -> None:
    described = CliRunner().invoke(app, ["info", str(folder / "net"), "diorama"])
    assert described.exit_code == 0
    assert described.output.count("parameters") == 2
    arguments = [
        "transfer",
        str(folder / "net"),
        "--from",
        str(folder / "base-0"),
        "--to",
        str(folder / "base-1"),
        "-o",
    ]
    moved = CliRunner().invoke(app, [*arguments, str(tmp_path / "moved")])
    assert moved.exit_code == 0, moved.output
    assert (tmp_path / "moved" / "config.json").exists()
