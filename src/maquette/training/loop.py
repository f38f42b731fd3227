"""The loop that trains a ControlNet."""

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from maquette.base import Base
from maquette.checkpoints.save import save_base
from maquette.controlnet.network import ControlNet
from maquette.training.attention import faster_attention
from maquette.training.config import TrainingConfig
from maquette.training.data import latent_cache
from maquette.training.data.batch_sampler import batches as batches_of
from maquette.training.data.dataset import Batch, LatentSpec, SampleIndex, TrainingDataset, load
from maquette.training.distributed.world import World
from maquette.training.hardware import checkpointed, keep_pages
from maquette.training.run import Run, put_best
from maquette.training.setup import (
    Material,
    check_folder,
    check_shares,
    contract_of,
    make_monitor,
    open_material,
    open_networks,
)
from maquette.training.signals import asked_to_stop
from maquette.training.stages import set_rates, stage_of
from maquette.training.state import State
from maquette.training.step import train_step


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
    world = World(config.hardware.device)
    check_folder(config)
    check_shares(config.data.batch_size, config.hardware.accumulation, world.count)
    world.barrier()  # none writes before all have looked
    base, net = open_networks(config, base, str(world.device))
    try:
        return _train(config, base, net, world)
    finally:
        base.backbone.network.requires_grad_(False)


def _train(config: TrainingConfig, base: Base, net: ControlNet, world: World) -> Path:
    keep_pages(base.device)
    material = open_material(config, base, world)
    monitor = make_monitor(config, base, material)
    state = State.make(config, base, net, world)
    start = state.restore()
    batches = _batches(config, base, material, world, start)
    run = Run.begin(config, material, monitor, world, start)
    state.enter(stage_of(config.model, start, run.convergence_detected_at))
    run.measure_start(state)
    with (
        asked_to_stop(world) as asked,
        faster_attention(base.device, *state.networks),
        checkpointed(config.hardware.gradient_checkpointing, *state.networks),
    ):
        for step in run.steps(start):
            if state.enter(stage := stage_of(config.model, step, run.convergence_detected_at)):
                run.tell(f"step {step}: training {stage}")
            batch = next(batches)
            run.note_faults(batch.faults)
            set_rates(state.optimizer, config.optimizer, step, config.max_steps)
            loss = train_step(state, batch, partial(run.check_finite, batch, step))
            if run.after_step(step + 1, loss, state, asked):
                break
    return _finish(run, state)


def _batches(config: TrainingConfig, base: Base, material: Material, world: World, start: int) -> Iterator[Batch]:
    """This process's share of the batch of each step, from a step on."""
    pairs = material.pairs
    keep = config.data.cache and pairs.views() is not None
    cache = latent_cache.precompute(base, pairs, config.data.cache_folder, world) if keep else None
    rows = [np.concatenate(group) for group in material.groups]
    draws = TrainingDataset(pairs, cache, config.data, rows, LatentSpec.of(base), config.seed)

    def places() -> Iterator[list[SampleIndex]]:
        order = batches_of(material.groups, config.data.batch_size, config.data.shuffle_window, config.seed)
        for number, chosen in enumerate(itertools.islice(order, start, config.max_steps), start):
            yield world.shard([SampleIndex(number, place, row) for place, row in enumerate(chosen)])

    return load(draws, places(), config.data.workers)


def _finish(run: Run, state: State) -> Path:
    """Write the ControlNet, and the base where it was trained."""
    config, base = run.config, state.base
    net, network = state.finished()
    if run.world.is_main:
        steps = put_best(net, config.output) if config.monitor.keep_best else run.finished
        net.contract = contract_of(config, net, network, steps)
        net.save(config.output)
        if config.model.unlock:
            save_base(base, config.output / "base", network)
    run.tracker.close()
    run.world.barrier()
    return config.output
