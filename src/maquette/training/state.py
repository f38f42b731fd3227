"""The training state (weights, optimizer, EMA, gradient scaler), and its checkpoints."""

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from maquette.base import Base
from maquette.controlnet.network import ControlNet
from maquette.errors import MaquetteError
from maquette.training import checkpoint
from maquette.training.config import TrainingConfig
from maquette.training.distributed import fsdp
from maquette.training.distributed.world import World
from maquette.training.loss import Controlled
from maquette.training.monitor.metrics_log import Line
from maquette.training.parts import HardwareConfig, Unlock
from maquette.training.stages import Stage, enter, make_optimizer, unlocked_parameters

Tensors = tuple[Tensor, ...] | list[Tensor]


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of a network that tracks the EMA of its weights at each `update_parameters`."""
    return AveragedModel(network, multi_avg_fn=partial(running_average, decay))


@torch.no_grad()
def running_average(decay: float, average: Tensors, current: Tensors, count: Tensor | int) -> None:
    """Update an EMA in place; `decay` is warmed up over the first updates.

    Args:
        average, current: tensors of the same shapes.
        count: updates so far.
    """
    warmed = min(decay, (1 + int(count)) / (10 + int(count)))
    for mean, value in zip(average, current, strict=True):
        mean.lerp_(value.to(mean.dtype), 1 - warmed)


@dataclass
class State:
    """All that changes from step to step, and what is needed to change it."""

    folder: Path  # of the run
    max_steps: int
    unlock: Unlock | None  # part of the base that is trained too
    clip: float  # maximum gradient norm
    min_snr: float  # γ of min-SNR weighting, 0 for none
    hardware: HardwareConfig
    base: Base
    net: ControlNet
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    scaler: torch.amp.GradScaler
    world: World
    sharded: list[FSDPModule]  # modules sharded over processes
    templates: tuple[ControlNet, nn.Module | None] | None  # unsharded copies of net and base, on the CPU
    stage: Stage | None = None
    model: nn.Module = field(default_factory=nn.Module)  # backbone and ControlNet as one module, for the current stage

    @staticmethod
    def make(config: TrainingConfig, base: Base, net: ControlNet, world: World) -> "State":
        """The state of a training before its first step."""
        unlock = config.model.unlock
        average = averaged(net, config.optimizer.ema) if config.optimizer.ema else None
        sharded, templates = [], None
        if config.hardware.shard and world.count > 1:
            trained = base.backbone.network if unlock else None
            templates = copy.deepcopy(net).cpu(), copy.deepcopy(trained).cpu() if trained else None
            sharded = fsdp.shard(net, trained)
        scaler = torch.amp.GradScaler(base.device.type, enabled=config.hardware.precision == "float16")
        optimizer = make_optimizer(config.optimizer, unlock, base, net)
        settings = (
            config.output,
            config.max_steps,
            unlock,
            config.optimizer.clip,
            config.optimizer.min_snr,
            config.hardware,
        )
        return State(*settings, base, net, optimizer, average, scaler, world, sharded, templates)

    @property
    def networks(self) -> tuple[nn.Module, nn.Module]:
        """The base's network and the ControlNet."""
        return self.base.backbone.network, self.net

    def enter(self, stage: Stage) -> bool:
        """Set up the model for a stage; returns whether the stage has changed."""
        if stage == self.stage:
            return False
        enter(stage, self.base, self.net)
        self.stage, self.eval_net().config = stage, self.net.config
        model: nn.Module = Controlled(self.base.backbone, self.net)
        if self.hardware.compile:
            model = cast(nn.Module, torch.compile(model))
        if self.world.count > 1 and not self.sharded:
            # parameters that lead to unused residuals only, as in a lite copy, or to nothing
            idle = stage.connect == "middle" or self.net.control.idle_weights
            model = DistributedDataParallel(model, broadcast_buffers=False, find_unused_parameters=idle)
        self.model = model
        return True

    def sync_gradients(self, enabled: bool) -> AbstractContextManager[object]:
        """Whether the backward pass exchanges gradients between processes: once per step, in its last part."""
        if isinstance(self.model, DistributedDataParallel):
            return nullcontext() if enabled else self.model.no_sync()
        for module in self.sharded:
            module.set_requires_gradient_sync(enabled, recurse=False)
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradients of a scalar loss."""
        self.scaler.scale(loss).backward()

    def step(self) -> None:
        """Clip the gradient norm to `clip` and update the weights and their EMA."""
        self.scaler.unscale_(self.optimizer)
        trained = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        torch.nn.utils.clip_grad_norm_(trained, self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.net)

    def eval_net(self) -> ControlNet:
        """The ControlNet to evaluate and save: the EMA if there is one."""
        return self.net if self.average is None else self.average.module  # type: ignore[return-value]

    def save(self, step: int, log: Sequence[Mapping[str, float]] = ()) -> None:
        """Write a checkpoint after `step` steps and delete all but the last two.

        Args:
            log: the lines of the metrics so far, kept with it.
        """
        state: dict[str, Any] = {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.average is not None:
            state["average"] = self.average.state_dict()
        if self.unlock:
            state["base"] = self._base_weights()
        gathered = fsdp.whole(state)
        if self.world.is_main:
            path = checkpoint.state_at(self.folder, step)
            checkpoint.write(path, {"step": step, "scaler": self.scaler.state_dict(), "log": [*log], **gathered})
            checkpoint.forget_old(self.folder)
        self.world.barrier()

    def restore(self) -> tuple[int, list[Line] | None]:
        """Load the latest checkpoint in the run's folder.

        Returns its step and the lines of the metrics up to it: 0 and none if there is no checkpoint, and None for the
        lines of one of version 0.2.

        Raises `MaquetteError` if the checkpoint is beyond `max_steps`, or of version 0.1.
        """
        state = checkpoint.last(self.folder)
        if state is None:
            return 0, None
        if "optimizer" not in state:
            raise MaquetteError(
                f"The checkpoints in {str(self.folder)!r} are of version 0.1, which names weights differently; finish "
                "the run with it, or start again in another folder."
            )
        if state["step"] > self.max_steps:
            raise MaquetteError(
                f"The run in {str(self.folder)!r} has done {state['step']} steps already; max_steps is "
                f"{state['step']} or more, not {self.max_steps}."
            )
        fsdp.load_network(self.net, state["net"])
        fsdp.load_optimizer(self.optimizer, state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.unlock:
            network = self.base.backbone.network
            fsdp.load_network(network, {**network.state_dict(), **state["base"]})
        return state["step"], state.get("log")

    def finished(self) -> tuple[ControlNet, nn.Module]:
        """The trained ControlNet and the base's network, unsharded on every process."""
        network = self.base.backbone.network
        if self.templates is None:
            return self.eval_net(), network
        net, base_network = self.templates
        net.load_state_dict(fsdp.whole(self.net.state_dict()))
        net.config = self.net.config
        if base_network is not None:
            base_network.load_state_dict(fsdp.whole(network.state_dict()))
        return net, base_network or network

    def _base_weights(self) -> dict[str, Tensor]:
        """The trained weights of the base."""
        assert self.unlock is not None
        trained = {id(parameter) for parameter in unlocked_parameters(self.base, self.unlock)}
        named = self.base.backbone.network.named_parameters()
        return {name: value.detach() for name, value in named if id(value) in trained}
