"""The bookkeeping of a run between steps: logging, evaluation, checkpoints, stopping."""

import contextlib
import math
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from maquette.controlnet.network import ControlNet
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.files import atomic_write, exclusive
from maquette.training import checkpoint
from maquette.training.config import CONFIG, TrainingConfig
from maquette.training.data.dataset import Batch
from maquette.training.data.split import TrainingData
from maquette.training.distributed import fsdp
from maquette.training.distributed.world import World
from maquette.training.monitor.broken_rows import BrokenRows
from maquette.training.monitor.convergence import Monitor
from maquette.training.monitor.metrics_log import SAVED, Line, Log
from maquette.training.monitor.report import plot_curve, write_report
from maquette.training.monitor.tracking import Tracker
from maquette.training.state import State
from maquette.training.step import precision

BEST = "best.pt"
LOG_EVERY = 25  # steps between log lines of the loss


@dataclass
class Run:
    """A run in its folder."""

    config: TrainingConfig
    data: TrainingData
    monitor: Monitor | None
    world: World
    log: Log
    tracker: Tracker
    broken: BrokenRows
    bar: "tqdm[int] | None" = None
    postfix: dict[str, str] = field(default_factory=dict)  # metrics on the bar
    settled_at: int | None = None  # the step at which the date of convergence had settled
    finished: int = 0  # steps done

    @staticmethod
    def begin(
        config: TrainingConfig,
        data: TrainingData,
        monitor: Monitor | None,
        world: World,
        start: int,
        saved: Sequence[Line] | None = None,
    ) -> "Run":
        """Open the folder of a run that is new, or resumed after `start` steps.

        Args:
            saved: the lines of the metrics that its state holds.

        Raises `MaquetteError` if too many rows are broken.
        """
        scorer = monitor.scorer if monitor is not None else None
        log = Log(config.output, config.condition, scorer.label if scorer is not None else None)
        if world.is_main:
            config.save(config.output / CONFIG)
            log.rewind(start, saved)
        world.barrier()
        settings = {declared.path: value for declared, value in config.items()}
        tracker = Tracker.open(config.monitor.track, config.output, settings, world)
        broken = BrokenRows(config.output, len(data.pairs) + len(data.faults), config.data.broken)
        run = Run(config, data, monitor, world, log, tracker, broken)
        run.settled_at, run.finished = run.find_settled(), start
        broken.note(list(data.faults))
        if config.resume and not start:
            run.print("The run had saved no state yet: it begins at step 0.")
        return run

    def is_due(self, step: int) -> bool:
        """Whether an evaluation is due after `step` steps."""
        every = self.config.monitor.evaluate_every
        return self.monitor is not None and (step % every == 0 or step == self.config.max_steps)

    def is_kept(self, step: int) -> bool:
        """Whether the ControlNet after `step` steps is kept beside the last one."""
        every = self.config.monitor.keep_every
        return every > 0 and step % every == 0

    def is_measured(self, step: int) -> bool:
        """Whether the evaluation after `step` steps is already logged."""
        return step in self.log.column("gain")[0]

    def steps(self, start: int) -> Iterator[int]:
        """The remaining steps, with a progress bar."""
        if self.is_over(start):
            return
        last, hidden = self.config.max_steps, not self.world.is_main
        self.bar = tqdm(range(start, last), "training", last, initial=start, unit=" steps", disable=hidden)
        yield from self.bar

    def print(self, message: str) -> None:
        """Print a line above the progress bar, in the main process; not where its terminal was closed."""
        if self.world.is_main:
            with contextlib.suppress(OSError):
                tqdm.write(message)

    def write(self, step: int, loss: float) -> None:
        """Log the loss and the throughput."""
        rate = self.bar.format_dict["rate"] if self.bar is not None else None
        self.postfix |= {"loss": f"{loss:.3f}"}
        if rate:
            self.postfix["images/s"] = f"{rate * self.config.data.batch_size:.1f}"
        if self.bar is not None:
            self.bar.set_postfix(self.postfix, refresh=False)
        self._record(step, loss=round(loss, 5))

    def measure_start(self, state: State) -> None:
        """Evaluate before the first step, unless the log has that evaluation already."""
        if self.monitor is not None and self.monitor.unscored:
            self.print(f"Fidelity is not measured. {self.monitor.unscored}")
        if self.is_due(self.finished) and not self.is_measured(self.finished):
            self.measure(self.finished, state)

    def after_step(self, finished: int, loss: Tensor, state: State, received: Callable[[], int]) -> bool:
        """Log, evaluate and save what is due after `finished` steps; returns whether to stop early.

        Args:
            loss: this process's loss, a scalar.
            received: returns the signal that any process received, or 0; on a signal, the state is saved and the run
                left.
        """
        self.finished, last = finished, finished == self.config.max_steps
        if finished % LOG_EVERY == 0 or last:
            self.write(finished, self.world.all_reduce_mean(loss).item())
        stopped = received()
        if self.is_due(finished) and not stopped:  # otherwise evaluated when the run resumes
            self.measure(finished, state)
        over = self.is_over(finished)
        if finished % self.config.checkpoint_every == 0 or last or over or stopped:
            state.save(finished, self.log.lines())
            if self.world.is_main:
                self.log.write(finished, (), **{SAVED: 1})
        if stopped:
            self.leave(finished, stopped)
        if over and not last:
            self.print(
                f"Stopped after step {finished}: convergence had settled at step {self.settled_at} (stop_after)."
            )
        return over

    def measure(self, step: int, state: State) -> None:
        """Measure fidelity and gain after `step` steps; log and plot them, and date convergence.

        All processes take part, since with sharding none has all weights; the main process writes.
        """
        assert self.monitor is not None, "a run without measurements measures nothing"
        net = state.eval_net()
        with precision(self.config.hardware.precision, state.base):
            (each, grid), gains = self.monitor.measure(net), self.monitor.gain(net)
        scored = [score for score in each if not math.isnan(score)]
        score = math.fsum(scored) / len(scored) if scored else math.nan
        gain = sum(at_level.gain for at_level in gains.values()) / len(gains)
        share = gain / (sum(at_level.without for at_level in gains.values()) / len(gains))
        levels = {f"gain at t={level}": round(at_level.gain, 5) for level, at_level in gains.items()}
        score, gain, share = self.world.broadcast((score, gain, share))
        values = {"fidelity": round(score, 4), "gain": round(gain, 5), "gain share": round(share, 5), **levels}
        if self.config.monitor.keep_best and self._is_best(share if math.isnan(score) else score):
            weights = fsdp.whole(net.state_dict())
            if self.world.is_main:
                checkpoint.write(self.config.output / BEST, {"step": step, "net": weights})
        self._record(step, each, **values)
        self.settled_at = self.world.broadcast(self.find_settled() if self.world.is_main else None)
        if self.world.is_main:
            grids = self.config.output / "grids"
            with atomic_write(grids / f"step-{step:06d}.png") as path:
                grid.save(path, "PNG")
            self._show(step, score, gain)

    def _show(self, step: int, score: float, gain: float) -> None:
        plot_curve(self.log, f"{self.config.base}/{self.config.condition}")
        write_report(self.config, self.log, self.broken.listed())
        message = f"gain {gain:.4f}" if math.isnan(score) else f"{self.log.score} {score:.3f}, gain {gain:.4f}"
        self.postfix |= {"gain": f"{gain:.4f}"} | ({} if math.isnan(score) else {"fidelity": f"{score:.3f}"})
        self.print(f"step {step}: {message}" + (f", {self.log.verdict()}" if self.log.converged() is not None else ""))

    def _is_best(self, score: float) -> bool:
        """Whether `score` beats all logged (rounded) scores."""
        best = self.world.broadcast(self.log.best() if self.world.is_main else None)
        return best is None or score > best[1]

    def is_over(self, finished: int) -> bool:
        """Whether the run stops early because it has converged."""
        after = self.config.monitor.stop_after
        return after is not None and self.settled_at is not None and finished >= self.settled_at + after

    def find_settled(self) -> int | None:
        """The step at which the date of convergence had settled, from the log; None if it has not."""
        every = self.config.monitor.evaluate_every
        return self.log.settled_at(every) if every else None

    def check_finite(self, batch: Batch, step: int, loss: Tensor) -> None:
        """Stop the run before a loss (a scalar) that is not finite corrupts the weights.

        Raises `MaquetteError` if the loss is NaN or infinite, with the rows of the batch.
        """
        if torch.isfinite(loss):
            return
        saved = checkpoint.states(self.config.output)
        recovery = f"the last good state is {saved[-1].name}" if saved else "no state has been saved yet"
        rows = "; ".join(self.data.pairs.where(int(row)) for row in batch.rows)
        raise MaquetteError(
            f"The loss of step {step + 1} is {loss.item()}: {recovery}. The rows of the batch: {rows}. Check them "
            "(maquette data check), or use a smaller learning rate or another precision."
        )

    def leave(self, finished: int, number: int) -> None:
        """Exit as the signal demands, after the state was saved.

        Raises `KeyboardInterrupt` for Ctrl-C, `SystemExit` for other signals.
        """
        self.print(f"Stopped after step {finished} and saved; continue with --resume.")
        self.tracker.close()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    def _record(self, step: int, each: Sequence[float] = (), **values: float) -> None:
        if self.world.is_main:
            self.log.write(step, each, **values)
            self.tracker.log(step, values)


@contextlib.contextmanager
def held(folder: Path, world: World) -> Iterator[None]:
    """Hold the run's folder for this training alone.

    Raises `MaquetteError`, in all processes, if another training holds it or nothing can be written there.
    """
    with contextlib.ExitStack() as stack:
        problem = None
        if world.is_main:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(exclusive(folder))
            except MaquetteError as error:
                problem = str(error)
            except OSError as error:
                problem = f"Nothing can be written to {str(folder)!r} ({error.strerror or error}); name another output."
        if problem := world.broadcast(problem):
            raise MaquetteError(problem)
        yield


def load_best(net: ControlNet, folder: Path, last: int) -> int:
    """Load the best weights into a ControlNet; returns the step they are from.

    Warns if they are lost or damaged, and leaves those of the step `last`.
    """
    try:
        best = checkpoint.read(folder / BEST)
    except MaquetteError as error:
        warnings.warn(f"{error} The ControlNet has the weights of step {last}.", MaquetteWarning, stacklevel=2)
        return last
    net.load_state_dict(best["net"])
    step: int = best["step"]
    return step
