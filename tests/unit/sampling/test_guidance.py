import pytest
import torch

from maquette.backbones.protocol import Residuals, Slot
from maquette.controlnet.control import Control, sum_residuals
from maquette.errors import MaquetteError
from maquette.noise.samplers import make_scheduler
from maquette.sampling.config import Sampling
from maquette.sampling.guidance import classifier_free, resolution_weights

SLOTS = [Slot(f"{d}", 4, d) for d in (1, 1, 1, 2, 2, 2, 4, 4, 4, 8, 8, 8, 8)]


def test_classifier_free_guidance() -> None:
    unconditional, conditional = torch.randn(2, 3), torch.randn(2, 3)
    assert torch.equal(classifier_free(unconditional, conditional, 0), unconditional)
    assert torch.allclose(classifier_free(unconditional, conditional, 1), conditional)
    assert torch.allclose(classifier_free(unconditional, conditional, 3), 3 * conditional - 2 * unconditional)


def test_resolution_weights() -> None:
    """64 / h_i of 512-pixel images, and the same divided by the largest."""
    assert resolution_weights(SLOTS, "literal") == [64 / h for h in (64, 64, 64, 32, 32, 32, 16, 16, 16, 8, 8, 8, 8)]
    assert resolution_weights(SLOTS) == [weight / 8 for weight in resolution_weights(SLOTS, "literal")]


def test_residuals_add_up_and_scale() -> None:
    a, b = torch.ones(1, 2, 3, 3), torch.full((1, 2, 3, 3), 2.0)
    summed = sum_residuals([Residuals([a, None, None]), Residuals([b, b, None])])
    assert torch.equal(summed[0], a + b)
    assert torch.equal(summed[1], b)
    assert summed[2] is None
    scaled = summed.scaled([0.5, 3.0, 1.0])
    assert torch.equal(scaled[0], 0.5 * (a + b))
    assert torch.equal(scaled[1], 3 * b)
    padded = summed.pad_front(2)
    assert padded[0].shape == (3, 2, 3, 3)
    assert not padded[0][:2].any()
    assert torch.equal(padded[0][2:], summed[0])


def test_a_control_is_active_between_start_and_end() -> None:
    def active(**kwargs) -> list[int]:
        control = Control(None, torch.zeros(1, 3, 8, 8), **kwargs)
        return [step for step in range(10) if control.active(step, 10)]

    assert active() == list(range(10))
    assert active(end=0.5) == [0, 1, 2, 3, 4]
    assert active(start=0.5) == [5, 6, 7, 8, 9]
    assert active(start=0.2, end=0.4) == [2, 3]
    assert active(weight=0) == []


@pytest.mark.parametrize("wrong", [{"start": 0.6, "end": 0.5}, {"end": 1.5}, {"start": -0.1}, {"weight": 11}])
def test_a_control_out_of_range_is_refused(wrong) -> None:
    with pytest.raises(MaquetteError, match=str(next(iter(wrong.values())))):
        Control(None, torch.zeros(1, 3, 8, 8), **wrong)


def test_an_unknown_sampler_suggests_the_closest() -> None:
    with pytest.raises(MaquetteError, match="did you mean 'euler'"):
        Sampling(sampler="eulr")
    assert make_scheduler("ddim", {"_class_name": "PNDMScheduler"}).init_noise_sigma == 1
