"""Error messages for broken ControlNet folders and ControlNets of other bases."""

import json
from pathlib import Path

import diffusers
import pytest
import torch
from tests.conftest import tiny_base

import maquette as mq
from maquette.controlnet.contract import Contract, fingerprint
from maquette.controlnet.save import WEIGHTS
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.formats.write import write_weights
from maquette.foundation.weights import open_weights


@pytest.fixture
def base() -> mq.Base:
    return tiny_base("sd15")


@pytest.fixture
def folder(base, tmp_path) -> Path:
    mq.ControlNet.attach(base).save(tmp_path / "net")
    return tmp_path / "net"


def configure(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_an_unknown_name_lists_the_bundled_ones(base) -> None:
    with pytest.raises(MaquetteError, match="There is no ControlNet 'diorama/cany'"):
        mq.load_controlnet("diorama/cany", base)


def test_a_folder_without_a_configuration(base, tmp_path) -> None:
    with pytest.raises(MaquetteError, match=r"no config.json"):
        mq.load_controlnet(tmp_path, base)


def test_a_configuration_that_is_not_json(base, folder) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(MaquetteError, match="is not JSON"):
        mq.load_controlnet(folder, base)


def test_weights_missing_or_cut_off(base, folder) -> None:
    weights = folder / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(MaquetteError, match="cut off or broken"):
        mq.load_controlnet(folder, base)
    weights.unlink()
    with pytest.raises(MaquetteError, match=r"cannot be read \(No such file"):
        mq.load_controlnet(folder, base)


def test_weights_of_another_base(folder) -> None:
    with pytest.raises(MaquetteError, match="made for a base of widths"):
        mq.load_controlnet(folder, tiny_base("diorama"))
    with pytest.raises(MaquetteError, match="has the shape"):
        mq.load_controlnet(folder, tiny_base("sd21"))


def test_pooling_is_a_property_of_one_file(base, folder, tmp_path) -> None:
    """In config.json, or in the .yaml next to a file; it does not affect the next file that is loaded."""
    configure(folder, global_pool_conditions=True)
    assert mq.load_controlnet(folder, base).contract.pooled
    (file := tmp_path / "control_shuffle.safetensors").write_bytes((folder / WEIGHTS).read_bytes())
    assert not mq.load_controlnet(file, base).contract.pooled  # the file's name does not matter
    file.with_suffix(".yaml").write_text("model:\n  params:\n    global_average_pooling: True\n")
    net = mq.load_controlnet(file, base)
    assert net.contract.pooled
    net.save(tmp_path / "again")
    assert mq.load_controlnet(tmp_path / "again", base).contract.pooled
    configure(folder, global_pool_conditions=False)
    assert not mq.load_controlnet(folder, base).contract.pooled


def test_channels_are_put_into_the_order_of_training(base, folder) -> None:
    condition = torch.rand(1, 3, 128, 128)
    rgb = mq.load_controlnet(folder, base)
    configure(folder, controlnet_conditioning_channel_order="bgr")
    bgr = mq.load_controlnet(folder, base)
    assert torch.equal(bgr.condition_encoder.conv_in(condition), rgb.condition_encoder.conv_in(condition))
    for net in (bgr, rgb):
        torch.nn.init.ones_(net.condition_encoder.conv_out.weight)
    assert torch.equal(bgr.encode(condition), rgb.encode(condition.flip(1)))
    assert not torch.equal(bgr.encode(condition), rgb.encode(condition))


def test_a_contract_is_kept_in_both_places(base, tmp_path) -> None:
    """config.json and the file's metadata: either is enough."""
    net = mq.ControlNet.attach(base)
    expected = fingerprint(base.backbone.network.state_dict())
    net.contract = Contract(stated=True, detector="canny", base="tiny", base_fingerprint=expected, prompt_drop=0.5)
    net.save(tmp_path)
    assert mq.load_controlnet(tmp_path, base).contract == net.contract
    assert mq.load_controlnet(tmp_path / WEIGHTS, base).contract == net.contract


def test_diffusers_reads_the_folder_without_a_word(base, tmp_path, caplog) -> None:
    net = mq.ControlNet.attach(base)
    net.contract = Contract(stated=True, base_fingerprint=fingerprint(base.backbone.network.state_dict()))
    net.save(tmp_path)
    diffusers.utils.logging.enable_propagation()
    try:
        diffusers.ControlNetModel.from_pretrained(tmp_path)
    finally:
        diffusers.utils.logging.disable_propagation()
    assert not [record.message for record in caplog.records if record.levelname == "WARNING"]


def test_the_configuration_of_0_2_is_read(base, tmp_path) -> None:
    net = mq.ControlNet.attach(base, connect="middle")
    net.contract = Contract(stated=True, detector="canny")
    net.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "maquette": config.pop("_maquette")}))
    weights = open_weights(tmp_path / WEIGHTS)
    write_weights(dict(weights), tmp_path / WEIGHTS, {})
    again = mq.load_controlnet(tmp_path, base)
    assert (again.config, again.contract) == (net.config, net.contract)


def test_another_base_is_noticed(base, tmp_path) -> None:
    net = mq.ControlNet.attach(base)
    net.contract = Contract(stated=True, base="tiny", base_fingerprint=fingerprint(base.backbone.network.state_dict()))
    net.save(tmp_path)
    with pytest.warns(MaquetteWarning, match=r"trained on another base \(tiny\)"):
        mq.load_controlnet(tmp_path, tiny_base("sd15", seed=1))
    rounded = tiny_base("sd15")
    rounded.backbone.network.to(torch.bfloat16)
    mq.load_controlnet(tmp_path, rounded)  # the same base in another precision: no warning


def test_without_a_contract_the_published_defaults_hold(base, folder) -> None:
    contract = mq.load_controlnet(folder, base).contract
    assert (contract.stated, contract.condition_range, contract.channel_order) == (False, (0.0, 1.0), "rgb")
