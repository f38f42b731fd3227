import torch

from maquette.foundation.devices import CHOSEN, find_placement


def test_auto_is_float32_on_the_cpu(monkeypatch) -> None:
    monkeypatch.setenv(CHOSEN, "cpu")
    assert find_placement("auto", "auto") == (torch.device("cpu"), torch.float32)


def test_auto_is_the_device_that_the_environment_names(monkeypatch) -> None:
    monkeypatch.setenv(CHOSEN, "meta")
    assert find_placement("auto", "auto") == (torch.device("meta"), torch.float32)
    assert find_placement("cpu", "float16") == (torch.device("cpu"), torch.float16)
