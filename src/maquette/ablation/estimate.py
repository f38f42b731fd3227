"""What a study will take, from a few steps measured before it."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maquette.ablation.bench import Bench
from maquette.ablation.cells import Cell
from maquette.controlnet.control import Control
from maquette.controlnet.network import ControlNet
from maquette.evaluation.controlnet import Examples
from maquette.sampling.generate import generate
from maquette.training.config import TrainingConfig
from maquette.training.loop import train
from maquette.training.monitor.metrics_log import Log

STEPS, IMAGES = 3, 4  # that are measured


@dataclass(frozen=True)
class Rates:
    """Seconds that things take on this machine."""

    step: float  # of a training
    encoded: float  # a training scene
    image: float  # with one control and all sampling steps

    def seconds(self, cells: Sequence[Cell]) -> float:
        """Of unfinished cells. Scenes are encoded once for all trainings of a study; rendering them comes on top."""
        encoded = max((cell.encoded for cell in cells), default=0)
        steps, images = sum(cell.steps for cell in cells), sum(cell.images for cell in cells)
        return self.step * steps + self.encoded * encoded + self.image * images


def measured(bench: Bench, cells: Sequence[Cell]) -> Rates:
    """The rates of this machine, from three steps and four images. Raises `MaquetteError` as `train` does."""
    condition = bench.request.conditions[0]
    examples = bench.examples(condition)
    trains = any(cell.steps for cell in cells)
    of_trainings = (_step(bench, condition), _encoded(bench, examples)) if trains else (0.0, 0.0)
    return Rates(*of_trainings, _image(bench, examples))


def _step(bench: Bench, condition: str) -> float:
    """Between the first and the fourth step of a training."""
    request = bench.request
    with tempfile.TemporaryDirectory() as name:
        for last in (1, 1 + STEPS):
            config = TrainingConfig(
                condition=condition,
                output=Path(name),
                base=request.base,
                device=request.device,
                max_steps=last,
                resume=last > 1,
                scenes=request.batch_size,
                batch_size=request.batch_size,
                evaluate_every=0,
                cache=False,
            )
            train(config, bench.base)
        _, seconds = zip(*((line["step"], line["seconds"]) for line in Log(Path(name), condition).lines()), strict=True)
    return float(max(seconds) - min(seconds)) / STEPS


def _encoded(bench: Bench, examples: Examples) -> float:
    images = examples.sources[:IMAGES]
    started = time.perf_counter()
    bench.base.encode_images(images)
    return (time.perf_counter() - started) / len(images)


def _image(bench: Bench, examples: Examples) -> float:
    net, protocol = ControlNet.attach(bench.base), bench.protocol
    controls = [Control(net, list(examples.maps[:IMAGES]))]
    started = time.perf_counter()
    generate(
        bench.base,
        examples.captions[:IMAGES],
        controls,
        steps=protocol.steps,
        guidance=protocol.guidance,
        batch_size=IMAGES,
        record=False,
    )
    return (time.perf_counter() - started) / IMAGES
