"""Trained weights and optimizer state sharded over processes (FSDP), and gathered again for saving.

Checkpoints on disk are always unsharded, whether they come from one process, DDP or FSDP.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from maquette.controlnet.network import ControlNet


def shard(net: ControlNet, network: nn.Module | None = None) -> list[FSDPModule]:
    """Shard a ControlNet over all processes, block by block; also a base's network, if it is trained."""
    parts = [*_blocks(net.trainable_copy), net, *(_blocks(network) if network else ())]
    for part in parts:
        fully_shard(part)
    register_fsdp_forward_method(net, "encode")
    return cast(list[FSDPModule], parts)


def _blocks(network: nn.Module) -> list[nn.Module]:
    """The units that FSDP gathers: the members of module lists and tables, and other children that have weights."""
    children = [
        member
        for child in network.children()
        for member in (child.children() if isinstance(child, nn.ModuleList | nn.ModuleDict) else [child])
    ]
    return [child for child in children if any(True for _ in child.parameters())]


def whole(value: Any) -> Any:
    """A state with all shards gathered, on every process; a collective call."""
    if isinstance(value, DTensor):
        return value.full_tensor().cpu()
    if isinstance(value, Mapping):
        return {key: whole(item) for key, item in value.items()}
    return [whole(item) for item in value] if isinstance(value, list) else value


def load_network(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load unsharded weights into a network, sharded or not."""
    current = network.state_dict()
    network.load_state_dict(
        {name: _as(value, current[name]) if name in current else value for name, value in state.items()}
    )


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load an unsharded state into an optimizer, whose parameters may be sharded."""
    optimizer.load_state_dict(dict(state))
    for parameter, entry in optimizer.state.items():
        for name, value in entry.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and name != "step":
                entry[name] = _as(value, parameter)


def _as(value: Tensor, like: Any) -> Tensor:
    """A full tensor distributed as `like` is, in the same shape; unchanged if `like` is not sharded."""
    if not isinstance(like, DTensor) or isinstance(value, DTensor):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
