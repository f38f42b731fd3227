"""Shards written on many machines with Ray Data, one per task: the same code, and the same bytes.

All machines must see source and target under the same paths. A shard's results are saved in the target.
"""

import logging
import pickle
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from maquette.annotation.annotate import Job, ShardWriter, Tick
from maquette.annotation.finished import Shard
from maquette.annotation.workers import limit_threads
from maquette.data.sources.jsonl import Source
from maquette.data.sources.open import open_source
from maquette.errors import MaquetteError

TIMEOUT = 10  # seconds for a connection to the cluster


@dataclass(frozen=True)
class OnCluster:
    """A runner for `annotate`.

    Args:
        address: of a Ray cluster, as `ray.init` takes it; "local" starts one with as many processes as the job has
            workers.
    """

    address: str

    def __call__(self, job: Job, source: Source, shards: Sequence[Shard], tick: Tick) -> None:
        """Raises `MaquetteError` if Ray is not installed or cannot be reached, or if a task fails with one."""
        ray = _ray()
        started = not ray.is_initialized()
        if started:
            self._start(ray, job.workers)
        try:
            rows = [{"number": shard.number, "rows": list(shard.rows)} for shard in shards]
            tasks = ray.data.from_items(rows, override_num_blocks=len(shards))
            results = tasks.map(_WriteShard(pickle.dumps(job)), num_cpus=1, num_gpus=_gpus(ray, job))
            for result in results.iter_rows():
                if result["problem"]:
                    raise MaquetteError(result["problem"])
                tick(result["count"])
        finally:
            if started:
                ray.shutdown()

    def _start(self, ray: Any, workers: int) -> None:
        resources: dict[str, Any] = {"num_cpus": workers} if self.address == "local" else {}
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False  # there is one already
        try:
            _check_reachable(self.address)
            ray.init(self.address, logging_level="warning", log_to_driver=False, **resources)
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise MaquetteError(
                f"There is no Ray cluster at {self.address!r} ({reason}); give its address, or local."
            ) from error


def _check_reachable(address: str) -> None:
    """Connect to host:port, because Ray itself retries for a quarter of an hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=TIMEOUT).close()


@dataclass(frozen=True)
class _WriteShard:
    """A task: takes a shard as a dictionary, and returns its number of rows, or an error message."""

    job: bytes  # pickled

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        try:
            shard = Shard(task["number"], [int(row) for row in task["rows"]])
            return {"count": _writer(self.job).write(shard), "problem": ""}
        except MaquetteError as error:
            return {"count": 0, "problem": str(error)}


@lru_cache(1)
def _writer(job: bytes) -> ShardWriter:
    """Open the source and the detectors, once in each of Ray's processes."""
    limit_threads()  # a task has one core
    opened: Job = pickle.loads(job)
    return ShardWriter.open(opened, open_source(opened.annotation.source, opened.annotation.read_columns))


def _gpus(ray: Any, job: Job) -> int:
    """GPUs per task: one for a network, if the cluster has any."""
    return int(job.annotation.has_networks and job.device != "cpu" and "GPU" in ray.cluster_resources())


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MaquetteError("Annotation on a cluster needs Ray: pip install 'maquette[scale]'.") from error
    return ray
