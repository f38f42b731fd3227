"""Control in context: the condition's tokens join the sequence of a transformer, which stays the base's own."""

from types import SimpleNamespace

import pytest
import torch
from tests.conftest import tiny_base
from tests.tiny_sd3 import MEDIUM, tiny_sd3
from torch import Tensor

import maquette as mq
from maquette.backbones.transformers.sd3_context import OPENING
from maquette.checkpoints.convert import convert
from maquette.checkpoints.info import info
from maquette.controlnet.network import ControlNet
from maquette.errors import MaquetteError, MaquetteWarning

CONDITION = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module", params=[{}, MEDIUM], ids=["3", "3.5"])
def base(request) -> mq.Base:
    return tiny_sd3(t5=False, blocks=3, **request.param)


def attached(base: mq.Base, effect: float = 0.0) -> ControlNet:
    net = ControlNet.attach(SimpleNamespace(backbone=base.backbone), variant="context")
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for parameter in net.parameters():
            parameter += effect * torch.randn(parameter.shape, generator=generator)
    return net


def kept(base: mq.Base, net: ControlNet) -> Tensor:
    return net.encode(net.condition_input(CONDITION, base.encode_maps))


def predicted(base: mq.Base, net: ControlNet, z: Tensor) -> Tensor:
    text = base.encode_text(["a", ""])
    return base.predict(z, 500, text, net(z, 500, text, kept(base, net)))


@pytest.fixture
def latents() -> Tensor:
    return torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def test_closed_gates_leave_the_base_bitwise(base, latents) -> None:
    """Whatever else has been trained."""
    plain = base.predict(latents, 500, base.encode_text(["a", ""]))
    assert torch.equal(predicted(base, attached(base), latents), plain)
    net = attached(base, 0.1)
    assert not torch.allclose(predicted(base, net, latents), plain, atol=1e-3)
    for name, parameter in net.named_parameters():
        if name.endswith("gate"):
            parameter.zero_()
    assert torch.equal(predicted(base, net, latents), plain)


@torch.no_grad()
def test_open_gates_are_one_attention_over_all_tokens(base, latents) -> None:
    """Against one masked sequence of image, text and condition, the low-rank matrices added to the weights."""
    net = attached(base, 0.1)
    for name, parameter in net.named_parameters():
        if name.endswith("gate"):
            parameter.fill_(1 / OPENING)
    assert torch.allclose(predicted(base, net, latents), one_sequence(base, net, latents), atol=1e-5)


def one_sequence(base: mq.Base, net: ControlNet, z: Tensor) -> Tensor:
    """The prediction for latents (B, C, h, w) with every attention over the whole sequence."""
    network, text = base.backbone.network, base.encode_text(["a", ""])
    embedding = network.pos_embed
    x, c = embedding(z), network.context_embedder(text.hidden_states)
    given = base.encode_maps(CONDITION)
    y = embedding(given) + net.condition_encoder.conv_out(given).flatten(2).mT
    now = network.time_text_embed(torch.tensor([500, 500]), text.pooled)
    clean = network.time_text_embed(torch.tensor([0, 0]), torch.zeros_like(text.pooled))
    lengths = [x.shape[1], c.shape[1], y.shape[1]]
    of_condition = torch.cat([torch.full((length,), part == 2) for part, length in enumerate(lengths)])
    allowed = ~of_condition[:, None] | of_condition[None, :]  # the condition's tokens attend to one another alone
    for block, low in zip(network.transformer_blocks, net.trainable_copy.transformer_blocks, strict=True):
        attn, last = block.attn, block.context_pre_only
        normed, *gates = block.norm1(x, emb=now)
        normed_y, *gates_y = block.norm1(y, emb=clean)
        normed_c, *gates_c = (block.norm1_context(c, now),) if last else block.norm1_context(c, emb=now)
        rows = []
        for letter, norm, norm_c in (
            ("q", attn.norm_q, attn.norm_added_q), ("k", attn.norm_k, attn.norm_added_k), ("v", None, None)
        ):  # fmt: skip
            layer, change = getattr(attn, f"to_{letter}"), getattr(low.attn, f"to_{letter}", None)
            weight = layer.weight if change is None else layer.weight + change.lora_B.weight @ change.lora_A.weight
            parts = [layer(normed), getattr(attn, f"add_{letter}_proj")(normed_c), normed_y @ weight.T + layer.bias]
            parts = [part.unflatten(2, (attn.heads, -1)) for part in parts]
            norms = [norm, norm_c, norm]
            rows.append(torch.cat([n(p) if n else p for n, p in zip(norms, parts, strict=True)], dim=1))
        q, k, v = rows  # (B, tokens, heads, d)
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
        weights = scores.masked_fill(~allowed, -torch.inf).softmax(dim=3)
        read_x, read_c, read_y = torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2).split(lengths, dim=1)
        x = half(block, x, attn.to_out[0](read_x), gates)
        if not last:
            gate, shift, scale, gate_ff = gates_c
            c = c + gate[:, None] * attn.to_add_out(read_c)
            normed_c = block.norm2_context(c) * (1 + scale[:, None]) + shift[:, None]
            c = c + gate_ff[:, None] * block.ff_context(normed_c)
            out = low.attn.to_out[0]
            y = half(block, y, attn.to_out[0](read_y) + read_y @ (out.lora_B.weight @ out.lora_A.weight).T, gates_y)
    patches = network.proj_out(network.norm_out(x, now)).unflatten(2, (2, 2, 4)).unflatten(1, (8, 8))
    return torch.einsum("byxpqc->bcypxq", patches).flatten(4, 5).flatten(2, 3)


