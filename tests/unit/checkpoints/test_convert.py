"""Every format there and back gives bitwise the same tensors; diffusers can load the inferred configuration."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel
from tests.conftest import randomise, tiny_base
from tests.unit.checkpoints.test_original import model, tokenizer, whole  # noqa: F401
from typer.testing import CliRunner

import maquette as mq
from maquette.checkpoints.convert import convert, largest_difference, transfer
from maquette.checkpoints.info import info
from maquette.checkpoints.names import bundled
from maquette.checkpoints.save import save_base
from maquette.cli.main import app
from maquette.controlnet.save import WEIGHTS
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.formats.write import write_weights
from maquette.foundation.weights import open_weights

TARGETS = {
    "diffusers": ("diffusers", "folder"),
    "original": ("original", "net.safetensors"),
    "pth": ("original", "net.pth"),
    "difference": ("difference", "difference.safetensors"),
}


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    save_base(tiny_base("sd15"), folder)
    return folder


@pytest.fixture(scope="module")
def net_folder(base_folder, tmp_path_factory) -> Path:
    net = randomise(mq.ControlNet.attach(mq.load_base(base_folder)))
    with torch.no_grad():
        for parameter in net.trainable_copy.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    net.save(folder := tmp_path_factory.mktemp("net"))
    return folder


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return dict(open_weights(folder / WEIGHTS))


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(TARGETS, 2)), ids="-".join)
def test_there_and_back(first: str, second: str, base_folder, net_folder, tmp_path) -> None:
    path = net_folder
    for number, name in enumerate((first, second)):
        to, file = TARGETS[name]
        path = convert(path, tmp_path / str(number) / file, to, base_folder)
    back = convert(path, tmp_path / "back", "diffusers", base_folder)
    before, after = tensors(net_folder), tensors(back)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)


@pytest.mark.parametrize("family", ["sd1", "sd2", "xl"])
def test_the_configuration_is_inferred_from_the_shapes(family: str, tokenizer, tmp_path) -> None:  # noqa: F811
    base = model(family, tokenizer)
    net = randomise(mq.ControlNet.attach(base))
    net.save(tmp_path / "net")
    original = convert(tmp_path / "net", tmp_path / "net.safetensors", "original")
    folder = convert(original, tmp_path / "again", "diffusers")
    theirs, report = ControlNetModel.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    expected = ControlNetModel.from_pretrained(tmp_path / "net").config
    same = ("block_out_channels", "down_block_types", "cross_attention_dim", "use_linear_projection", "in_channels")
    same = (*same, "attention_head_dim", "transformer_layers_per_block", "norm_num_groups")
    assert all(tuple_of(theirs.config[name]) == tuple_of(expected[name]) for name in same)
    if family != "xl":  # whose pooled width only the base knows
        assert largest_difference(original, folder) == 0


def tuple_of(value: object) -> object:
    return tuple(value) if isinstance(value, list | tuple) else value


def test_verify_sees_a_difference(base_folder, net_folder, tmp_path) -> None:
    changed = {
        name: value + 0.01 if "mid_block.resnets" in name else value for name, value in tensors(net_folder).items()
    }
    write_weights(changed, tmp_path / "net" / WEIGHTS, {})
    (tmp_path / "net" / "config.json").write_text((net_folder / "config.json").read_text())
    assert largest_difference(net_folder, tmp_path / "net", base_folder) > 1e-3


def test_a_base_in_one_file_serves_too(net_folder, tokenizer, tmp_path) -> None:  # noqa: F811
    base = model("sd1", tokenizer)
    write_weights(whole(base, "sd1"), tmp_path / "base.safetensors", {})
    net = randomise(mq.ControlNet.attach(base))
    net.save(tmp_path / "net")
    difference = convert(tmp_path / "net", tmp_path / "d.safetensors", "difference", tmp_path / "base.safetensors")
    back = convert(difference, tmp_path / "back", "diffusers", tmp_path / "base.safetensors")
    before, after = tensors(tmp_path / "net"), tensors(back)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_command(base_folder, net_folder, tmp_path) -> None:
    arguments = ["convert", str(net_folder), str(tmp_path / "n.pth"), "--to", "original", "--verify", "--base"]
    result = CliRunner().invoke(app, [*arguments, str(base_folder)])
    assert result.exit_code == 0, result.output
    assert "largest difference of the residuals: 0" in result.output


def test_what_cannot_be_converted(net_folder, base_folder, tmp_path) -> None:
    with pytest.raises(MaquetteError, match="There is no format to convert to 'lora'"):
        convert(net_folder, tmp_path / "x", "lora")
    with pytest.raises(MaquetteError, match="give the base"):
        convert(net_folder, tmp_path / "x.safetensors", "difference")
    difference = convert(net_folder, tmp_path / "difference.safetensors", "difference", base_folder)
    with pytest.raises(MaquetteError, match="is relative to a base; give the base"):
        convert(difference, tmp_path / "y.safetensors", "original")
    assert [entry.name for entry in tmp_path.iterdir()] == ["difference.safetensors"]


def test_what_shapes_do_not_tell_is_kept(tmp_path) -> None:
    """The diorama's numbers of heads and groups differ from Stable Diffusion's."""
    net = bundled()["diorama/canny"]
    file = convert(net, tmp_path / "canny.safetensors", "original")
    back = convert(file, tmp_path / "back", "diffusers")
    assert (back / "config.json").read_text() == (net / "config.json").read_text()
    assert largest_difference(net, file) == 0


def test_pooling_and_channel_order_are_kept(base_folder, net_folder, tmp_path) -> None:
    """In a .yaml next to the file, in config.json, or in the metadata of safetensors."""
    base = mq.load_base(base_folder)
    pth = convert(net_folder, tmp_path / "shuffle.pth", "original")
    pth.with_suffix(".yaml").write_text("model:\n  params:\n    global_average_pooling: True\n")
    folder = convert(pth, tmp_path / "folder", "diffusers")
    assert json.loads((folder / "config.json").read_text())["global_pool_conditions"]
    for to in ("original", "difference"):
        path = convert(folder, tmp_path / f"{to}.safetensors", to, base_folder)
        assert mq.load_controlnet(path, base).contract.pooled
    moved = transfer(pth, base_folder, base_folder, tmp_path / "moved")
    assert mq.load_controlnet(moved, base).contract.pooled
    assert "pooled" in info(pth)
    with pytest.warns(MaquetteWarning, match="cannot say that its residuals are averaged"):
        convert(folder, tmp_path / "mute.pth", "original")
