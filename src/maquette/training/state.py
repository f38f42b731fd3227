"""What of a training changes from step to step: weights, optimiser, average, scaler; and how it is kept."""

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from maquette.base import Base
from maquette.controlnet.network import ControlNet
from maquette.errors import MaquetteError
from maquette.training import checkpoint, sharding
from maquette.training.average import averaged
from maquette.training.config import TrainingConfig
from maquette.training.processes import Processes
from maquette.training.stages import make_optimiser, unlocked_parameters
from maquette.training.step import Controlled


@dataclass
class State:
    config: TrainingConfig
    base: Base
    net: ControlNet
    optimiser: torch.optim.Optimizer
    average: AveragedModel | None
    scaler: torch.amp.GradScaler
    processes: Processes
    templates: tuple[ControlNet, nn.Module | None] | None = None  # net and base as they were before they were sharded

    @staticmethod
    def make(config: TrainingConfig, base: Base, net: ControlNet, processes: Processes) -> "State":
        average = averaged(net, config.ema) if config.ema else None
        templates = None
        if config.shard and processes.count > 1:
            trained = base if config.unlock else None
            templates = copy.deepcopy(net), copy.deepcopy(base.backbone.network) if trained else None
            sharding.shard(net, trained)
        scaler = torch.amp.GradScaler(base.device.type, enabled=config.precision == "float16")
        return State(config, base, net, make_optimiser(config, base, net), average, scaler, processes, templates)

    def model(self) -> nn.Module:
        """Backbone and ControlNet as one network, for the parameters that now train: compiled, and in every process."""
        model: nn.Module = Controlled(self.base.backbone, self.net)
        if self.average is not None:
            self.measured().design = self.net.design
        if self.config.compile:
            model = cast(nn.Module, torch.compile(model))
        if self.processes.count > 1 and not self.config.shard:
            model = DistributedDataParallel(model, broadcast_buffers=False)
        return model

    def gathering(self, model: nn.Module, wanted: bool) -> AbstractContextManager[object]:
        """Gradients are exchanged between processes once a step: in the backward pass of its last part."""
        if isinstance(model, DistributedDataParallel):
            return nullcontext() if wanted else model.no_sync()
        if self.templates is not None:
            self.net.set_requires_gradient_sync(wanted)  # type: ignore[operator]
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()

    def step(self) -> None:
        """One step of the optimiser, down the gradient whose norm is cut to `clip`."""
        self.scaler.unscale_(self.optimiser)
        trained = [one for group in self.optimiser.param_groups for one in group["params"] if one.grad is not None]
        torch.nn.utils.clip_grad_norm_(trained, self.config.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.net)

    def measured(self) -> ControlNet:
        """What is measured and shipped: the average, where there is one."""
        return self.net if self.average is None else self.average.module  # type: ignore[return-value]

    def save(self, step: int) -> None:
        """Write the state after so many steps, whole, and forget all but the last two."""
        state: dict[str, Any] = {"net": self.net.state_dict(), "optimiser": self.optimiser.state_dict()}
        if self.average is not None:
            state["average"] = self.average.state_dict()
        if self.config.unlock:
            state["base"] = self._base_weights()
        gathered = sharding.whole(state)
        if self.processes.is_first:
            path = checkpoint.state_at(self.config.output, step)
            checkpoint.write(path, {"step": step, "scaler": self.scaler.state_dict(), **gathered})
            checkpoint.forget_old(self.config.output)
        self.processes.wait()

    def restore(self) -> int:
        """Go back to the last state in the run's folder; the step it was written after, 0 without one.

        Raises `MaquetteError` where that is beyond the last step asked for.
        """
        found = checkpoint.states(self.config.output)
        if not found:
            return 0
        state = checkpoint.read(found[-1])
        if state["step"] > self.config.max_steps:
            raise MaquetteError(
                f"The run in {str(self.config.output)!r} has done {state['step']} steps already; max_steps is "
                f"{state['step']} or more, not {self.config.max_steps}."
            )
        sharding.load_network(self.net, state["net"])
        sharding.load_optimiser(self.optimiser, state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.config.unlock:
            network = self.base.backbone.network
            sharding.load_network(network, {**network.state_dict(), **state["base"]})
        step: int = state["step"]
        return step

    def finished(self) -> tuple[ControlNet, nn.Module]:
        """The trained ControlNet and the base's network, whole on every process."""
        network = self.base.backbone.network
        if self.templates is None:
            return self.measured(), network
        net, of_base = self.templates
        net.load_state_dict(sharding.whole(self.net.state_dict()))
        net.design = self.net.design
        if of_base is not None:
            of_base.load_state_dict(sharding.whole(network.state_dict()))
        return net, of_base or network

    def _base_weights(self) -> dict[str, Tensor]:
        assert self.config.unlock is not None
        trained = {id(one) for one in unlocked_parameters(self.base, self.config.unlock)}
        named = self.base.backbone.network.named_parameters()
        return {name: value.detach() for name, value in named if id(value) in trained}