def half(block, x: Tensor, read: Tensor, gates: list[Tensor]) -> Tensor:
    """The rest of a block for tokens (B, L, D) that have read (B, L, D)."""
    gate, shift, scale, gate_ff, *dual = gates
    x = x + gate[:, None] * read
    if dual:
        x = x + dual[1][:, None] * block.attn2(dual[0])
    return x + gate_ff[:, None] * block.ff(block.norm2(x) * (1 + scale[:, None]) + shift[:, None])


def test_all_of_it_trains_and_the_base_stays_locked(base, latents) -> None:
    net = attached(base, 0.1)
    predicted(base, net, latents).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in net.parameters())
    assert all(parameter.grad is None for parameter in base.backbone.network.parameters())


def test_recomputing_changes_no_gradient(base, latents) -> None:
    from maquette.training.hardware import checkpointed

    gradients = []
    for enabled in (False, True):
        net = attached(base, 0.1)
        with checkpointed(enabled, net):
            predicted(base, net, latents).square().mean().backward()
        gradients.append([parameter.grad for parameter in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_it_holds_no_weight_of_the_base(base, tmp_path) -> None:
    """Low-rank matrices, gates and a change of the patch embedding: counted by hand for this width."""
    net = attached(base)
    width, rank, heads, blocks = 16, 16, 2, 3
    low = 2 * width * rank
    assert sum(parameter.numel() for parameter in net.parameters()) == (
        blocks * (2 * low + heads) + (blocks - 1) * 2 * low + (4 * 2 * 2 + 1) * width
    )


@torch.no_grad()
def test_it_is_saved_loaded_and_told(base, latents, tmp_path) -> None:
    net = attached(base, 0.1)
    net.save(tmp_path / "net")
    loaded = mq.load_controlnet(tmp_path / "net", base)
    assert loaded.config.variant == "context"
    assert torch.equal(predicted(base, loaded, latents), predicted(base, net, latents))
    assert "control in context" in info(tmp_path / "net") and "rank        16, in 3 blocks" in info(tmp_path / "net")
    with pytest.raises(MaquetteError, match="is control in context, for which other programs have no format"):
        convert(tmp_path / "net", tmp_path / "other.safetensors", "original")


def test_a_base_that_it_was_not_made_for_is_a_sentence(base, tmp_path) -> None:
    attached(base).save(tmp_path)
    with pytest.raises(MaquetteError, match="where image and condition are tokens of one sequence"):
        mq.load_controlnet(tmp_path, tiny_base("sd15"))
    with pytest.raises(MaquetteError, match="load the base that the ControlNet was trained on"):
        mq.load_controlnet(tmp_path, tiny_sd3(t5=False, blocks=3, num_attention_heads=3, caption_projection_dim=24))
    with pytest.raises(MaquetteError, match="another base"):
        mq.load_controlnet(tmp_path, tiny_sd3(t5=False, blocks=2))


def test_a_condition_is_read_once_for_a_picture_and_in_any_batch(base, monkeypatch) -> None:
    net, calls = attached(base, 0.1), []
    keep = net.trainable_copy.keep
    monkeypatch.setattr(net.trainable_copy, "keep", lambda *given: calls.append(len(given[0])) or keep(*given))
    settings = {"steps": 3, "guidance": 2.0, "record": False}
    both = mq.generate(base, ["a", "b"], [mq.Control(net, CONDITION)], seed=1, returns="latents", **settings)
    assert calls == [2]
    one = mq.generate(base, "b", [mq.Control(net, CONDITION[1:])], seed=2, returns="latents", **settings)
    assert torch.allclose(both[1:], one, atol=1e-4)


def test_it_is_a_control_like_any(base) -> None:
    """Fresh and at weight 0 it changes no bit; with a weight and a mask it lies between the base and itself."""
    plain = mq.generate(base, "a", steps=2, seed=1, record=False)[0].tobytes()
    net = attached(base, 0.1)
    for control in (mq.Control(attached(base), CONDITION[:1]), mq.Control(net, CONDITION[:1], weight=0.0)):
        assert mq.generate(base, "a", [control], steps=2, seed=1, record=False)[0].tobytes() == plain
    control = mq.Control(net, CONDITION[:1], mask=torch.eye(128).numpy())
    assert mq.generate(base, "a", [control], steps=2, seed=1, record=False)[0].tobytes() != plain
    z, text, mask = torch.randn(1, 4, 16, 16), base.encode_text(["a"]), torch.rand(1, 1, 8, 8)  # a share for each token
    with torch.no_grad():
        residuals = net(z, 500, text, net.encode(net.condition_input(CONDITION[:1], base.encode_maps)))
        own, without = base.predict(z, 500, text, residuals), base.predict(z, 500, text)
        weighted = base.predict(z, 500, text, residuals.scaled(0.3).masked([mask] * len(residuals)))
    of_cells = mask.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert torch.allclose(weighted, without + 0.3 * of_cells * (own - without), atol=1e-5)


def test_what_does_not_go_is_said(base) -> None:
    with pytest.raises(MaquetteError, match="is for Stable Diffusion 3, where image and condition are tokens"):
        ControlNet.attach(tiny_base("sd15"), variant="context")
    with pytest.warns(MaquetteWarning, match="in context nothing is copied"):
        ControlNet.attach(base, variant="context", blocks=2)
    with pytest.warns(MaquetteWarning, match="control in context has no residuals"):
        ControlNet.attach(base, variant="context", connect="middle")
    with pytest.raises(MaquetteError, match='unlock is of ControlNets, and variant = "context" is none'):
        mq.TrainingConfig(condition="canny", output="runs/x", variant="context", unlock="all")
    control = mq.Control(attached(base, 0.1), CONDITION[:1], balance="prompt")
    with pytest.raises(MaquetteError, match="or in context, predicts by itself"):
        mq.generate(base, "a", [control], steps=1)
