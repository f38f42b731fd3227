"""Flow matching compared with diffusers' schedulers and the formulas of published training code."""

import math

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from diffusers.training_utils import compute_density_for_timestep_sampling, compute_loss_weighting_for_sd3

from maquette.errors import MaquetteError
from maquette.noise.config import noise_process
from maquette.noise.flow import FlowMatching

SHIFTS = {
    "none": {},
    "static": {"shift": 3.0},
    "exponential": {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15},
    "linear": {"use_dynamic_shifting": True, "time_shift_type": "linear", "base_shift": 1.2, "max_shift": 3.0},
    "terminal": {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 0.9, "max_image_seq_len": 8192,
                 "shift_terminal": 0.02},
}  # fmt: skip
TOKENS = 1536


def mu_of(config: dict, tokens: int) -> float:
    """calculate_shift of the pipelines of Flux, SD3 and Qwen-Image."""
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    slope = (config["max_shift"] - config["base_shift"]) / (many - few)
    return tokens * slope + config["base_shift"] - slope * few


def theirs(config: dict, steps: int, scheduler_class=FlowMatchEulerDiscreteScheduler):
    """diffusers' scheduler, with steps set as in the pipelines: SD3's statically, Flux's with a dynamic shift."""
    scheduler = scheduler_class(**config)
    if config.get("use_dynamic_shifting"):
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu_of(config, TOKENS))
    else:
        scheduler.set_timesteps(steps)
    return scheduler


def velocity(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """A smooth function instead of a network."""
    return torch.sin(x * 1.3 + time / 400) - 0.4 * x


def sampled(sampler, x: torch.Tensor) -> torch.Tensor:
    for time in sampler.times:
        x = sampler.step(velocity(sampler.scale(x, time), time), time, x)
    return x


@pytest.mark.parametrize("steps", [1, 4, 28])
@pytest.mark.parametrize("shift", SHIFTS)
def test_sigmas_are_those_of_diffusers(shift, steps) -> None:
    process = FlowMatching(SHIFTS[shift])
    if shift == "terminal" and steps == 1:  # a single step cannot be stretched: diffusers' is no number
        assert process.sigmas(steps, TOKENS).tolist() == [1, 0]
        return
    scheduler = theirs(SHIFTS[shift], steps)
    assert (process.sigmas(steps, TOKENS) - scheduler.sigmas).abs().max() < 1.5e-7
    assert (process.sampler("euler", steps, TOKENS).times - scheduler.timesteps).abs().max() < 1.5e-4


def test_the_last_step_can_be_set() -> None:
    """Flux.1 schnell: no shift, and its pipeline's whole steps."""
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / 4, 4))
    assert (FlowMatching({}, whole_steps=True).sigmas(4, TOKENS) - scheduler.sigmas).abs().max() < 1e-6


@pytest.mark.parametrize("shift", SHIFTS)
def test_euler_steps_like_diffusers(shift) -> None:
    scheduler = theirs(SHIFTS[shift], 20)
    x = start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for time in scheduler.timesteps:
        x = scheduler.step(velocity(x, time), time, x).prev_sample
    assert (sampled(FlowMatching(SHIFTS[shift]).sampler("euler", 20, TOKENS), start) - x).abs().max() < 1e-5


@pytest.mark.parametrize("shift", ["none", "static"])
def test_heun_steps_like_diffusers(shift) -> None:
    scheduler = theirs(SHIFTS[shift], 12, FlowMatchHeunDiscreteScheduler)
    sampler = FlowMatching(SHIFTS[shift]).sampler("heun", 12, TOKENS)
    assert (sampler.times - scheduler.timesteps).abs().max() < 1e-3
    x = start = 0.3 * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))  # theirs rounds
    for time in scheduler.timesteps:
        x = scheduler.step(velocity(x, time), time, x).prev_sample
    assert (sampled(sampler, start) - x).abs().max() < 1e-5


def test_methods_have_the_order_they_claim() -> None:
    """v = x integrates to e^(−1) of the start over σ from 1 to 0; half the step, a half or a quarter of the error."""

    def error(name: str, steps: int) -> float:
        sampler = FlowMatching({}, whole_steps=True).sampler(name, steps, TOKENS)
        x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
        for time in sampler.times:
            x = sampler.step(x, time, x)
        return abs(float(x) - math.exp(-1))

    assert error("euler", 64) / error("euler", 128) == pytest.approx(2, rel=0.05)
    # Heun's last step is Euler's, of an error in h² too.
    assert error("heun", 64) / error("heun", 128) == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("name", ["euler", "heun"])
@pytest.mark.parametrize("strength", [1.0, 0.6, 0.05])
def test_a_true_velocity_leads_back_to_the_latents(name, strength) -> None:
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn((2, 2, 4, 8, 8), generator=generator)
    sampler = FlowMatching(SHIFTS["static"]).sampler(name, 10, TOKENS, strength)
    taken = max(1, int(10 * strength))
    assert sampler.steps == taken
    assert len(sampler.times) == (taken if name == "euler" else 2 * taken - 1)
    x = sampler.start(noise, x0)
    for run, time in enumerate(sampler.times):
        sigma = time / 1000
        assert torch.allclose(x, (1 - sigma) * x0 + sigma * noise, atol=1e-5)
        assert torch.allclose(sampler.noised(x0, noise, run), x, atol=1e-5)
        x = sampler.step(noise - x0, time, x)
    assert torch.allclose(x, x0, atol=1e-5)
    assert sampler.noised(x0, noise, len(sampler.times)) is x0


