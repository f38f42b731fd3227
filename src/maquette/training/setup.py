"""What a run is checked for, and made of, before its first step."""

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
from maquette.conditions.requirements import resampling_words
from maquette.controlnet.contract import Contract, fingerprint
from maquette.controlnet.network import ControlNet
from maquette.data import diorama
from maquette.data.crop import ResizeCrop
from maquette.data.pairs import Pairs, SourcePairs
from maquette.data.random_detectors import DRAWS, draw_named
from maquette.data.sources.jsonl import BadRow, Columns
from maquette.data.sources.open import open_source
from maquette.diorama import dataset
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.devices import DTYPES
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

FULL_WIDTH, FULL_WIDTH_RATE = 320, 1e-4  # channels of Stable Diffusion's first blocks, and more than it bears


def check_folder(config: TrainingConfig) -> None:
    """The run's folder must be free, or hold what is to be resumed, begun with the same settings."""
    check_tracker(config.monitor.track, config.output)
    for words in without_effect(config.items()):
        warnings.warn(words, MaquetteWarning, stacklevel=3)
    kept = config.output / CONFIG
    if config.resume:
        pairs = zip(config.items(), TrainingConfig.load(kept).items(), strict=True)
        changed = [one.flat for (one, value), (_, before) in pairs if value != before and not one.may_differ_in(config)]
        if changed:
            raise MaquetteError(
                f"The run in {str(config.output)!r} was begun with other settings ({', '.join(changed)}); "
                "resume it with the same, or give another output."
            )
    elif kept.exists() or checkpoint.states(config.output):
        raise MaquetteError(f"{str(config.output)!r} holds a run already; give --resume to go on, or another output.")


def check_base(base: Base, config: TrainingConfig) -> None:
    """What this training knows, and a learning rate that is not another base's."""
    if base.text_encoder is None:
        raise MaquetteError(f"The base {base.name!r} came without a text encoder; give one with it.")
    if base.dtype != torch.float32 and (config.model.unlock or config.hardware.precision == "float32"):
        raise MaquetteError(
            f"The base {base.name!r} was loaded in {str(base.dtype).removeprefix('torch.')}; to "
            f"{'train it (unlock)' if config.model.unlock else 'work in float32 (precision)'}, load it in float32."
        )
    if base.noise.prediction not in PREDICTIONS:
        raise MaquetteError(
            f"The base {base.name!r} predicts {base.noise.prediction!r}, and training knows "
            f"{', '.join(PREDICTIONS)}; give such a base."
        )
    if base.backbone.slots[0].channels >= FULL_WIDTH and config.optimizer.learning_rate > FULL_WIDTH_RATE:
        warnings.warn(
            f"A learning rate of {config.optimizer.learning_rate:g} is made for narrow bases; Stable Diffusion's "
            "ControlNets were trained at 1e-5.",
            MaquetteWarning,
            stacklevel=3,
        )


def open_networks(config: TrainingConfig, given: Base | None, device: str) -> tuple[Base, ControlNet]:
    """The base and the ControlNet to train on it, fresh or trained before, in float32.

    A base that is loaded here has its locked weights in the precision that they run in, after they were copied; the
    autoencoder and the text encoders stay exact, since what they say is kept.
    """
    base = given or load_base(config.base, device)
    check_base(base, config)
    model = config.model
    if model.start_from is None:
        net = ControlNet.attach(base, model.encoder, model.connect, model.variant, config.seed)
    else:
        net = load_controlnet(model.start_from, base)
    net = net.float().train()
    if given is None and not model.unlock:
        nn.Module.to(base.backbone.network, DTYPES[config.hardware.precision])
    return base, net


def check_shares(batch_size: int, accumulation: int, processes: int) -> None:
    if batch_size % (processes * accumulation):
        raise MaquetteError(
            f"batch_size counts the images of a step over all processes and parts: a multiple of {processes} "
            f"processes × {accumulation} parts, not {batch_size}."
        )


@dataclass(frozen=True)
class Material:
    """Pairs to train on, by shape, and pairs to measure."""

    pairs: Pairs
    groups: list[list[Rows]]  # blocks of rows of one shape
    measured: Pairs
    held_out: Sequence[int]  # of `measured`
    faults: Sequence[BadRow] = ()  # lines and shards that are no rows at all


