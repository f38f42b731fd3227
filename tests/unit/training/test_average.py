import torch

from maquette.training.ema import running_average


def test_the_random_start_is_soon_forgotten() -> None:
    average = [torch.tensor(100.0)]
    for count in range(60):
        running_average(0.998, average, [torch.tensor(1.0)], count)
    assert abs(average[0] - 1) < 1e-3


def test_in_the_long_run_it_is_slow() -> None:
    average = [torch.tensor(1.0)]
    running_average(0.998, average, [torch.tensor(2.0)], 100_000)
    assert torch.allclose(average[0], torch.tensor(1.002))
