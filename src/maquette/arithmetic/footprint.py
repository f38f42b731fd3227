"""The memory that a computation takes, from its shapes alone: nothing is computed, and nothing is allocated."""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import finalize

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


def footprint(compute: Callable[[], object]) -> int:
    """Bytes of the tensors that `compute` makes and that live at once, at most; networks' weights are not among them.

    It runs on tensors that have a shape, a type and a device, but no values: those that it makes itself by torch's
    functions, and weights. What kernels take for themselves meanwhile is not seen.

    Raises whatever a computation that looks at values raises then, and what its networks do not know how to do.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode  # a second, which is only spent when it is asked for

    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), _Watched() as watched:
        compute()
    return watched.peak


class _Watched(TorchDispatchMode):
    """Counts the bytes of tensors while they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held = self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        values = found if isinstance(found, tuple | list) else (found,)
        for value, said in zip(values, func._schema.returns, strict=False):
            if isinstance(value, Tensor) and said.alias_info is None:
                self._begin(value.untyped_storage())
        return found

    def _begin(self, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self.held += size
        self.peak = max(self.peak, self.held)
        finalize(storage, self._end, size)

    def _end(self, size: int) -> None:
        self.held -= size
