"""Shards made on many machines, by Ray Data: one a task, by the same code, the same bytes.

All of them see source and target under the same paths; what is made of a shard is told by its note there.
"""

import logging
import pickle
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from maquette.annotation.annotate import Job, Shard, ShardWriter, Tick
from maquette.annotation.workers import settle
from maquette.data.sources.jsonl import Source
from maquette.data.sources.open import open_source
from maquette.errors import MaquetteError

KNOCK = 10  # seconds until a cluster's address must answer


@dataclass(frozen=True)
class OnCluster:
    """A way to run `annotate`.

    Args:
        address: of a Ray cluster, as `ray.init` takes it; "local" starts one of so many processes as the job has
            workers.
    """

    address: str

    def __call__(self, job: Job, source: Source, shards: Sequence[Shard], tick: Tick) -> None:
        """Raises `MaquetteError` where Ray is not installed, or not to be reached."""
        ray = _ray()
        started = not ray.is_initialized()
        if started:
            self._start(ray, job.workers)
        try:
            rows = [{"number": shard.number, "rows": list(shard.rows)} for shard in shards]
            given = ray.data.from_items(rows, override_num_blocks=len(shards))
            made = given.map(_Make(pickle.dumps(job)), num_cpus=1, num_gpus=_gpus(ray, job))
            for one in made.iter_rows():
                if one["problem"]:
                    raise MaquetteError(one["problem"])
                tick(one["count"])
        finally:
            if started:
                ray.shutdown()

    def _start(self, ray: Any, workers: int) -> None:
        own: dict[str, Any] = {"num_cpus": workers} if self.address == "local" else {}
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False  # there is one already
        try:
            _knock(self.address)
            ray.init(self.address, logging_level="warning", log_to_driver=False, **own)
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise MaquetteError(
                f"There is no Ray cluster at {self.address!r} ({reason}); give its address, or local."
            ) from error


def _knock(address: str) -> None:
    """That something listens at host:port, without which Ray tries for a quarter of an hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=KNOCK).close()


@dataclass(frozen=True)
class _Make:
    """A row that says what a shard is made of in; how many rows it was out, or the sentence on why it is not."""

    job: bytes  # pickled

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            shard = Shard(row["number"], [int(one) for one in row["rows"]])
            return {"count": _maker(self.job).make(shard), "problem": ""}
        except MaquetteError as error:
            return {"count": 0, "problem": str(error)}


@lru_cache(1)
def _maker(job: bytes) -> ShardWriter:
    """Once in each of Ray's processes: the source and the detectors opened."""
    settle()  # a task has one core
    opened: Job = pickle.loads(job)
    return ShardWriter.open(opened, open_source(opened.asked.source, opened.asked.read))


def _gpus(ray: Any, job: Job) -> int:
    """Of a task: a network has one to itself where the cluster has any."""
    return int(job.asked.has_networks and job.device != "cpu" and "GPU" in ray.cluster_resources())


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MaquetteError("Many machines are reached by Ray: pip install 'maquette[scale]'.") from error
    return ray
