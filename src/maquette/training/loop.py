"""The training loop."""

import itertools
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from maquette.base import Base
from maquette.checkpoints.save import save_base
from maquette.controlnet.network import ControlNet
from maquette.errors import MaquetteWarning
from maquette.training.config import STATES, TrainingConfig
from maquette.training.data import latent_cache
from maquette.training.data.batch_sampler import batches as batches_of
from maquette.training.data.dataset import Batch, LatentSpec, SampleIndex, TrainingDataset, load
from maquette.training.data.split import TrainingData, open_data
from maquette.training.distributed.world import World
from maquette.training.hardware import checkpointed, faster_attention, keep_pages
from maquette.training.run import Run, held, load_best
from maquette.training.setup import (
    check_folder,
    check_shares,
    contract_of,
    make_monitor,
    open_networks,
)
from maquette.training.signals import stop_signal
from maquette.training.stages import set_learning_rates, stage_of, with_rate_of_base, with_rate_of_run
from maquette.training.state import State
from maquette.training.step import train_step


def train(config: TrainingConfig, base: Base | None = None) -> Path:
    """Train a ControlNet and return the run's folder, which `load_controlnet` accepts.

    The folder holds the ControlNet (config.json, diffusion_pytorch_model.safetensors), training.json, metrics.jsonl,
    curve.png, report.html, grids/ and the last two checkpoints, from which `resume` continues; with `keep_every`,
    ControlNets of the steps before in states/; an unlocked base is saved in base/.

    Args:
        base: a loaded base to share between runs, instead of loading `config.base`; `unlock` trains it in place.

    Raises `MaquetteError` if the folder holds another run, or none to resume, or is being written by another process;
    if the states of the run to resume are lost or damaged; if too many pairs are broken; if the loss is not finite,
    memory too small or the disk full. Ctrl-C, SIGTERM and SIGHUP save a checkpoint and exit.
    """
    world = World(config.hardware.device)
    config = with_rate_of_run(config)
    check_folder(config)
    if config.hardware.shard and world.count == 1:
        warnings.warn("shard has no effect in one process; start several (torchrun).", MaquetteWarning, stacklevel=2)
    check_shares(config.data.batch_size, config.hardware.accumulation, world.count)
    world.barrier()  # no process may write before all have checked the folder
    base, net = open_networks(config, base, str(world.device))
    config, rate = with_rate_of_base(config, base)
    with held(config.output, world):
        try:
            return _train(config, base, net, world, rate)
        finally:
            base.backbone.network.requires_grad_(False)


def _train(config: TrainingConfig, base: Base, net: ControlNet, world: World, rate: str) -> Path:
    keep_pages(base.device)
    data = open_data(config, base, world)
    monitor = make_monitor(config, base, data)
    state = State.make(config, base, net, world)
    start, log = state.restore()
    batches = training_batches(config, base, data, world, start)
    run = Run.begin(config, data, monitor, world, start, log)
    state.enter(stage_of(config.model, start, run.settled_at))
    run.print(rate)
    with (
        stop_signal(world) as received,
        faster_attention(base.device, *state.networks),
        checkpointed(config.hardware.gradient_checkpointing, *state.networks),
    ):
        run.measure_start(state)
        for step in run.steps(start):
            if state.enter(stage := stage_of(config.model, step, run.settled_at)):
                run.print(f"step {step}: training {stage}")
            batch = next(batches)
            run.broken.note(batch.faults)
            set_learning_rates(state.optimizer, config.optimizer, step, config.max_steps)
            loss = train_step(state, batch, partial(run.check_finite, batch, step))
            if run.is_kept(step + 1):
                _keep(run, state, step + 1)
            if run.after_step(step + 1, loss, state, received):
                break
    return _finish(run, state)


def training_batches(
    config: TrainingConfig, base: Base, data: TrainingData, world: World, start: int
) -> Iterator[Batch]:
    """This process's share of each batch, from step `start` on; the cache is filled first."""
    pairs = data.pairs
    cached = config.data.cache and pairs.views() is not None
    folder, conflicting = config.data.cache_folder, config.data.prompt_conflict > 0
    cache = latent_cache.precompute(base, pairs, folder, world, conflicting) if cached else None
    rows = [group.rows for group in data.groups]
    samples = TrainingDataset(pairs, cache, config.data, rows, LatentSpec.of(base), config.seed)

    def indices() -> Iterator[list[SampleIndex]]:
        order = batches_of(data.groups, config.data.batch_size, config.data.shuffle_window, config.seed)
        for step, batch in enumerate(itertools.islice(order, start, config.max_steps), start):
            yield world.shard([SampleIndex(step, number, row) for number, row in enumerate(batch)])

    return load(samples, indices(), config.data.workers, base)


def _keep(run: Run, state: State, steps: int) -> None:
    """Save the ControlNet as it is after `steps` steps, beside the one that is saved at the end."""
    net, network = state.finished()
    if run.world.is_main:
        before, net.contract = net.contract, contract_of(run.config, net, network, steps, run.data.order)
        net.save(run.config.output / STATES / str(steps))
        net.contract = before


def _finish(run: Run, state: State) -> Path:
    """Save the ControlNet, and the base if it was trained."""
    config, base = run.config, state.base
    net, network = state.finished()
    if run.world.is_main:
        steps = load_best(net, config.output, run.finished) if config.monitor.keep_best else run.finished
        net.contract = contract_of(config, net, network, steps, run.data.order)
        net.save(config.output)
        if config.model.unlock:
            save_base(base, config.output / "base", network)
    run.tracker.close()
    run.world.barrier()
    return config.output
