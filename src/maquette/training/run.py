"""A run's folder, and what happens in it between the steps: measurements, troubles, the end."""

import json
import math
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from maquette.controlnet.network import ControlNet
from maquette.data.sources.jsonl import BadRow
from maquette.errors import MaquetteError
from maquette.training import checkpoint
from maquette.training.config import CONFIG, TrainingConfig
from maquette.training.data.dataset import Batch
from maquette.training.distributed import fsdp
from maquette.training.distributed.world import World
from maquette.training.monitor.convergence import Monitor
from maquette.training.monitor.metrics_log import Log
from maquette.training.monitor.plots import draw_curve
from maquette.training.monitor.report import write_report
from maquette.training.monitor.tracking import Tracker
from maquette.training.setup import Material
from maquette.training.state import State
from maquette.training.step import precision

BROKEN, BEST = "broken.jsonl", "best.pt"
LOG_EVERY = 25  # steps between two lines of loss


@dataclass
class Run:
    config: TrainingConfig
    material: Material
    monitor: Monitor | None
    world: World
    log: Log
    tracker: Tracker
    faults: dict[str, BadRow] = field(default_factory=dict)  # by their place
    bar: "tqdm[int] | None" = None
    shown: dict[str, str] = field(default_factory=dict)  # on the bar
    convergence_detected_at: int | None = None  # the step after which the condition was seen to have taken hold
    finished: int = 0  # steps

    @staticmethod
    def begin(config: TrainingConfig, material: Material, monitor: Monitor | None, world: World, start: int) -> "Run":
        """Open the folder of a run that is new or resumed at a step."""
        log = Log(config.output, config.condition)
        if world.is_main:
            config.save(config.output / CONFIG)
            log.rewind(start)
        world.barrier()
        settings = {one.path: value for one, value in config.items()}
        tracker = Tracker.open(config.monitor.track, config.output, settings, world)
        run = Run(config, material, monitor, world, log, tracker)
        run.convergence_detected_at, run.finished = log.convergence_detected_at(), start
        run.note_faults(list(material.faults))
        return run

    def is_due(self, step: int) -> bool:
        """Whether this step is measured."""
        every = self.config.monitor.evaluate_every
        return self.monitor is not None and (step % every == 0 or step == self.config.max_steps)

    def is_measured(self, step: int) -> bool:
        return step in self.log.column("gain")[0]

    def steps(self, start: int) -> Iterator[int]:
        """Those that are left, with a bar."""
        if self.is_over(start):
            return
        last, hidden = self.config.max_steps, not self.world.is_main
        self.bar = tqdm(range(start, last), "training", last, initial=start, unit=" steps", disable=hidden)
        yield from self.bar

    def tell(self, words: str) -> None:
        """A line above the bar."""
        if self.world.is_main:
            tqdm.write(words)

    def write(self, step: int, loss: float) -> None:
        """A line of loss."""
        rate = self.bar.format_dict["rate"] if self.bar is not None else None
        self.shown |= {"loss": f"{loss:.3f}"}
        if rate:
            self.shown["images/s"] = f"{rate * self.config.data.batch_size:.1f}"
        if self.bar is not None:
            self.bar.set_postfix(self.shown, refresh=False)
        self._record(step, loss=round(loss, 5))

    def measure_start(self, state: State) -> None:
        """Before the first step: what was not measured when the run was stopped, or never."""
        if self.is_due(self.finished) and not self.is_measured(self.finished):
            self.measure(self.finished, state)

    def after_step(self, finished: int, loss: Tensor, state: State, asked: Callable[[], int]) -> bool:
        """Log, measure and save what is due after so many steps; whether the run is over before its last step.

        Args:
            loss: of this process, ().
            asked: for the signal that came to any process, or 0: then the state is saved and the run left.
        """
        self.finished, last = finished, finished == self.config.max_steps
        if finished % LOG_EVERY == 0 or last:
            self.write(finished, self.world.all_reduce_mean(loss).item())
        stopped = asked()
        if self.is_due(finished) and not stopped:  # else it is measured when the run goes on
            self.measure(finished, state)
        over = self.is_over(finished)
        if finished % self.config.checkpoint_every == 0 or last or over or stopped:
            state.save(finished)
        if stopped:
            self.leave(finished, stopped)
        return over

    def measure(self, step: int, state: State) -> None:
        """Fidelity and gain after so many steps: written down, drawn, and acted upon.

        All processes measure the same, since none may have all of the weights; the first one writes.
        """
        assert self.monitor is not None, "a run without measurements measures nothing"
        net = state.eval_net()
        with precision(self.config.hardware.precision, state.base):
            (score, drawn), gains = self.monitor.measure(net), self.monitor.gain(net)
        gain = sum(one.gain for one in gains.values()) / len(gains)
        share = gain / (sum(one.without for one in gains.values()) / len(gains))
        levels = {f"gain at t={level}": round(one.gain, 5) for level, one in gains.items()}
        score, gain, share = self.world.broadcast((score, gain, share))
        values = {"fidelity": round(score, 4), "gain": round(gain, 5), "gain share": round(share, 5), **levels}
        if self.config.monitor.keep_best and self._is_best(share if math.isnan(score) else score):
            weights = fsdp.whole(net.state_dict())
            if self.world.is_main:
                checkpoint.write(self.config.output / BEST, {"step": step, "net": weights})
        self._record(step, **values)
        self.convergence_detected_at = self.world.broadcast(
            self.log.convergence_detected_at() if self.world.is_main else None
        )
        if self.world.is_main:
            grids = self.config.output / "grids"
            grids.mkdir(parents=True, exist_ok=True)
            drawn.save(grids / f"step-{step:06d}.png")
            self._show(step, score, gain)

    def _show(self, step: int, score: float, gain: float) -> None:
        draw_curve(self.log, f"{self.config.base}/{self.config.condition}")
        write_report(self.config, self.log, self._known_faults())
        hold = self.log.converged()
        words = f"gain {gain:.4f}" if math.isnan(score) else f"{self.log.score} {score:.3f}, gain {gain:.4f}"
        self.shown |= {"gain": f"{gain:.4f}"} | ({} if math.isnan(score) else {"fidelity": f"{score:.3f}"})
        self.tell(f"step {step}: {words}" + (f", took hold at step {hold}" if hold is not None else ""))

    def _is_best(self, score: float) -> bool:
        """Whether no measurement so far was better, as they are written: rounded."""
        best = self.world.broadcast(self.log.best() if self.world.is_main else None)
        return best is None or score > best[1]

    def is_over(self, finished: int) -> bool:
        """Whether the run stops before its last step, since the condition has taken hold."""
        after = self.config.monitor.stop_after
        return (
            after is not None
            and self.convergence_detected_at is not None
            and finished >= self.convergence_detected_at + after
        )

    def note_faults(self, found: list[BadRow]) -> None:
        """Name and count rows that could not be read; too many stop the run."""
        if not any(fault.where not in self.faults for fault in found):
            return
        self.faults = {fault.where: fault for fault in self._known_faults()}
        for fault in {fault.where: fault for fault in found if fault.where not in self.faults}.values():
            self.faults[fault.where] = fault
            tqdm.write(f"Passed over: {fault.where}: {fault.reason}")
            with (self.config.output / BROKEN).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(vars(fault), ensure_ascii=False) + "\n")
        rows = len(self.material.pairs) + len(self.material.faults)
        if len(self.faults) > self.config.data.broken * rows:
            raise MaquetteError(
                f"{len(self.faults)} of {rows} rows could not be read, more than the share of "
                f"{self.config.data.broken:g} that may be broken; {str(self.config.output / BROKEN)!r} names them. "
                "Mend them, or give a larger share (broken)."
            )

    def _known_faults(self) -> list[BadRow]:
        """Those that any process has found, before it was resumed too."""
        path = self.config.output / BROKEN
        lines = path.read_text("utf-8").split("\n")[:-1] if path.exists() else []
        return [BadRow(**json.loads(line)) for line in lines]

    def check_finite(self, batch: Batch, done: int, loss: Tensor) -> None:
        """A loss that is not finite stops the run before it spoils the weights."""
        if torch.isfinite(loss):
            return
        saved = checkpoint.states(self.config.output)
        back = f"the last good state is {saved[-1].name}" if saved else "no state was saved yet"
        rows = "; ".join(self.material.pairs.where(int(row)) for row in batch.rows)
        raise MaquetteError(
            f"The loss of step {done + 1} is {loss.item()}: {back}. The rows of the batch: {rows}. Look at them "
            "(maquette data check), or give a smaller learning rate or another precision."
        )

    def leave(self, finished: int, number: int) -> None:
        """Go as the signal asks, after the state was saved."""
        self.tell(f"Stopped after step {finished}, and saved; go on with --resume.")
        self.tracker.close()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    def _record(self, step: int, **values: float) -> None:
        if self.world.is_main:
            self.log.write(step, **values)
            self.tracker.log(step, values)


def put_best(net: ControlNet, folder: Path) -> int:
    """Give a ControlNet the weights that measured best; after how many steps it had them."""
    best = checkpoint.read(folder / BEST)
    net.load_state_dict(best["net"])
    step: int = best["step"]
    return step
