"""What may be wrong with a folder or file of Stable Diffusion 3 is said in one sentence, and the rest is read."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import randomise, tiny_base
from tests.tiny_sd3 import MEDIUM, published, tiny_sd3

import maquette as mq
from maquette.base import Base
from maquette.checkpoints.convert import convert, largest_difference, transfer
from maquette.checkpoints.info import info
from maquette.checkpoints.save import save_base
from maquette.errors import MaquetteError, MaquetteWarning

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def base() -> Base:
    return tiny_sd3()


@pytest.fixture(scope="module")
def folder(base, tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("base")
    save_base(base, made)
    return made


def without(folder: Path, part: str, target: Path) -> Path:
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns(part))
    return target


def changed(folder: Path, part: str, target: Path, **values) -> Path:
    """A copy of a folder with other settings in one of its files."""
    shutil.copytree(folder, target)
    path = target / part
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return target


@pytest.mark.parametrize("part", ["text_encoder", "text_encoder_2", "tokenizer", "tokenizer_3"])
def test_a_missing_text_encoder(part, folder, tmp_path) -> None:
    with pytest.raises(MaquetteError, match=f"has no folder '{part}'"):
        mq.load_base(without(folder, part, tmp_path / "cut"))


def test_a_vocabulary_of_t5_that_is_missing(folder, tmp_path) -> None:
    cut = shutil.copytree(folder, tmp_path / "cut")
    (cut / "tokenizer_3" / "tokenizer.json").unlink()
    with pytest.raises(MaquetteError, match=r"The tokenizer_3 of the base .*\(there is no tokenizer\.json"):
        mq.load_base(cut)


def test_another_schedule(folder, tmp_path) -> None:
    other = changed(folder, "scheduler/scheduler_config.json", tmp_path / "other", _class_name="DDIMScheduler")
    with pytest.raises(MaquetteError, match="trained by flow matching, and its scheduler is a DDIMScheduler"):
        mq.load_base(other)


def test_a_transformer_of_one_block() -> None:
    with pytest.raises(MaquetteError, match="one block takes no residuals"):
        tiny_sd3(blocks=1)


def test_a_net_of_a_u_net_and_the_reverse(base, tmp_path) -> None:
    unet = tiny_base("sd15")
    mq.ControlNet.attach(unet).save(tmp_path / "unet")
    mq.ControlNet.attach(base).save(tmp_path / "sd3")
    for name in ("unet", f"unet/{WEIGHTS}"):
        with pytest.raises(MaquetteError, match="holds no ControlNet for Stable Diffusion 3, which this base is"):
            mq.load_controlnet(tmp_path / name, base)
    for name in ("sd3", f"sd3/{WEIGHTS}"):
        with pytest.raises(
            MaquetteError, match="is made for Stable Diffusion 3, a transformer, and this base is a U-Net"
        ):
            mq.load_controlnet(tmp_path / name, unet)
    with pytest.raises(MaquetteError, match="is made for another base: its residuals have widths"):
        mq.generate(base, "a", mq.Control(mq.ControlNet.attach(unet), torch.rand(1, 3, 64, 64)), steps=1)


def test_a_net_of_another_size_or_with_more_channels(base, tmp_path) -> None:
    published(tiny_sd3(num_attention_heads=3, caption_projection_dim=24), 2).save_pretrained(tmp_path / "wide")
    with pytest.raises(MaquetteError, match="is made for another Stable Diffusion 3"):
        mq.load_controlnet(tmp_path / "wide", base)
    published(base, 2, extra_conditioning_channels=2).save_pretrained(tmp_path / "mask")
    with pytest.raises(MaquetteError, match="or with a mask of 1 channel to paint in"):
        mq.load_controlnet(tmp_path / "mask", base)
    published(tiny_sd3(**MEDIUM), 2).save_pretrained(tmp_path / "medium")
    with pytest.raises(MaquetteError, match="tensors of a ControlNet on this base"):
        mq.load_controlnet(tmp_path / "medium", base)


@pytest.mark.parametrize("layers", [0, "six", None, True])
def test_a_number_of_blocks_that_is_none(layers, base, tmp_path) -> None:
    mq.ControlNet.attach(base).save(tmp_path / "net")
    other = changed(tmp_path / "net", "config.json", tmp_path / "other", num_layers=layers)
    with pytest.raises(MaquetteError, match="1 or more blocks"):
        mq.load_controlnet(other, base)


@pytest.mark.parametrize("size", [(64, 72), (208, 64), (64, 208)])
def test_a_size_that_packs_badly(size, base) -> None:
    rule = "multiples of 16" if 72 in size else "multiples of 16 up to 192 pixels, not"
    with pytest.raises(MaquetteError, match=rule):
        mq.generate(base, "a", size=size, steps=1)
    latents, text = torch.randn(1, 4, size[1] // 8, size[0] // 8), base.encode_text(["a"])
    with pytest.raises(MaquetteError, match="multiples of 16 up to 192 pixels, not"):
        mq.ControlNet.attach(base).trainable_copy(latents, 1, text)


@pytest.mark.parametrize("form", [{}, {"joint_attention_dim": None, "use_pos_embed": False, "pos_embed_type": None,
                                       "force_zeros_for_pooled_projection": False}])  # fmt: skip
def test_a_file_without_config_is_told_by_its_tensors(form, base, tmp_path) -> None:
    published(base, 2, **form).save_pretrained(tmp_path)
    (whole, alone) = (mq.load_controlnet(path, base) for path in (tmp_path, tmp_path / WEIGHTS))
    assert whole.control.design == alone.control.design
    states = whole.state_dict(), alone.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_weights_in_shards(base, tmp_path) -> None:
    net = published(base, 3)
    net.save_pretrained(tmp_path, max_shard_size="20KB")
    assert not (tmp_path / WEIGHTS).exists()
    loaded = mq.load_controlnet(tmp_path, base)
    assert torch.equal(loaded.published()["controlnet_blocks.2.weight"], net.controlnet_blocks[2].weight)


def test_attach_copies_every_embedder_and_leaves_the_base_as_it_is(base) -> None:
    network = base.backbone.network
    config = dict(network.config)
    net = mq.ControlNet.attach(base, blocks=3)
    assert dict(network.config) == config
    mine, theirs = net.published(), network.state_dict()
    copied = [name for name in mine if name in theirs]
    parts = {name.split(".")[0] for name in copied}
    assert parts == {"pos_embed", "time_text_embed", "context_embedder", "transformer_blocks"}
    assert len(copied) == len(mine) - 2 - 6
    for name in copied:
        assert torch.equal(mine[name], theirs[name])
        assert mine[name].data_ptr() != theirs[name].data_ptr()
    assert [len(slots) for slots in net.wiring] == [2, 1, 0]  # of 4 blocks: 0, 0, 1, and the last takes none
    with pytest.raises(MaquetteError, match="Of this base 1 to 3 blocks can be copied, not 4"):
        mq.ControlNet.attach(base, blocks=4)
    with pytest.warns(MaquetteWarning, match="blocks has no effect"):
        mq.ControlNet.attach(tiny_base("sd15"), blocks=4)


def test_info_of_a_base_and_of_its_nets(base, folder, tmp_path) -> None:
    told = info(folder)
    assert "Stable Diffusion 3, text 40 wide" in told
    assert "4 × 16" in told
    published(base, 2, joint_attention_dim=None).save_pretrained(tmp_path)
    told = info(tmp_path)
    assert "a ControlNet, format diffusers" in told
    assert "Stable Diffusion 3, no text" in told
    assert "2 × 16" in told


def test_gradient_checkpointing_changes_no_gradient(base) -> None:
    from maquette.training.hardware import checkpointed

    z, text = torch.randn(1, 4, 8, 8), base.encode_text(["a b"])
    gradients = []
    for enabled in (False, True):
        net = randomise(mq.ControlNet.attach(base))
        with checkpointed(enabled, base.backbone.network, net):
            base.predict(z, 500, text, net(z, 500, text, net.encode(z))).square().mean().backward()
        gradients.append([one.grad for one in net.parameters() if one.grad is not None])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


def test_shared_embedding_of_t5_may_be_stored_twice(folder, base, tmp_path) -> None:
    copied = shutil.copytree(folder, tmp_path / "copied")
    path = copied / "text_encoder_3" / "model.safetensors"
    stored = load_file(path)
    save_file({**stored, "encoder.embed_tokens.weight": stored["shared.weight"].clone()}, path)
    loaded = mq.load_base(copied)
    assert torch.equal(loaded.encode_text(["a b"]).hidden_states, base.encode_text(["a b"]).hidden_states)


def test_converted_and_transferred(folder, base, tmp_path) -> None:
    other = tiny_sd3(seed=1)
    save_base(other, tmp_path / "other")
    net = randomise(mq.ControlNet.attach(base))
    net.save(tmp_path / "net")
    kept = convert(tmp_path / "net", tmp_path / "again", "diffusers")
    assert largest_difference(tmp_path / "net", kept, folder) == 0
    with pytest.raises(MaquetteError, match="has no name in the original layout"):
        convert(tmp_path / "net", tmp_path / "net.safetensors", "original")
    with pytest.raises(MaquetteError, match="is only read together with its base; give the base"):
        largest_difference(tmp_path / "net", kept)
    moved = mq.load_controlnet(transfer(tmp_path / "net", folder, tmp_path / "other", tmp_path / "moved"), other)
    mine, theirs, fresh = (one.published() for one in (moved, net, mq.ControlNet.attach(other)))
    for name in mine:
        own = name.startswith(("controlnet_blocks.", "pos_embed_input."))
        assert torch.allclose(mine[name], theirs[name] if own else fresh[name], atol=1e-6)
