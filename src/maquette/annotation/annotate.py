"""Annotate a data set: a condition map and a text for each image, written as shards that `open_source` reads.

Shard k consists of the chosen rows [k n, (k + 1) n), in order. It depends on nothing else: not on earlier shards, the
process that writes it or the batch size. An interrupted run resumes with the missing shards.
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
from maquette.annotation.finished import Shard, finished, marks_of
from maquette.annotation.output import ShardStats, Target, checksum
from maquette.annotation.pipeline import AnnotationPipeline
from maquette.annotation.select import largest
from maquette.annotation.shard_writer import write_parquet, write_tar
from maquette.annotation.workers import processes, worker_state
from maquette.data.prefetch import in_order
from maquette.data.sources.jsonl import BadRow, Source
from maquette.data.sources.open import open_source
from maquette.errors import MaquetteError
from maquette.foundation.files import atomic_write

MOST_NAMED = 20  # bad rows printed
AHEAD = 4  # batches decoded ahead of the network


Reader = Callable[[int], Decoded | BadRow]
"""Reads a row of the source by its number."""


@dataclass(frozen=True)
class Job:
    """An annotation, its target, and the hardware to use.

    Raises `MaquetteError` for less than one worker or image per batch.
    """

    annotation: Annotation
    target: Target
    device: str = "auto"
    workers: int = 1
    batch_size: int = 16

    def __post_init__(self) -> None:
        if min(self.workers, self.batch_size) < 1:
            raise MaquetteError(
                f"workers and batch_size are 1 or more, not {self.workers} and {self.batch_size}; the first is the "
                "number of processes, the second the number of images in a network's batch."
            )


@dataclass(frozen=True)
class ShardWriter:
    """A job with its source and its detectors opened, which writes one shard at a time."""

    job: Job
    source: Source
    pipeline: AnnotationPipeline

    @staticmethod
    def open(job: Job, source: Source) -> "ShardWriter":
        return ShardWriter(job, source, AnnotationPipeline.open(job.annotation, job.device))

    def write(self, shard: Shard, decoded: Iterable[Decoded | BadRow] | None = None) -> int:
        """Write a shard, then its statistics, which mark it as done. Returns the number of rows processed.

        Args:
            decoded: the shard's rows, if they are decoded elsewhere.
        """
        stats, target = ShardStats(marks=marks_of(self.source, shard.rows)), self.job.target
        reader = partial(decode, self.source, framing=self.job.annotation.framing)
        rows = map(reader, shard.rows) if decoded is None else decoded
        pairs = self.pipeline.pairs(_noted(rows, stats), self.job.batch_size, stats)
        first = next(pairs, None)
        path = target.shard(shard.number)
        if first is None:  # an empty shard could not be read
            path.unlink(missing_ok=True)
        else:
            with atomic_write(path) as temporary:
                (write_parquet if target.is_table else write_tar)(temporary, chain([first], pairs))
                stats.checksum = checksum(temporary)
        target.save_stats(shard.number, stats)
        return len(shard.rows)


def _noted(rows: Iterable[Decoded | BadRow], stats: ShardStats) -> Iterator[Decoded | BadRow]:
    """The rows, whose digests are noted."""
    for row in rows:
        stats.digests.append(row.digest if isinstance(row, Decoded) else "")
        yield row


Tick = Callable[[int], object]
"""A progress callback: takes the number of rows done since the last call."""

Runner = Callable[[Job, Source, Sequence[Shard], Tick], None]
"""Writes shards, in any order."""


@dataclass(frozen=True)
class Summary:
    pairs: int
    shards: int
    left_out: int  # rows that were too small, or in which too little was detected
    faults: Sequence[BadRow]  # rows that could not be used
    listed: Path | None  # the file that lists those

    def __str__(self) -> str:
        lines = [f"{fault.where}: {fault.reason}" for fault in self.faults[:MOST_NAMED]]
        if (more := len(self.faults) - MOST_NAMED) > 0:
            lines.append(f"and {more} more such rows.")
        if self.faults:
            lines.append(f"{len(self.faults)} rows cannot be used; {self.listed} lists them all.")
        if self.left_out:
            lines.append(f"{self.left_out} rows are left out: too small, or too little was detected in them.")
        return "\n".join([*lines, f"{self.pairs} pairs are in {self.shards} shards."])


def annotate(job: Job, runner: Runner | None = None) -> Summary:
    """Write all missing shards.

    Args:
        runner: how the shards are written; by default in processes on this machine.

    Raises `MaquetteError` if the target was started with other settings or is in use, or if the source or a detector
    cannot be opened.
    """
    annotation, target = job.annotation, job.target
    source = open_source(annotation.source, annotation.read_columns)
    with target.lock():
        target.start({**annotation.settings(), "rows": len(source)})
        rows, faults = _chosen(annotation, target, source)
        size = annotation.shard_size
        shards = [Shard(start // size, rows[start : start + size]) for start in range(0, len(rows), size)]
        done = finished(target, source, shards)
        missing = [shard for shard in shards if shard.number not in done]
        initial = len(rows) - sum(len(shard.rows) for shard in missing)
        if missing:
            with tqdm(desc=annotation.condition, total=len(rows), initial=initial, unit=" images") as bar:
                (runner or run_locally)(job, source, missing, bar.update)
        return _summary(target, shards, [*source.faults, *faults])


def _chosen(annotation: Annotation, target: Target, source: Source) -> tuple[Sequence[int], Sequence[BadRow]]:
    """The rows to annotate. A resumed run does not read the sizes again."""
    if annotation.largest is None:
        return range(len(source)), []
    kept = target.rows()
    if kept is None:
        kept = largest(source, annotation.largest, annotation.smallest)
        target.keep_rows(*kept)
    return kept


def run_locally(job: Job, source: Source, shards: Sequence[Shard], tick: Tick) -> None:
    """Without a network, worker processes write whole shards; with one, they decode for this process.

    Raises `MaquetteError` if a worker is killed.
    """
    writer = ShardWriter.open(job, source)
    try:
        if job.annotation.has_networks:
            _decode_in_workers(writer, shards, tick)
        else:
            with processes(min(job.workers, len(shards)), partial(ShardWriter.open, job, source)) as pool:
                for count in as_completed([pool.submit(_write, shard) for shard in shards]):
                    tick(count.result())
    except BrokenProcessPool as error:
        raise MaquetteError(
            "A worker was killed, as the system does when memory runs out. Finished shards are kept; run again with "
            "fewer --workers."
        ) from error


def _decode_in_workers(writer: ShardWriter, shards: Sequence[Shard], tick: Tick) -> None:
    job = writer.job
    reader = partial(decode, writer.source, framing=job.annotation.framing)
    with processes(job.workers, partial(_identity, reader)) as pool:
        rows = chain.from_iterable(shard.rows for shard in shards)
        decoded = in_order(pool, _decode, rows, AHEAD * job.batch_size)
        for shard in shards:
            writer.write(shard, _with_progress(islice(decoded, len(shard.rows)), tick))


def _with_progress(rows: Iterable[Decoded | BadRow], tick: Tick) -> Iterator[Decoded | BadRow]:
    for row in rows:
        yield row
        tick(1)


def _write(shard: Shard) -> int:
    writer: ShardWriter = worker_state()
    return writer.write(shard)


def _decode(row: int) -> Decoded | BadRow:
    reader: Reader = worker_state()
    return reader(row)


def _identity(reader: Reader) -> Reader:
    return reader


def _summary(target: Target, shards: Sequence[Shard], faults: Sequence[BadRow]) -> Summary:
    done = [stats for shard in shards if (stats := target.stats(shard.number))]
    found = [*faults, *(fault for stats in done for fault in stats.faults)]
    ordered = sorted(found, key=lambda fault: -1 if fault.row is None else fault.row)
    return Summary(
        pairs=sum(stats.pairs for stats in done),
        shards=sum(stats.pairs > 0 for stats in done),
        left_out=sum(stats.left_out for stats in done),
        faults=ordered,
        listed=target.write_faults(ordered),
    )
