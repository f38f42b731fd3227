"""DDPM compared with diffusers' schedulers."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

from maquette.errors import MaquetteError
from maquette.noise.ddpm import DDPM

CONFIG = {
    "_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip
X0, NOISE = torch.randn((2, 3, 4, 8, 8), generator=torch.Generator().manual_seed(0))
TIMES = torch.tensor([0, 500, 999])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_noise_and_target_are_those_of_diffusers(prediction) -> None:
    process = DDPM({**CONFIG, "prediction_type": prediction})
    scheduler = DDPMScheduler.from_config({name: value for name, value in CONFIG.items() if name != "_class_name"})
    assert torch.equal(process.noised(X0, NOISE, TIMES), scheduler.add_noise(X0, NOISE, TIMES))
    expected = {"epsilon": NOISE, "v_prediction": scheduler.get_velocity(X0, NOISE, TIMES), "sample": X0}
    assert torch.equal(process.target(X0, NOISE, TIMES), expected[prediction])
    alpha = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)[TIMES]
    assert torch.allclose(process.snr(TIMES), alpha / (1 - alpha), rtol=1e-3)


def test_times_are_uniform_whole_steps() -> None:
    """And sampled one number at a time, so that a row's time does not depend on the batch."""
    generator, again = (torch.Generator().manual_seed(0) for _ in range(2))
    times = DDPM({**CONFIG, "num_train_timesteps": 10}).sample_times(5000, generator)
    assert torch.bincount(times, minlength=10).min() > 400
    assert times.max() == 9
    assert torch.equal(
        DDPM(CONFIG).sample_times(1, generator.manual_seed(7))[0],
        torch.randint(1000, (), generator=again.manual_seed(7)),
    )


@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.parametrize(("name", "scheduler_class"), [("ddim", DDIMScheduler), ("euler", EulerDiscreteScheduler)])
def test_a_sampler_steps_like_diffusers(name, scheduler_class, strength) -> None:
    known = {key: value for key, value in CONFIG.items() if key != "_class_name"}
    scheduler = scheduler_class.from_config(known)
    scheduler.set_timesteps(8)
    times = scheduler.timesteps[8 - int(8 * strength) :]
    sampler = DDPM(CONFIG).sampler(name, 8, 1, strength)
    assert torch.equal(sampler.times, times)
    started = strength < 1
    x = sampler.start(NOISE, X0 if started else None)
    theirs = scheduler.add_noise(X0, NOISE, times[:1].expand(3)) if started else NOISE * scheduler.init_noise_sigma
    for time in sampler.times:
        scaled = sampler.scale(x, time)
        assert torch.equal(scaled, scheduler.scale_model_input(theirs, time))
        theirs = scheduler.step(scaled.sin(), time, theirs).prev_sample
        x = sampler.step(scaled.sin(), time, x)
    assert torch.equal(x, theirs)
    assert torch.equal(sampler.noised(X0, NOISE, len(sampler.times)), X0)


@pytest.mark.parametrize(
    ("changes", "steps", "strength"),
    [({"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}, 25, 1.0), ({}, 100, 0.1),
     ({"beta_schedule": "squaredcos_cap_v2"}, 8, 1.0)],
)  # fmt: skip
def test_karras_steps_that_share_a_time_are_all_taken(changes, steps, strength) -> None:
    """Its noise levels are rounded to whole times, of which several may be one; diffusers' pipelines count steps."""
    config = {**CONFIG, **changes}
    known = {key: value for key, value in config.items() if key != "_class_name"}
    scheduler = DPMSolverMultistepScheduler.from_config(known, use_karras_sigmas=True)
    scheduler.set_timesteps(steps)
    first = steps - int(steps * strength)
    assert len(set(scheduler.timesteps.tolist())) < steps
    scheduler.set_begin_index(first)
    sampler = DDPM(config).sampler("dpm++-karras", steps, 1, strength)
    x = sampler.start(NOISE, X0 if first else None)
    theirs = scheduler.add_noise(X0, NOISE, scheduler.timesteps[first : first + 1].expand(3)) if first else NOISE
    for time in sampler.times:
        theirs = scheduler.step(theirs.sin(), time, theirs).prev_sample
        x = sampler.step(x.sin(), time, x)
    assert torch.equal(x, theirs)


def test_each_row_has_its_own_fresh_noise() -> None:
    def last(rows: list[int]) -> torch.Tensor:
        sampler = DDPM(CONFIG).sampler("euler-ancestral", 4, 1)
        generators = [torch.Generator().manual_seed(row) for row in rows]
        x = sampler.start(NOISE[rows])
        for time in sampler.times:
            x = sampler.step(sampler.scale(x, time).cos(), time, x, generators)
        return x

    assert torch.equal(last([0, 1, 2])[1:2], last([1]))


def test_more_steps_than_the_schedule_spaces_are_refused() -> None:
    with pytest.raises(MaquetteError, match=r"'ddim' takes fewer than 1000 steps .*, not 1000"):
        DDPM(CONFIG).sampler("ddim", 1000, 1)
    with pytest.raises(MaquetteError, match="did you mean 'euler'"):
        DDPM(CONFIG).sampler("eulr", 4, 1)
