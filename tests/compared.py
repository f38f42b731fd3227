"""What parity tests of ControlNets on transformers compare alike: gradients, and folders that either wrote."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from maquette.controlnet.network import ControlNet


def assert_same_gradients(net: ControlNet, theirs: nn.Module, own: str = "") -> None:
    """Within 1e-5 of diffusers', a gradient that is missing counting as zero.

    Args:
        own: beginning of the names that are the ControlNet's, where it holds the base's too.
    """
    gradients = {net.control.published(name): value.grad for name, value in net.named_parameters()}
    assert sum(grad is not None and bool(grad.any()) for grad in gradients.values()) > 20
    named = {name: value for name, value in theirs.named_parameters() if name.startswith(own)}
    assert gradients.keys() == named.keys()
    for name, parameter in named.items():
        mine, expected = (torch.zeros(1) if grad is None else grad for grad in (gradients[name], parameter.grad))
        assert (mine - expected).abs().max() <= 1e-5 * max(1, expected.abs().max()), name


def assert_saved_alike(net: ControlNet, theirs: Any, folder: Path, own: str = "") -> None:
    """What we save in a folder, diffusers loads without a missing or surplus tensor, with its own settings."""
    net.save(folder)
    again, report = type(theirs).from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    stored = {name: value for name, value in theirs.state_dict().items() if name.startswith(own)}
    mine = again.state_dict()
    assert mine.keys() == stored.keys()
    assert all(torch.equal(mine[name], stored[name]) for name in stored)
    configs = [
        {key: list(value) if isinstance(value, tuple) else value for key, value in one.config.items() if key[0] != "_"}
        for one in (again, theirs)
    ]
    assert configs[0] == configs[1]
