"""Trained weights and the optimizer's state split over processes (FSDP), and put together again for a file.

A state on disk is whole whatever made it: one process, several copies, or shards.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from maquette.controlnet.network import ControlNet


def shard(net: ControlNet, network: nn.Module | None = None) -> list[FSDPModule]:
    """Split a ControlNet's weights over all world, a block at a time; a base's network too, where it trains."""
    parts = [*_blocks(net.trainable_copy), net, *(_blocks(network) if network else ())]
    for part in parts:
        fully_shard(part)
    register_fsdp_forward_method(net, "encode")
    return cast(list[FSDPModule], parts)


def _blocks(network: nn.Module) -> list[nn.Module]:
    """What is gathered at one time: the members of lists, and other modules with weights as they are."""
    children = [
        member for child in network.children() for member in (child if isinstance(child, nn.ModuleList) else [child])
    ]
    return [child for child in children if any(True for _ in child.parameters())]


def whole(value: Any) -> Any:
    """A state with every shard gathered; all processes call it, and all have it then."""
    if isinstance(value, DTensor):
        return value.full_tensor().cpu()
    if isinstance(value, Mapping):
        return {key: whole(one) for key, one in value.items()}
    return [whole(one) for one in value] if isinstance(value, list) else value


def load_network(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put whole weights into a network, sharded or not."""
    like = network.state_dict()
    network.load_state_dict({name: _as(value, like[name]) if name in like else value for name, value in state.items()})


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Put a whole state into an optimizer of parameters that are sharded or not."""
    optimizer.load_state_dict(dict(state))
    for parameter, entry in optimizer.state.items():
        for name, value in entry.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and name != "step":
                entry[name] = _as(value, parameter)


def _as(value: Tensor, like: Any) -> Tensor:
    if not isinstance(like, DTensor) or isinstance(value, DTensor):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
