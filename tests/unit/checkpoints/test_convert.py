"""Every format there and back gives bitwise the same tensors; diffusers can load the inferred configuration."""

import itertools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from tests.conftest import randomise, tiny_base
from tests.unit.checkpoints.test_original import model, tokenizer, whole  # noqa: F401
from typer.testing import CliRunner

import maquette as mq
from maquette.backbones.unet import UNetBackbone
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


def test_a_comparison_allocates_no_more_than_the_files_hold(net_folder, tmp_path) -> None:
    """The stand-in for the base has no values: by this configuration it would take a terabyte."""
    assert largest_difference(net_folder, convert(net_folder, tmp_path / "n.safetensors", "original")) == 0
    shutil.copytree(net_folder, tmp_path / "wide")
    config = json.loads((net_folder / "config.json").read_text())
    wide = {**config, "block_out_channels": [width * 2**12 for width in config["block_out_channels"]]}
    (tmp_path / "wide" / "config.json").write_text(json.dumps(wide))
    with pytest.raises(MaquetteError, match="has the shape"):
        largest_difference(tmp_path / "wide", net_folder)


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
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (net, back))
    assert after == before
    assert largest_difference(net, file) == 0


def test_a_bundled_one_is_found_by_name(tmp_path) -> None:
    """As `info` finds it, from Python and on the command line."""
    convert("diorama/canny", tmp_path / "canny.safetensors", "original")
    assert largest_difference("diorama/canny", tmp_path / "canny.safetensors") == 0
    line = ["convert", "diorama/canny", str(tmp_path / "again"), "--to", "diffusers"]
    assert CliRunner().invoke(app, line).exit_code == 0
    with pytest.raises(MaquetteError, match="no ControlNet 'diorama/cany'"):
        convert("diorama/cany", tmp_path / "x", "diffusers")


def test_heads_that_shapes_do_not_tell(tmp_path) -> None:
    """A .pth has no place for them: without --heads the file cannot become a folder, with them it is the same again."""
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(32, 32, 64, 96), attention_head_dim=2, use_linear_projection=True,
        cross_attention_dim=24,
    )  # fmt: skip
    net = randomise(mq.ControlNet.attach(SimpleNamespace(backbone=UNetBackbone(unet))))
    net.save(tmp_path / "net")
    pth = convert(tmp_path / "net", tmp_path / "net.pth", "original")
    line = ["convert", str(pth), str(tmp_path / "back"), "--to", "diffusers", "--verify"]
    refused = CliRunner().invoke(app, line)
    assert "give the number (heads=)" in str(refused.exception)
    done = CliRunner().invoke(app, [*line, "--heads", "2"])
    assert done.exit_code == 0, done.output
    assert "largest difference of the residuals: 0" in done.output
    assert largest_difference(tmp_path / "net", tmp_path / "back") == 0
    stored = convert(pth, tmp_path / "stored.safetensors", "original", heads=2)
    assert largest_difference(tmp_path / "net", stored) == 0
    with pytest.warns(MaquetteWarning, match="heads has no effect"):
        convert(stored, tmp_path / "again", "diffusers", heads=2)


def test_norms_that_nothing_tells_need_the_base(tmp_path) -> None:
    pth = convert("diorama/canny", tmp_path / "canny.pth", "original")
    back = convert(pth, tmp_path / "back", "diffusers", heads=2)
    with pytest.raises(
        MaquetteError, match=r"How the norms of .* is not as published and stated nowhere; give the base"
    ):
        largest_difference(pth, back)
    assert largest_difference(pth, back, "diorama") == 0


def test_verifying_on_a_base_that_does_not_say_what_it_predicts(tokenizer, tmp_path) -> None:  # noqa: F811
    base = model("sd2", tokenizer)
    write_weights(whole(base, "sd2"), tmp_path / "base.safetensors", {})
    randomise(mq.ControlNet.attach(base)).save(tmp_path / "net")
    line = ["convert", str(tmp_path / "net"), str(tmp_path / "d.safetensors"), "--to", "difference", "--verify"]
    line += ["--base", str(tmp_path / "base.safetensors"), "--prediction"]
    done = CliRunner().invoke(app, [*line, "v_prediction"])
    assert "largest difference of the residuals: 0" in done.output
    refused = CliRunner().invoke(app, [*line, "v"])
    assert "There is no prediction 'v'" in str(refused.exception)


@pytest.mark.parametrize("design", [{"variant": "lite"}, {"encoder": "paper"}], ids=str)
def test_what_no_other_program_knows_is_not_exported(design, base_folder, tmp_path) -> None:
    base = mq.load_base(base_folder)
    net = randomise(mq.ControlNet.attach(base, **design))
    net.save(tmp_path / "net")
    config = json.loads((tmp_path / "net" / "config.json").read_text())
    assert config["_class_name"] == "maquette.ControlNet"
    again = mq.load_controlnet(tmp_path / "net", base).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in net.state_dict().items())
    for to in ("diffusers", "original", "difference"):
        with pytest.raises(MaquetteError, match="for which other programs have no format"):
            convert(tmp_path / "net", tmp_path / "out", to, base_folder)
    assert not (tmp_path / "out").exists()


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
