"""The loss, its weights, gradient checkpointing, and what each stage trains."""

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from tests.conftest import FAMILIES, randomise, text_for, tiny_base

import maquette as mq
from maquette.noise.ddpm import DDPM
from maquette.training.hardware import checkpointed
from maquette.training.loss import Controlled, loss
from maquette.training.stages import Stage, enter


def gradients(base, net, *, checkpointing: bool = False, min_snr: float = 0.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    channels = base.backbone.latent_channels
    latents, noise = torch.randn((2, 2, channels, 16, 16), generator=generator)
    condition = torch.rand((2, 3, 128, 128), generator=generator)
    net.zero_grad()
    with checkpointed(checkpointing, base.backbone.network, net):
        value = loss(
            Controlled(base.backbone, net), base.noise, latents, text_for(base.backbone), condition,
            torch.tensor([100, 800]), noise, min_snr,
        )  # fmt: skip
        value.backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointing_leaves_the_gradients_unchanged(family) -> None:
    base = tiny_base(family)
    net = randomise(mq.ControlNet.attach(base))
    calls = 0
    forward = type(base.backbone.network.up_blocks[0].resnets[0]).forward

    def counted(self, *args, **more):
        nonlocal calls
        calls += 1
        return forward(self, *args, **more)

    plain = gradients(base, net)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(base.backbone.network.up_blocks[0].resnets[0]), "forward", counted)
        gradients(base, net)
        once, calls = calls, 0
        again = gradients(base, net, checkpointing=True)
    assert calls > 1.5 * once  # activations were recomputed
    assert all(torch.allclose(plain[name], again[name], atol=1e-6) for name in plain)
    assert not any(getattr(block, "gradient_checkpointing", False) for block in net.modules())


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_weights_are_those_of_the_paper(prediction) -> None:
    schedule = DDPMScheduler(prediction_type=prediction)
    process = DDPM(dict(schedule.config))
    timesteps = torch.arange(0, 1000, 50)
    snr = compute_snr(schedule, timesteps)
    expected = torch.minimum(snr, torch.tensor(5.0)) / (snr if prediction == "epsilon" else snr + 1)
    assert torch.allclose(process.loss_weights(timesteps, 5.0), expected, rtol=1e-4)


def test_min_snr_changes_the_gradients() -> None:
    base = tiny_base("sd15")
    net = randomise(mq.ControlNet.attach(base))
    plain, weighted = gradients(base, net), gradients(base, net, min_snr=5.0)
    assert not torch.allclose(plain["zero_convs.12.weight"], weighted["zero_convs.12.weight"], rtol=1e-2)


@pytest.mark.parametrize(
    ("stage", "trained"),
    [
        (Stage("middle", None), {"12"}),
        (Stage("all", None), {str(slot) for slot in range(13)}),
        (Stage("all", "decoder"), {str(slot) for slot in range(13)}),
        (Stage("all", "all"), {str(slot) for slot in range(13)}),
    ],
)
def test_a_stage_trains_what_it_says(stage, trained) -> None:
    base = tiny_base("sd15")
    net = randomise(mq.ControlNet.attach(base))
    enter(stage, base, net)
    found = gradients(base, net)
    assert {name.split(".")[1] for name in found if name.startswith("zero_convs")} == trained
    with_gradient = {name.split(".")[0] for name, p in base.backbone.network.named_parameters() if p.grad is not None}
    decoder = {"up_blocks", "conv_norm_out", "conv_out"}
    encoder = {"conv_in", "down_blocks", "mid_block", "time_embedding"}
    assert with_gradient == {None: set(), "decoder": decoder, "all": decoder | encoder}[stage.unlocked]
    copied = [p for name, p in net.named_parameters() if name.startswith("trainable_copy.down_blocks.0")]
    assert all(p.grad is not None and p.grad.any() for p in copied)


def test_min_snr_weights_are_finite_at_zero_terminal_snr() -> None:
    process = DDPM({"beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True})
    process._schedule.alphas_cumprod[999] = 0
    assert process.loss_weights(torch.tensor([999]), 5.0).tolist() == [1.0]
