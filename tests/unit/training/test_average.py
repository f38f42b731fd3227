import torch

from maquette.training.state import running_average


def test_the_initial_weights_are_soon_forgotten() -> None:
    average = [torch.tensor(100.0)]
    for count in range(60):
        running_average(0.998, average, [torch.tensor(1.0)], count)
    assert abs(average[0] - 1) < 1e-3


def test_the_decay_is_reached_after_many_updates() -> None:
    average = [torch.tensor(1.0)]
    running_average(0.998, average, [torch.tensor(2.0)], 100_000)
    assert torch.allclose(average[0], torch.tensor(1.002))
