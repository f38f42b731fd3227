"""One process or many: `accelerate launch` and `torchrun` start them, and this is what they say to one another."""

import os
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import Tensor

from maquette.foundation.devices import find_placement

T = TypeVar("T")


class World:
    """This process among those of a training; alone unless a launcher started more.

    Args:
        device: as `torch.device` takes it; several processes on "cuda" have a card each.
    """

    def __init__(self, device: str) -> None:
        self._state = PartialState(cpu=device == "cpu")
        self.count: int = self._state.num_processes
        self.rank: int = self._state.process_index
        alone = self.count == 1
        self.device: torch.device = find_placement(device, "float32").device if alone else self._state.device

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def shard(self, rows: list[T]) -> list[T]:
        """This process's part of rows that all have."""
        return rows[self.rank :: self.count]

    def owns(self, key: bytes) -> bool:
        """Whether a key's work falls to this process, among those of its machine, whatever other keys there are."""
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if self.count > 1 else 1
        place: int = self._state.local_process_index
        return int.from_bytes(key[:8], "little") % here == place

    @property
    def is_local_main(self) -> bool:
        """Whether this is its machine's first."""
        return bool(self._state.is_local_main_process)

    def barrier(self) -> None:
        """Until all are here."""
        self._state.wait_for_everyone()

    def all_reduce_max(self, here: int) -> int:
        """Of a number over all processes."""
        if self.count == 1:
            return here
        number = torch.tensor(here, device=self.device)
        dist.all_reduce(number, op=dist.ReduceOp.MAX)
        return int(number.item())

    def all_reduce_mean(self, value: Tensor) -> Tensor:
        """Of a number over all processes."""
        if self.count == 1:
            return value
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / self.count

    def broadcast(self, value: T) -> T:
        """What the first process says."""
        said: T = broadcast_object_list([value])[0] if self.count > 1 else value
        return said
