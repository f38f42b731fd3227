"""What of a training changes from step to step: weights, optimizer, average, scaler; and how it is kept."""

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
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
from maquette.training.ema import averaged
from maquette.training.loss import Controlled
from maquette.training.parts import HardwareConfig, Unlock
from maquette.training.stages import Stage, enter, make_optimiser, unlocked_parameters


@dataclass
class State:
    folder: Path  # of the run
    max_steps: int
    unlock: Unlock | None  # what of the base is trained too
    clip: float  # largest norm of the gradient
    min_snr: float  # γ of the loss's weighting, 0 for none
    hardware: HardwareConfig
    base: Base
    net: ControlNet
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    scaler: torch.amp.GradScaler
    world: World
    sharded: list[FSDPModule]  # what is split over processes
    templates: tuple[ControlNet, nn.Module | None] | None  # net and base before they were split, in the CPU's memory
    stage: Stage | None = None
    model: nn.Module = field(default_factory=nn.Module)  # backbone and ControlNet as one, for the stage

    @staticmethod
    def make(config: TrainingConfig, base: Base, net: ControlNet, world: World) -> "State":
        unlock = config.model.unlock
        average = averaged(net, config.optimizer.ema) if config.optimizer.ema else None
        sharded, templates = [], None
        if config.hardware.shard and world.count > 1:
            trained = base.backbone.network if unlock else None
            templates = copy.deepcopy(net).cpu(), copy.deepcopy(trained).cpu() if trained else None
            sharded = fsdp.shard(net, trained)
        scaler = torch.amp.GradScaler(base.device.type, enabled=config.hardware.precision == "float16")
        optimizer = make_optimiser(config.optimizer, unlock, base, net)
        own = (
            config.output,
            config.max_steps,
            unlock,
            config.optimizer.clip,
            config.optimizer.min_snr,
            config.hardware,
        )
        return State(*own, base, net, optimizer, average, scaler, world, sharded, templates)

    @property
    def networks(self) -> tuple[nn.Module, nn.Module]:
        return self.base.backbone.network, self.net

    def enter(self, stage: Stage) -> bool:
        """Train what a stage trains; whether that is anything new.

        It is one network, compiled where that is asked for, and alike in every process.
        """
        if stage == self.stage:
            return False
        enter(stage, self.base, self.net)
        self.stage, self.eval_net().config = stage, self.net.config
        model: nn.Module = Controlled(self.base.backbone, self.net)
        if self.hardware.compile:
            model = cast(nn.Module, torch.compile(model))
        if self.world.count > 1 and not self.sharded:
            idle = stage.connect == "middle"  # what leads to the other residuals alone, as in a lite copy
            model = DistributedDataParallel(model, broadcast_buffers=False, find_unused_parameters=idle)
        self.model = model
        return True

    def sync_gradients(self, wanted: bool) -> AbstractContextManager[object]:
        """Gradients are exchanged between processes once a step: in the backward pass of its last part."""
        if isinstance(self.model, DistributedDataParallel):
            return nullcontext() if wanted else self.model.no_sync()
        for module in self.sharded:
            module.set_requires_gradient_sync(wanted, recurse=False)
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()

    def step(self) -> None:
        """One step of the optimizer, down the gradient whose norm is cut to `clip`."""
        self.scaler.unscale_(self.optimizer)
        trained = [one for group in self.optimizer.param_groups for one in group["params"] if one.grad is not None]
        torch.nn.utils.clip_grad_norm_(trained, self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.net)

    def eval_net(self) -> ControlNet:
        """What is measured and shipped: the average, where there is one."""
        return self.net if self.average is None else self.average.module  # type: ignore[return-value]

    def save(self, step: int) -> None:
        """Write the state after so many steps, whole, and forget all but the last two."""
        state: dict[str, Any] = {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.average is not None:
            state["average"] = self.average.state_dict()
        if self.unlock:
            state["base"] = self._base_weights()
        gathered = fsdp.whole(state)
        if self.world.is_main:
            path = checkpoint.state_at(self.folder, step)
            checkpoint.write(path, {"step": step, "scaler": self.scaler.state_dict(), **gathered})
            checkpoint.forget_old(self.folder)
        self.world.barrier()

    def restore(self) -> int:
        """Go back to the last state in the run's folder; the step it was written after, 0 without one.

        Raises `MaquetteError` where that is beyond the last step asked for.
        """
        state = checkpoint.last(self.folder)
        if state is None:
            return 0
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
        step: int = state["step"]
        return step

    def finished(self) -> tuple[ControlNet, nn.Module]:
        """The trained ControlNet and the base's network, whole on every process."""
        network = self.base.backbone.network
        if self.templates is None:
            return self.eval_net(), network
        net, of_base = self.templates
        net.load_state_dict(fsdp.whole(self.net.state_dict()))
        net.config = self.net.config
        if of_base is not None:
            of_base.load_state_dict(fsdp.whole(network.state_dict()))
        return net, of_base or network

    def _base_weights(self) -> dict[str, Tensor]:
        assert self.unlock is not None
        trained = {id(one) for one in unlocked_parameters(self.base, self.unlock)}
        named = self.base.backbone.network.named_parameters()
        return {name: value.detach() for name, value in named if id(value) in trained}
