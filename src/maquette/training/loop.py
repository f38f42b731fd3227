"""The loop that trains a ControlNet."""

import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maquette.base import Base
from maquette.checkpoints.save import save_base
from maquette.controlnet.network import ControlNet
from maquette.foundation.devices import DTYPES
from maquette.foundation.pixels import signed, unit
from maquette.text.conditioning import Conditioning
from maquette.training import cache as caches
from maquette.training import schedule, step
from maquette.training.attention import faster_attention
from maquette.training.config import TrainingConfig
from maquette.training.draws import Batch, Draws, Place, load
from maquette.training.memory import checkpointed, fitted, keep_pages
from maquette.training.order import batches
from maquette.training.prepare import (
    Material,
    check_folder,
    check_shares,
    contract_of,
    make_monitor,
    open_material,
    open_networks,
)
from maquette.training.processes import Processes
from maquette.training.run import Run, put_best
from maquette.training.stages import set_rates, stage_of
from maquette.training.state import State
from maquette.training.stop import asked_to_stop

LOG_EVERY = 25  # steps between two lines of loss


def train(config: TrainingConfig, base: Base | None = None) -> Path:
    """Train a ControlNet; the finished run's folder, which `load_controlnet` takes.

    The folder holds the ControlNet (config.json, diffusion_pytorch_model.safetensors), training.json, metrics.jsonl,
    curve.png, report.html, grids/ and the last two states, from which `resume` goes on; where the base was unlocked,
    base/ holds it.

    Args:
        base: what `config` says would be loaded, where several runs share it; with `unlock` it is left as trained.

    Raises `MaquetteError` when the folder holds another run, or none to go on with; when too many pairs are broken;
    when the loss is not finite, the memory too small or the disk full. Ctrl-C and SIGTERM save the state and leave.
    """
    processes = Processes(config.device)
    check_folder(config)
    check_shares(config, processes.count)
    processes.wait()  # none writes before all have looked
    base, net = open_networks(config, base, str(processes.device))
    try:
        return _train(config, base, net, processes)
    finally:
        base.backbone.network.requires_grad_(False)


def _train(config: TrainingConfig, base: Base, net: ControlNet, processes: Processes) -> Path:
    keep_pages(base.device)
    material = open_material(config, base, processes)
    monitor = make_monitor(config, base, material)
    state = State.make(config, base, net, processes)
    start = finished = state.restore()
    drawn = _draw(config, base, material, processes, start)
    run = Run.begin(config, material, monitor, processes, start)
    state.enter(stage_of(config, start, run.noticed))
    if run.is_due(start) and not run.is_measured(start):
        run.measure(start, state, _precision(config, base))
    with (
        asked_to_stop(processes) as asked,
        faster_attention(base.device, *state.networks),
        checkpointed(config.gradient_checkpointing, *state.networks),
    ):
        for done in () if run.is_over(start) else run.steps(start):
            stage = stage_of(config, done, run.noticed)
            if stage != state.stage:
                state.enter(stage)
                run.tell(f"step {done}: training {stage}")
            batch = next(drawn)
            run.note_faults(batch.faults)
            share = getattr(schedule, config.decay)(done, config.max_steps, config.warmup)
            set_rates(state.optimiser, (config.learning_rate * share, config.unlock_learning_rate * share))
            descend = partial(_descend, config, run, state, batch, done)
            loss = fitted(descend, config.accumulation, len(batch), alone=processes.count == 1)
            finished = done + 1
            if finished % LOG_EVERY == 0 or finished == config.max_steps:
                run.write(finished, processes.mean(loss).item())
            stopped = asked()
            if run.is_due(finished) and not stopped:  # else it is measured when the run goes on
                run.measure(finished, state, _precision(config, base))
            over = run.is_over(finished)
            if finished % config.checkpoint_every == 0 or finished == config.max_steps or over or stopped:
                state.save(finished)
            if stopped:
                run.leave(finished, stopped)
            if over:
                break
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


def _descend(config: TrainingConfig, run: Run, state: State, batch: Batch, done: int, parts: int) -> Tensor:
    """One step of the optimiser, its gradients computed in so many parts, one after another; the loss."""
    state.optimiser.zero_grad()
    size = len(batch) // parts
    total = torch.zeros((), device=state.base.device)
    for number in range(parts):
        with state.gathering(number == parts - 1):
            loss = _loss(config, state, batch.part(number * size, (number + 1) * size)) / parts
            state.backward(loss)
        total += loss.detach()
    run.check_finite(total, batch, done)
    state.step()
    return total


def _loss(config: TrainingConfig, state: State, part: Batch) -> Tensor:
    """Of some rows of a batch; the autoencoder and the text encoders compute as they were loaded."""
    base = state.base
    moments = part.moments
    if moments is None:
        assert part.pictures is not None, "without a cache, the pictures come along"
        moments = caches.encode(base, signed(part.pictures))
    latents = base.sample_latents(moments, part.sample).to(base.device)
    text = _text(base, part).to(base.device)
    condition = state.net.condition_input(unit(part.conditions.to(base.device)), base.encode_maps)
    added = part.noise.to(base.device)
    timesteps = part.timesteps.to(base.device)
    with _precision(config, base):
        return step.loss(state.model, state.noise, latents, text, condition, timesteps, added, config.min_snr)


def _text(base: Base, part: Batch) -> Conditioning:
    height, width = part.conditions.shape[1:3]
    if part.text is None:
        return base.encode_text(part.words, (width, height))
    return base.text.with_size(part.text, (width, height))


def _finish(run: Run, state: State, finished: int) -> Path:
    """Write the ControlNet, and the base where it was trained."""
    config, base = run.config, state.base
    net, network = state.finished()
    if run.processes.is_first:
        if config.keep_best:
            finished = put_best(net, config.output)
        net.contract = contract_of(config, net, network, finished)
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
