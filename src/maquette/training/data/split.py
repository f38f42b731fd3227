"""Which pairs a run trains on, and which are held out to be evaluated on."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from maquette.base import Base
from maquette.conditions.requirements import shows_people
from maquette.data import diorama
from maquette.data.blocks import Blocks
from maquette.data.crop import ResizeCrop
from maquette.data.pairs import ConditionFn, Pairs, SourcePairs
from maquette.data.random_detectors import DRAWS, draw_named
from maquette.data.ready_maps import order_of, warnings_of
from maquette.data.sources.jsonl import BadRow, Columns
from maquette.data.sources.open import open_source
from maquette.diorama import dataset
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.images import Order
from maquette.training.config import TrainingConfig
from maquette.training.data.batch_sampler import grouped
from maquette.training.data.tensor_store import SizeStore
from maquette.training.distributed.world import World
from maquette.training.parts import DataConfig


@dataclass(frozen=True)
class TrainingData:
    """Pairs to train on, grouped by shape, and held-out pairs to evaluate on."""

    pairs: Pairs
    groups: list[Blocks]  # rows of one shape each
    evaluated: Pairs
    held_out: Sequence[int]  # rows of `evaluated`
    faults: Sequence[BadRow] = ()  # lines and shards that could not be parsed
    order: Order | None = "frame, then detect"  # in which the conditions came to their frames


def open_data(config: TrainingConfig, base: Base, world: World) -> TrainingData:
    """The diorama's scenes, or custom pairs with some of them held out.

    Raises `MaquetteError` if there are too few readable pairs to hold out.
    """
    if config.data.source is None:
        return _scenes(config.condition, config.data, _count_held_out(config), world)
    pairs, faults = _custom_pairs(config.condition, config.data, base.size, world)
    for message in warnings_of(pairs):
        warnings.warn(message, MaquetteWarning, stacklevel=4)
    return hold_out(config, pairs, faults)


def hold_out(config: TrainingConfig, pairs: SourcePairs, faults: Sequence[BadRow] = ()) -> TrainingData:
    """Custom pairs grouped by shape, some of them set apart. Raises `MaquetteError` if there are too few readable."""
    groups = grouped(pairs.blocks(), pairs.shapes()) if config.data.buckets else [pairs.blocks()]
    count = _count_held_out(config)
    if not count:
        return TrainingData(pairs, groups, pairs, [], faults, order_of(pairs))
    rows = _held_out(str(config.data.source), count, config.seed, pairs, groups)
    return TrainingData(pairs, _without(groups, rows), pairs, rows, faults, order_of(pairs))


def _count_held_out(config: TrainingConfig) -> int:
    return config.monitor.held_out if config.monitor.evaluate_every else 0


def _scenes(condition: str, data: DataConfig, held_out: int, world: World) -> TrainingData:
    """Scenes to train on, and `held_out` validation scenes that show the condition."""
    detect = _detector(condition, data) if condition in DRAWS else None
    seeds = range(dataset.TRAIN, dataset.TRAIN + data.scenes)
    if world.is_local_main:  # once per machine
        dataset.prepare(seeds, diorama.SCENES)
        if held_out:
            diorama.held_out_pairs(condition, held_out)
    world.barrier()
    pairs = diorama.Pairs.load(condition, seeds, detect=detect)
    evaluated, rows = diorama.held_out_pairs(condition, held_out, detect=detect) if held_out else (pairs, [])
    return TrainingData(pairs, [pairs.blocks()], evaluated, rows)


def _detector(condition: str, data: DataConfig) -> ConditionFn | None:
    """What computes the conditions from the images, with the options that were set; None for the diorama's own."""
    if data.source is None and not data.detect_options and data.detect_weights is None:
        return None
    return draw_named(condition, data.detect_options, data.detect_weights, data.detect_device)


def _custom_pairs(condition: str, data: DataConfig, size: int, world: World) -> tuple[SourcePairs, Sequence[BadRow]]:
    """The pairs, and what could not be parsed of them. One process of a machine reads sizes, and others find them."""
    assert data.source is not None, "without a source, training uses scenes"
    columns = Columns(data.image_column, data.condition_column, data.text_column, not data.detect, outside=data.outside)
    source = open_source(data.source, columns)
    framing = ResizeCrop(data.frame or (size, size), data.buckets, data.crop, data.flip, data.kind(condition))
    detect = _detector(condition, data) if data.detect else None
    kept = SizeStore.at(data.cache_folder) if data.buckets and data.cache else None
    if kept is not None and not world.is_local_main:
        world.barrier()
    pairs = SourcePairs.open(condition, source, framing, detect, data.palette, kept)
    if kept is not None and world.is_local_main:
        world.barrier()
    return pairs, source.faults


def _held_out(source: str, count: int, seed: int, pairs: Pairs, groups: list[Blocks]) -> list[int]:
    """`count` random readable rows of the most frequent shape."""
    largest = max(groups, key=len).rows
    of_shape = " of the most frequent shape" if len(groups) > 1 else ""
    found: list[int] = []
    if len(largest) > count:
        found = _readable(pairs, map(int, np.random.default_rng(seed).permutation(largest)), count)
    if len(found) < count:
        raise MaquetteError(
            f"{source!r} has {len(largest)} rows{of_shape}, too few to hold out {count} readable ones for evaluation "
            "(held_out) and train on others; add rows, or set a smaller held_out."
        )
    return found


def _readable(pairs: Pairs, rows: Iterable[int], count: int) -> list[int]:
    """The first `count` readable rows, for poses of those with people. Warns of maps that show none."""
    found: list[int] = []
    black = 0
    for row in rows:
        try:
            condition = pairs.pair(row, pairs.view(np.random.default_rng(0)), None).condition
        except MaquetteError:
            continue
        if shows_people(pairs.condition) and condition is not None and condition.getbbox() is None:
            black += 1
            continue
        found.append(row)
        if len(found) == count:
            break
    if black:
        warnings.warn(
            f"{black} of the {len(found) + black} pairs read for evaluation have a black {pairs.condition} map, of "
            "nobody; others are held out instead. Leave such pairs out of the data (data annotate --found 0.3 does).",
            MaquetteWarning,
            stacklevel=4,
        )
    return found


def _without(groups: list[Blocks], rows: list[int]) -> list[Blocks]:
    remaining = (group.select(~np.isin(group.rows, rows)) for group in groups)
    return [group for group in remaining if len(group)]
