"""The loop that trains a ControlNet."""

import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from maquette.backbones.protocol import TextFeatures
from maquette.base import Base
from maquette.checkpoints.save import save_base
from maquette.foundation.devices import DTYPES
from maquette.training import cache as caches
from maquette.training import schedule, step
from maquette.training.attention import plain_attention
from maquette.training.config import TrainingConfig
from maquette.training.draws import Batch, Draws, Place, load
from maquette.training.memory import checkpointed, fitted
from maquette.training.order import batches
from maquette.training.prepare import (
    Material,
    check_base,
    check_folder,
    check_shares,
    contract_of,
    make_monitor,
    make_net,
    open_base,
    open_material,
)
from maquette.training.processes import Processes
from maquette.training.run import Run, best_weights
from maquette.training.stages import enter, set_rates, stage_of
from maquette.training.state import State
from maquette.training.stop import asked_to_stop

LOG_EVERY = 25  # steps between two lines of loss


def train(config: TrainingConfig, base: Base | None = None) -> Path:
    """Train a ControlNet; the finished run's folder, which `load_controlnet` takes.

    The folder holds the ControlNet (config.json, diffusion_pytorch_model.safetensors), training.json, metrics.jsonl,
    curve.png, report.html, grids/ and the last two states, from which `resume` goes on; where the base was unlocked,
    base/ holds it.

    Args:
        base: what `config` says would be loaded, where several runs share it.

    Raises `MaquetteError` when the folder holds another run, or none to go on with; when too many pairs are broken;
    when the loss is not finite, the memory too small or the disk full. Ctrl-C and SIGTERM save the state and leave.
    """
    check_folder(config)
    processes = Processes(config.device)
    check_shares(config, processes.count)
    base = base or open_base(config, str(processes.device))
    check_base(base, config)
    material = open_material(config, base)
    monitor = make_monitor(config, base, material)
    state = State.make(config, base, make_net(config, base), processes)
    start = state.restore()
    noise = step.noise_schedule(base)
    drawn = _draw(config, base, material, processes, start)
    run = Run.begin(config, material, monitor, processes, start)
    if monitor and not run.log.curve()[0]:
        run.measure(0, state.measured(), _precision(config, base))
    networks = (base.backbone.network, state.net)
    stage, model, finished = None, nn.Module(), start
    with (
        asked_to_stop(processes) as asked,
        plain_attention(base.device, *networks),
        checkpointed(config.gradient_checkpointing, *networks),
    ):
        for done in () if run.is_over(start) else run.steps(start):
            if stage != (stage := stage_of(config, done, run.noticed)):
                enter(stage, base, state.net)
                model = state.model()
                run.tell(f"step {done}: training {stage}")
            batch = next(drawn)
            run.note_faults(batch.faults)
            share = getattr(schedule, config.decay)(done, config.max_steps, config.warmup)
            set_rates(state.optimiser, (config.learning_rate * share, config.unlock_learning_rate * share))
            compute = partial(_gradients, config, base, state, model, noise, batch)
            loss = fitted(compute, config.accumulation, len(batch), alone=processes.count == 1)
            run.check_finite(loss, batch, done)
            state.step()
            finished = done + 1
            if finished % LOG_EVERY == 0 or finished == config.max_steps:
                run.write(finished, processes.mean(loss).item())
            if monitor and (finished % config.evaluate_every == 0 or finished == config.max_steps):
                run.measure(finished, state.measured(), _precision(config, base))
            over, stopped = run.is_over(finished), asked()
            if finished % config.checkpoint_every == 0 or finished == config.max_steps or over or stopped:
                state.save(finished)
            if over:
                break
            if stopped and finished < config.max_steps:
                run.leave(finished, stopped)
    return _finish(run, state, finished)


def _draw(config: TrainingConfig, base: Base, material: Material, processes: Processes, start: int) -> Iterator[Batch]:
    """This process's share of the batch of each step, from a step on."""
    pairs = material.pairs
    keep = config.cache and pairs.views() is not None
    cache = caches.fill(base, pairs, config.cache_folder, processes) if keep else None
    rows = [np.concatenate(group) for group in material.groups]
    levels = int(base.schedule.get("num_train_timesteps", 1000))
    draws = Draws(pairs, cache, config, rows, base.backbone.latent_channels, base.backbone.downscale, levels)

    def places() -> Iterator[list[Place]]:
        order = batches(material.groups, config.batch_size, config.shuffle_window, config.seed)
        for number, chosen in enumerate(itertools.islice(order, start, config.max_steps), start):
            yield processes.share([Place(number, place, row) for place, row in enumerate(chosen)])

    return load(draws, places(), config.workers)


def _gradients(
    config: TrainingConfig, base: Base, state: State, model: nn.Module, noise: DDPMScheduler, batch: Batch, parts: int
) -> Tensor:
    """Gradients of a step's loss, computed in so many parts, one after another; the loss."""
    state.optimiser.zero_grad()
    size = len(batch) // parts
    total = torch.zeros((), device=base.device)
    for number in range(parts):
        part = batch.part(number * size, (number + 1) * size)
        with state.gathering(model, number == parts - 1):
            with _precision(config, base):
                loss = _loss(config, base, model, noise, part) / parts
            state.backward(loss)
        total += loss.detach()
    return total


def _loss(config: TrainingConfig, base: Base, model: nn.Module, noise: DDPMScheduler, part: Batch) -> Tensor:
    moments = part.moments
    if moments is None:
        assert part.pictures is not None, "without a cache, the pictures come along"
        moments = caches.encode(base, part.pictures)
    latents = base.scale_latents(caches.draw(moments, part.sample)).to(base.device)
    text = _text(base, part).to(base.device)
    condition, added = part.condition.to(base.device), part.noise.to(base.device)
    timesteps = part.timesteps.to(base.device)
    return step.loss(model, noise, latents, text, condition, timesteps, added, config.min_snr)


def _text(base: Base, part: Batch) -> TextFeatures:
    if part.states is None:
        return base.encode_text(part.words)
    height, width = part.condition.shape[-2:]
    return TextFeatures(part.states, part.pooled, base.size_ids(len(part), (width, height)))


def _finish(run: Run, state: State, finished: int) -> Path:
    """Write the ControlNet, and the base where it was trained."""
    config, base = run.config, state.base
    net, network = state.finished()
    network.requires_grad_(False)
    if run.processes.is_first:
        if config.keep_best:
            net.load_state_dict(best_weights(config.output))
        net.contract = contract_of(config, network, finished)
        net.save(config.output)
        if config.unlock:
            save_base(base, config.output / "base", network)
    run.tracker.close()
    run.processes.wait()
    return config.output


def _precision(config: TrainingConfig, base: Base) -> AbstractContextManager[object]:
    if config.precision == "float32":
        return nullcontext()
    return torch.autocast(base.device.type, DTYPES[config.precision])
