"""A data set annotated: a condition drawn of each image, a text written, all in shards that `open_source` reads.

Shard k is made of the rows [k n, (k + 1) n) of those chosen, in their order, and of nothing else: not of what was made
before it, by which process or in which batch. A run that was killed goes on with the shards that are not there.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path

from tqdm import tqdm

from maquette.annotation.annotation import Annotation
from maquette.annotation.decode import Decoded, decode
from maquette.annotation.output import Done, Target
from maquette.annotation.pipeline import AnnotationPipeline
from maquette.annotation.select import largest
from maquette.annotation.shard_writer import write_parquet, write_tar
from maquette.annotation.workers import own, processes
from maquette.data.prefetch import in_order
from maquette.data.sources.jsonl import BadRow, Source
from maquette.data.sources.open import open_source
from maquette.errors import MaquetteError
from maquette.foundation.files import atomic_write

MOST_NAMED = 20  # rows that cannot be used, on the screen
AHEAD = 4  # batches that are decoded, or wait to be, while a network sees one


@dataclass(frozen=True)
class Shard:
    number: int
    rows: Sequence[int]  # of the source


@dataclass(frozen=True)
class Job:
    """An annotation, where it goes, and with what it is made."""

    asked: Annotation
    target: Target
    device: str = "auto"
    workers: int = 1
    batch_size: int = 16

    def __post_init__(self) -> None:
        if min(self.workers, self.batch_size) < 1:
            raise MaquetteError(
                f"workers and batch_size are 1 or more, not {self.workers} and {self.batch_size}; the first counts "
                "processes, the second images that a network sees at once."
            )


@dataclass(frozen=True)
class ShardWriter:
    """A job with its source and its detectors opened: makes one shard after the other."""

    job: Job
    source: Source
    drawing: AnnotationPipeline

    @staticmethod
    def open(job: Job, source: Source) -> "ShardWriter":
        return ShardWriter(job, source, AnnotationPipeline.open(job.asked, job.device))

    def make(self, shard: Shard, decoded: Iterable[Decoded | BadRow] | None = None) -> int:
        """Write a shard, then its note. How many rows it was made of.

        Args:
            decoded: its rows, where they are decoded elsewhere.
        """
        done, target = Done(), self.job.target
        rows = map(partial(decode, self.source), shard.rows) if decoded is None else decoded
        pairs = self.drawing.pairs(rows, self.job.batch_size, done)
        first = next(pairs, None)
        path = target.shard(shard.number)
        if first is None:  # a shard of no pair would be one that cannot be read
            path.unlink(missing_ok=True)
        else:
            with atomic_write(path) as temporary:
                (write_parquet if target.is_table else write_tar)(temporary, chain([first], pairs))
        target.note(shard.number, done)
        return len(shard.rows)


Tick = Callable[[int], object]
"""Told now and then how many rows more are done."""

Run = Callable[[Job, Source, Sequence[Shard], Tick], None]
"""Makes shards, in any order."""


@dataclass(frozen=True)
class Summary:
    pairs: int
    shards: int
    left_out: int  # rows that were too small, or in which too little was found
    faults: Sequence[BadRow]  # rows that could not be used
    listed: Path | None  # where those are

    def __str__(self) -> str:
        lines = [f"{fault.where}: {fault.reason}" for fault in self.faults[:MOST_NAMED]]
        if (more := len(self.faults) - MOST_NAMED) > 0:
            lines.append(f"and {more} more such rows.")
        if self.faults:
            lines.append(f"{len(self.faults)} rows cannot be used; {self.listed} has them all.")
        if self.left_out:
            lines.append(f"{self.left_out} rows are left out: too small, or too little was found in them.")
        return "\n".join([*lines, f"{self.pairs} pairs are in {self.shards} shards."])


def annotate(job: Job, run: Run | None = None) -> Summary:
    """Make all shards that are not there yet.

    Args:
        run: how they are made; without, by processes on this machine.

    Raises `MaquetteError` when the target was begun otherwise or is being written, and for what cannot be opened.
    """
    asked, target = job.asked, job.target
    source = open_source(asked.source, asked.read)
    with target.held():
        target.begin({**asked.settings(), "rows": len(source)})
        rows, faults = _chosen(asked, target, source)
        size = asked.shard_size
        shards = [Shard(start // size, rows[start : start + size]) for start in range(0, len(rows), size)]
        waiting = [shard for shard in shards if target.done(shard.number) is None]
        there = len(rows) - sum(len(shard.rows) for shard in waiting)
        if waiting:
            with tqdm(desc=asked.condition, total=len(rows), initial=there, unit=" images") as bar:
                (run or on_this_machine)(job, source, waiting, bar.update)
        return _summary(target, shards, [*source.faults, *faults])


def _chosen(asked: Annotation, target: Target, source: Source) -> tuple[Sequence[int], Sequence[BadRow]]:
    """The rows to annotate; sizes are read once, however often a run is begun."""
    if asked.largest is None:
        return range(len(source)), []
    kept = target.rows()
    if kept is None:
        kept = largest(source, asked.largest, asked.smallest)
        target.keep_rows(*kept)
    return kept


def on_this_machine(job: Job, source: Source, shards: Sequence[Shard], tick: Tick) -> None:
    """Without a network a shard is made from end to end in one of several processes; else those decode for this one."""
    maker = ShardWriter.open(job, source)
    try:
        if job.asked.has_networks:
            _decoded_by_others(maker, shards, tick)
        else:
            with processes(min(job.workers, len(shards)), partial(ShardWriter.open, job, source)) as pool:
                for made in as_completed([pool.submit(_make, shard) for shard in shards]):
                    tick(made.result())
    except BrokenProcessPool as error:
        raise MaquetteError(
            "A worker ended without a word, as the system does when memory runs out. Whole shards stay; run again, "
            "with fewer --workers."
        ) from error


def _decoded_by_others(maker: ShardWriter, shards: Sequence[Shard], tick: Tick) -> None:
    job = maker.job
    with processes(job.workers, partial(_identity, maker.source)) as pool:
        rows = chain.from_iterable(shard.rows for shard in shards)
        decoded = in_order(pool, _decode, rows, AHEAD * job.batch_size)
        for shard in shards:
            maker.make(shard, _told(islice(decoded, len(shard.rows)), tick))


def _told(rows: Iterable[Decoded | BadRow], tick: Tick) -> Iterator[Decoded | BadRow]:
    for one in rows:
        yield one
        tick(1)


def _make(shard: Shard) -> int:
    maker: ShardWriter = own()
    return maker.make(shard)


def _decode(row: int) -> Decoded | BadRow:
    return decode(own(), row)


def _identity(source: Source) -> Source:
    return source


def _summary(target: Target, shards: Sequence[Shard], faults: Sequence[BadRow]) -> Summary:
    done = [one for shard in shards if (one := target.done(shard.number))]
    everywhere = [*faults, *(fault for one in done for fault in one.faults)]
    named = sorted(everywhere, key=lambda fault: -1 if fault.row is None else fault.row)
    return Summary(
        pairs=sum(one.pairs for one in done),
        shards=sum(one.pairs > 0 for one in done),
        left_out=sum(one.left_out for one in done),
        faults=named,
        listed=target.write_faults(named),
    )