def published_times(scheduler, seed: int, count: int, scheme: str = "logit_normal"):
    """train_dreambooth_sd3.py: u by its density, the scheduler's table there; timesteps and sigmas."""
    u = compute_density_for_timestep_sampling(
        scheme, count, logit_mean=0.0, logit_std=1.0, mode_scale=1.29, generator=torch.Generator().manual_seed(seed)
    )
    indices = (u * scheduler.config.num_train_timesteps).long()
    return scheduler.timesteps[indices], scheduler.sigmas[indices]


@pytest.mark.parametrize("scheme", ["logit_normal", "mode", "uniform"])
@pytest.mark.parametrize("shift", ["none", "static", "exponential"])
def test_times_noising_and_target_are_those_of_published_training(shift, scheme) -> None:
    times, sigmas = published_times(FlowMatchEulerDiscreteScheduler(**SHIFTS[shift]), 3, 512, scheme)
    process = FlowMatching(SHIFTS[shift], density=scheme)
    ours = process.sample_times(512, torch.Generator().manual_seed(3))
    assert ours.dtype == torch.float32
    assert torch.allclose(ours, times, atol=1e-3)
    x0, noise = torch.randn((2, 512, 1, 2, 2), generator=torch.Generator().manual_seed(0))
    sigmas = sigmas.view(-1, 1, 1, 1)
    assert torch.allclose(process.noised(x0, noise, ours), (1.0 - sigmas) * x0 + sigmas * noise, atol=1e-6)
    assert torch.equal(process.target(x0, noise, ours), noise - x0)


def test_logit_normal_times_have_its_density() -> None:
    """Quantiles of sigmoid(m + s z): at Φ⁻¹(0.25), Φ⁻¹(0.5), Φ⁻¹(0.75)."""
    process = FlowMatching({}, logit_mean=0.4, logit_std=0.8)
    u = 1 - process.sample_times(200_000, torch.Generator().manual_seed(0)) / 1000  # the table runs from noise down
    for share, z in ((0.25, -0.67449), (0.5, 0.0), (0.75, 0.67449)):
        assert float(torch.quantile(u, share)) == pytest.approx(1 / (1 + math.exp(-(0.4 + 0.8 * z))), abs=0.005)


@pytest.mark.parametrize("shift", ["exponential", "linear"])
def test_times_to_train_at_shift_with_the_size(shift) -> None:
    """α σ / (1 + (α − 1) σ) of the times without a size."""
    process = FlowMatching(SHIFTS[shift])
    plain = process.sample_times(64, torch.Generator().manual_seed(0)) / 1000
    mu = mu_of(SHIFTS[shift], 4096)
    alpha = math.exp(mu) if shift == "exponential" else mu
    shifted = process.sample_times(64, torch.Generator().manual_seed(0), 4096) / 1000
    assert torch.allclose(shifted, alpha * plain / (1 + (alpha - 1) * plain), atol=1e-6)
    static = FlowMatching(SHIFTS["static"])
    times = [static.sample_times(64, torch.Generator().manual_seed(0), tokens) for tokens in (None, 4096)]
    assert torch.equal(*times)  # the static shift is applied once, in the table


@pytest.mark.parametrize("weighting", ["none", "sigma_sqrt", "cosmap"])
def test_weights_are_those_of_published_training(weighting) -> None:
    times = torch.tensor([20.0, 400.0, 750.0, 1000.0])
    weights = FlowMatching({}, weighting=weighting).loss_weights(times)
    if weighting == "none":
        assert weights is None
        return
    assert torch.allclose(weights, compute_loss_weighting_for_sd3(weighting, times / 1000), rtol=1e-5)


def test_min_snr_weighs_the_latents_it_implies() -> None:
    """x₀ = x − σ v, so an error e of v is an error σ e of x₀: min(SNR, γ) on x₀ is min(SNR, γ) σ² on v."""
    process = FlowMatching({})
    sigma = torch.tensor([0.1, 0.3, 0.5, 0.9, 1.0])
    snr = ((1 - sigma) / sigma) ** 2
    assert torch.allclose(process.snr(1000 * sigma).float(), snr, rtol=1e-4)
    expected = torch.minimum(snr, torch.tensor(5.0)) * sigma**2
    assert torch.allclose(process.loss_weights(1000 * sigma, 5.0), expected, rtol=1e-4)


def test_configurations_choose_their_process() -> None:
    flow = noise_process({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0})
    assert flow.prediction == "flow"
    assert flow.samplers[0] == "euler"
    assert (
        noise_process({"_class_name": "PNDMScheduler", "prediction_type": "v_prediction"}).prediction == "v_prediction"
    )
    with pytest.raises(MaquetteError, match="asks for use_karras_sigmas"):
        noise_process({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_karras_sigmas": True})
    with pytest.raises(MaquetteError, match=r"no sampler 'ddim'.* Known: euler, heun"):
        flow.sampler("ddim", 4, TOKENS)
