"""Communication between the processes of a training, as started by `accelerate launch` or `torchrun`."""

import atexit
import os
from operator import itemgetter
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor

from maquette.foundation.devices import find_placement

T = TypeVar("T")


class World:
    """This process among all processes of a training; a single one without a launcher.

    Args:
        device: as for `torch.device`; on "cuda", each process gets one GPU.
    """

    def __init__(self, device: str) -> None:
        self._state = PartialState(cpu=device == "cpu")
        self.count: int = self._state.num_processes
        self.rank: int = self._state.process_index
        alone = self.count == 1
        if not alone and dist.get_backend() == dist.Backend.GLOO:
            # its threads would run on while the interpreter is torn down, which now and then aborts a finished training
            atexit.register(self._state.destroy_process_group)
        self.device: torch.device = find_placement(device, "float32").device if alone else self._state.device

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, which writes the files."""
        return self.rank == 0

    def shard(self, rows: list[T]) -> list[T]:
        """This process's share of a list that all processes have."""
        return rows[self.rank :: self.count]

    @property
    def local_count(self) -> int:
        """The number of processes on this machine."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if self.count > 1 else 1

    @property
    def local_rank(self) -> int:
        """This process among those on its machine."""
        return int(self._state.local_process_index)

    def gather_local(self, value: T) -> list[T]:
        """The values of all processes on this machine, by local rank."""
        if self.count == 1:
            return [value]
        first = self.rank - self.local_rank
        found: list[tuple[int, T]] = gather_object([(self.rank, value)])
        return [one for rank, one in sorted(found, key=itemgetter(0)) if first <= rank < first + self.local_count]

    @property
    def is_local_main(self) -> bool:
        """Whether this is the first process on its machine."""
        return bool(self._state.is_local_main_process)

    def barrier(self) -> None:
        """Wait until all processes are here."""
        self._state.wait_for_everyone()

    def all_reduce_max(self, value: int) -> int:
        """The maximum over all processes."""
        if self.count == 1:
            return value
        number = torch.tensor(value, device=self.device)
        dist.all_reduce(number, op=dist.ReduceOp.MAX)
        return int(number.item())

    def all_reduce_mean(self, value: Tensor) -> Tensor:
        """The mean over all processes of a tensor of any shape."""
        if self.count == 1:
            return value
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / self.count

    def broadcast(self, value: T) -> T:
        """The main process's value, on all processes."""
        received: T = broadcast_object_list([value])[0] if self.count > 1 else value
        return received
