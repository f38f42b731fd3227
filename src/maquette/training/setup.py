"""Setting up a run: checks of its folder and base, its networks, data and monitor."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np
import torch
from torch import nn

from maquette.base import Base
from maquette.checkpoints import load_base, load_controlnet
from maquette.conditions.networks.perception import PerceptionModel
from maquette.conditions.requirements import drawn_by, kind_of, resizing_words
from maquette.controlnet.contract import Contract, fingerprint
from maquette.controlnet.network import ControlNet
from maquette.data import diorama
from maquette.data.crop import ResizeCrop
from maquette.data.pairs import Pairs, SourcePairs
from maquette.data.random_detectors import DRAWS, draw_named
from maquette.data.ready_maps import order_of, warnings_of
from maquette.data.sources.jsonl import BadRow, Columns
from maquette.data.sources.open import open_source
from maquette.diorama import dataset
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.devices import DTYPES
from maquette.foundation.images import Order
from maquette.metrics.fidelity import NAMES, needs_eye
from maquette.noise.process import PREDICTIONS
from maquette.training import checkpoint
from maquette.training.config import CONFIG, TrainingConfig
from maquette.training.data.batch_sampler import Rows, grouped
from maquette.training.distributed.world import World
from maquette.training.monitor.convergence import Monitor
from maquette.training.monitor.tracking import check_tracker
from maquette.training.parts import DataConfig
from maquette.training.validation import without_effect

FULL_WIDTH, FULL_WIDTH_RATE = 320, 1e-4  # channels of Stable Diffusion's first blocks; warn above this rate


def check_folder(config: TrainingConfig) -> None:
    """Check that the run's folder is free, or holds the run to resume, with the same settings.

    Raises `MaquetteError` if it holds another run, or the settings have changed, or the tracker is unknown.
    """
    check_tracker(config.monitor.track, config.output)
    for message in without_effect(config.items()):
        warnings.warn(message, MaquetteWarning, stacklevel=3)
    kept = config.output / CONFIG
    if config.resume:
        pairs = zip(config.items(), TrainingConfig.load(kept).items(), strict=True)
        changed = [s.flat for (s, value), (_, before) in pairs if value != before and not s.may_differ_in(config)]
        if changed:
            raise MaquetteError(
                f"The run in {str(config.output)!r} was started with other settings ({', '.join(changed)}); "
                "resume it with the same ones, or choose another output."
            )
    elif kept.exists() or checkpoint.states(config.output):
        raise MaquetteError(
            f"{str(config.output)!r} holds a run already; continue it with --resume, or choose another output."
        )


def check_base(base: Base, config: TrainingConfig) -> None:
    """Check that the base can be trained on, and warn about a learning rate that is too high for it.

    Raises `MaquetteError` if it has no text encoder, is in half precision where float32 is needed, or predicts
    something unknown.
    """
    if base.text_encoder is None:
        raise MaquetteError(f"The base {base.name!r} came without a text encoder; load one that has it.")
    if base.dtype != torch.float32 and (config.model.unlock or config.hardware.precision == "float32"):
        raise MaquetteError(
            f"The base {base.name!r} was loaded in {str(base.dtype).removeprefix('torch.')}; to "
            f"{'train it (unlock)' if config.model.unlock else 'compute in float32 (precision)'}, load it in float32."
        )
    if base.noise.prediction not in PREDICTIONS:
        raise MaquetteError(
            f"The base {base.name!r} predicts {base.noise.prediction!r}, but training supports "
            f"{', '.join(PREDICTIONS)}; use such a base."
        )
    if base.backbone.slots[0].channels >= FULL_WIDTH and config.optimizer.learning_rate > FULL_WIDTH_RATE:
        warnings.warn(
            f"A learning rate of {config.optimizer.learning_rate:g} is made for narrow bases; Stable Diffusion's "
            "ControlNets were trained at 1e-5.",
            MaquetteWarning,
            stacklevel=3,
        )


def open_networks(config: TrainingConfig, shared: Base | None, device: str) -> tuple[Base, ControlNet]:
    """The base, and a new or trained ControlNet on it in float32.

    A base loaded here is converted to the training precision after its weights were copied; its autoencoder and text
    encoders stay in float32, since their outputs are cached.
    """
    base = shared or load_base(config.base, device)
    check_base(base, config)
    model = config.model
    if model.start_from is None:
        net = ControlNet.attach(base, model.encoder, model.connect, model.variant, config.seed)
    else:
        net = load_controlnet(model.start_from, base)
    net = net.float().train()
    if shared is None and not model.unlock:
        nn.Module.to(base.backbone.network, DTYPES[config.hardware.precision])
    return base, net


def check_shares(batch_size: int, accumulation: int, processes: int) -> None:
    """Raises `MaquetteError` if a batch does not divide evenly among processes and accumulation parts."""
    if batch_size % (processes * accumulation):
        raise MaquetteError(
            f"batch_size counts the images of a step over all processes and parts; it must be a multiple of "
            f"{processes} processes × {accumulation} parts, not {batch_size}."
        )


@dataclass(frozen=True)
class TrainingData:
    """Pairs to train on, grouped by shape, and held-out pairs to evaluate on."""

    pairs: Pairs
    groups: list[list[Rows]]  # blocks of rows of one shape
    evaluated: Pairs
    held_out: Sequence[int]  # rows of `evaluated`
    faults: Sequence[BadRow] = ()  # lines and shards that could not be parsed
    order: Order | None = "frame, then detect"  # in which the conditions came to their frames


def open_data(config: TrainingConfig, base: Base, world: World) -> TrainingData:
    """The diorama's scenes, or custom pairs with some of them held out.

    Raises `MaquetteError` if there are too few readable pairs to hold out.
    """
    data, held_out = config.data, config.monitor.held_out if config.monitor.evaluate_every else 0
    if data.source is None:
        return _scenes(config.condition, data.scenes, held_out, world)
    pairs, faults = _custom_pairs(config.condition, data, base.size)
    order = order_of(pairs)
    for message in warnings_of(pairs):
        warnings.warn(message, MaquetteWarning, stacklevel=4)
    groups = [list(pairs.blocks())]
    if data.buckets:
        groups = grouped(groups[0], [pairs.shape(row) for row in range(len(pairs))])
    if not held_out:
        return TrainingData(pairs, groups, pairs, [], faults, order)
    rows = _held_out(data.source, held_out, config.seed, pairs, groups)
    return TrainingData(pairs, _without(groups, rows), pairs, rows, faults, order)


def _scenes(condition: str, count: int, held_out: int, world: World) -> TrainingData:
    """`count` scenes to train on and `held_out` validation scenes."""
    seeds = [range(dataset.TRAIN, dataset.TRAIN + count)]
    if held_out:
        seeds.append(range(dataset.VALIDATION, dataset.VALIDATION + held_out))
    for split in seeds if world.is_local_main else ():
        dataset.prepare(split, diorama.SCENES)  # once per machine
    world.barrier()
    pairs, *validation = (diorama.Pairs.load(condition, split) for split in seeds)
    return TrainingData(pairs, [list(pairs.blocks())], validation[0] if validation else pairs, range(held_out))


def _custom_pairs(condition: str, data: DataConfig, size: int) -> tuple[SourcePairs, Sequence[BadRow]]:
    assert data.source is not None, "without a source, training uses scenes"
    columns = Columns(data.image_column, data.condition_column, data.text_column, not data.detect)
    source = open_source(data.source, columns)
    framing = ResizeCrop(data.frame or (size, size), data.buckets, data.crop, data.flip, data.kind(condition))
    detect = draw_named(condition) if data.detect else None
    return SourcePairs.open(condition, source, framing, detect, data.palette), source.faults


def _held_out(source: str, count: int, seed: int, pairs: Pairs, groups: list[list[Rows]]) -> list[int]:
    """`count` random readable rows of the most frequent shape."""
    largest = np.concatenate(max(groups, key=lambda group: sum(map(len, group))))
    of_shape = " of the most frequent shape" if len(groups) > 1 else ""
    found: list[int] = []
    if len(largest) > count:
        found = _readable(pairs, np.random.default_rng(seed).permutation(largest).tolist(), count)
    if len(found) < count:
        raise MaquetteError(
            f"{source!r} has {len(largest)} rows{of_shape}, too few to hold out {count} readable ones for evaluation "
            "(held_out) and train on others; add rows, or set a smaller held_out."
        )
    return found


def _readable(pairs: Pairs, rows: list[int], count: int) -> list[int]:
    """The first `count` readable rows."""
    found: list[int] = []
    for row in rows:
        try:
            pairs.pair(row, pairs.view(np.random.default_rng(0)), None)
        except MaquetteError:
            continue
        found.append(row)
        if len(found) == count:
            break
    return found


def _without(groups: list[list[Rows]], rows: list[int]) -> list[list[Rows]]:
    remaining = [[block[~np.isin(block, rows)] for block in group] for group in groups]
    return [[block for block in group if len(block)] for group in remaining if any(map(len, group))]


def make_monitor(config: TrainingConfig, base: Base, data: TrainingData) -> Monitor | None:
    """The monitor of the held-out pairs; None without evaluation."""
    if not config.monitor.evaluate_every:
        return None
    has_metric = config.condition in NAMES
    needs_model = needs_eye(config.condition) if has_metric else False
    scored = has_metric and (config.data.source is None or not needs_model)  # the model knows diorama scenes only
    perception = PerceptionModel(device=str(base.device)) if needs_model and scored else None
    return Monitor(base, data.evaluated, data.held_out, perception, scored)


def contract_of(
    config: TrainingConfig, net: ControlNet, network: nn.Module, steps: int, order: Order | None
) -> Contract:
    """The contract of the trained ControlNet: the inputs it expects, and the base it was trained on.

    Args:
        order: in which the training's conditions came to their frames.
    """
    of_scenes = config.data.source is None
    kind = kind_of(drawn_by(config.condition, "diorama")) if of_scenes else config.data.kind(config.condition)
    detected = config.data.detect or of_scenes
    as_scenes = of_scenes or (config.data.detect and config.condition in DRAWS)
    options = diorama.CONDITIONS[config.condition].words if as_scenes else None
    if config.data.palette is not None:
        options = f"class numbers in the colours of {config.data.palette}"
    return replace(
        net.contract,  # with start_from, keeps the channel order and pooling
        stated=True,
        detector=f"diorama/{config.condition}" if of_scenes else config.condition,
        detector_version=f"maquette {version('maquette')}" if detected else None,
        detector_options=options,
        resize="none: drawn at the images' size" if detected else resizing_words(kind),
        order=order,
        categorical=kind == "classes",
        lines=kind == "lines",
        base=str(config.output / "base") if config.model.unlock else config.base,
        base_fingerprint=fingerprint(network.state_dict()),
        prompt_drop=config.data.prompt_drop,
        optimizer_steps=steps,
    )