def open_material(config: TrainingConfig, base: Base, world: World) -> Material:
    """The diorama's scenes, or a user's own pairs, of which some are held out."""
    data, held_out = config.data, config.monitor.held_out if config.monitor.evaluate_every else 0
    if data.source is None:
        return _scenes(config.condition, data.scenes, held_out, world)
    pairs, faults = _own_pairs(config.condition, data, base.size)
    groups = [list(pairs.blocks())]
    if data.buckets:
        groups = grouped(groups[0], [pairs.shape(row) for row in range(len(pairs))])
    if not held_out:
        return Material(pairs, groups, pairs, [], faults)
    rows = _held_out(data.source, held_out, config.seed, pairs, groups)
    return Material(pairs, _without(groups, rows), pairs, rows, faults)


def _scenes(condition: str, count: int, held_out: int, world: World) -> Material:
    """Scenes to train on, and so many to measure, if any are."""
    seeds = [range(dataset.TRAIN, dataset.TRAIN + count)]
    if held_out:
        seeds.append(range(dataset.VALIDATION, dataset.VALIDATION + held_out))
    for one in seeds if world.is_local_main else ():
        dataset.prepare(one, diorama.SCENES)  # once a machine
    world.barrier()
    pairs, *measured = (diorama.Pairs.load(condition, one) for one in seeds)
    return Material(pairs, [list(pairs.blocks())], measured[0] if measured else pairs, range(held_out))


def _own_pairs(condition: str, data: DataConfig, size: int) -> tuple[SourcePairs, Sequence[BadRow]]:
    assert data.source is not None, "without a source, scenes are trained on"
    columns = Columns(data.image_column, data.condition_column, data.text_column, not data.detect)
    source = open_source(data.source, columns)
    framing = ResizeCrop(data.frame or (size, size), data.buckets, data.crop, data.flip, data.categorical)
    draw = draw_named(condition) if data.detect else None
    return SourcePairs.open(condition, source, framing, draw), source.faults


def _held_out(source: str, count: int, seed: int, pairs: Pairs, groups: list[list[Rows]]) -> list[int]:
    """Rows of one shape that can be read, drawn from the most frequent one."""
    largest = np.concatenate(max(groups, key=lambda group: sum(map(len, group))))
    of_shape = " of the most frequent shape" if len(groups) > 1 else ""
    found: list[int] = []
    if len(largest) > count:
        found = _readable(pairs, np.random.default_rng(seed).permutation(largest).tolist(), count)
    if len(found) < count:
        raise MaquetteError(
            f"{source!r} has {len(largest)} rows{of_shape}, of which held_out = {count} that can "
            "be read are to be measured and never trained on: there are too few; give more, or a smaller held_out."
        )
    return found


def _readable(pairs: Pairs, rows: list[int], count: int) -> list[int]:
    """The first so many rows that can be read."""
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
    left = [[block[~np.isin(block, rows)] for block in group] for group in groups]
    return [[block for block in group if len(block)] for group in left if any(map(len, group))]


def make_monitor(config: TrainingConfig, base: Base, material: Material) -> Monitor | None:
    if not config.monitor.evaluate_every:
        return None
    looks = needs_eye(config.condition) if config.condition in NAMES else False
    scored = config.condition in NAMES and (config.data.source is None or not looks)
    eye = PerceptionModel(device=str(base.device)) if looks and scored else None
    return Monitor(base, material.measured, material.held_out, eye, scored)


def contract_of(config: TrainingConfig, net: ControlNet, network: nn.Module, steps: int) -> Contract:
    """What a ControlNet was trained to be given, on a base of this network."""
    of_scenes = config.data.source is None
    draws = config.data.detect or of_scenes
    as_scenes = of_scenes or (config.data.detect and config.condition in DRAWS)
    made = diorama.CONDITIONS[config.condition].words if as_scenes else None
    return replace(
        net.contract,  # of one that was gone on from: its channels' order, and whether it is pooled
        stated=True,
        detector=f"diorama/{config.condition}" if of_scenes else config.condition,
        detector_version=f"maquette {version('maquette')}" if draws else None,
        detector_options=made,
        resize="none: drawn at the images' size" if draws else _resize(config.data.categorical),
        base=str(config.output / "base") if config.model.unlock else config.base,
        base_fingerprint=fingerprint(network.state_dict()),
        prompt_drop=config.data.prompt_drop,
        optimizer_steps=steps,
    )


def _resize(categorical: bool) -> str:
    return f"scaled to cover the frame, by {resampling_words(categorical)}, and cut"
