"""What approximate speed costs: every part of it alone, and the named speeds, against exact on test scenes.

    OMP_NUM_THREADS=1 python -m maquette.recipes.speed time --run runs/speed
    python -m maquette.recipes.speed measure --run runs/speed --levers "exact;balanced;draft"
    python -m maquette.recipes.speed measure --run runs/speed --scenes 20 --conditions canny
    python -m maquette.recipes.speed report --run runs/speed --output docs/speed

Each image is compared with the exact one of the same scene, caption and noise, so differences are paired; a lever that
was measured on fewer scenes or conditions is compared on these. On two CPU cores that do nothing else, `time` takes two
minutes, exact images of 60 scenes one, and three speeds on 500 scenes with all six nets an hour. What was measured is
kept and not measured again.
"""

import json
import time
from pathlib import Path

import torch
import typer

from maquette.checkpoints import load_base, load_controlnet
from maquette.conditions.networks.perception import PerceptionModel
from maquette.evaluation.controlnet import unseen_scenes
from maquette.foundation.files import atomic_write
from maquette.foundation.reading.documents import read_json
from maquette.recipes.speed.compare import compared
from maquette.recipes.speed.measure import CONDITIONS, LEVERS, conditions_of, generated, path_of, scored
from maquette.recipes.speed.report import by_condition, grid, plot, table

app = typer.Typer(add_completion=False, help=(__doc__ or "").replace("\n\n    ", "\n\n\b\n    "))


@app.command()
def measure(
    run: Path = Path("runs/speed"),
    scenes: int = 60,
    levers: str = ";".join(LEVERS),
    conditions: str = ";".join(CONDITIONS),
) -> None:
    """Generate and score images; levers and conditions are separated by semicolons."""
    base, perception = load_base("diorama", "cpu", "float32"), PerceptionModel()
    for condition in conditions.split(";"):
        examples, net = unseen_scenes(condition, scenes, perception), load_controlnet(f"diorama/{condition}", base)
        for lever in levers.split(";"):
            path = path_of(run, condition, lever)
            if not path.exists():
                print(f"{condition}, {lever}", flush=True)
                images = generated(base, examples, net, lever, scenes)
                with atomic_write(path) as temporary:
                    torch.save(scored(images, examples, perception), temporary)


@app.command("time")
def time_levers(run: Path = Path("runs/speed"), images: int = 8, rounds: int = 2) -> None:
    """Seconds of the processor for an image, of every lever with one ControlNet: the least of some rounds through all.

    On one thread (OMP_NUM_THREADS=1) they are those that pass on a machine which does nothing else.
    """
    base, seconds = load_base("diorama", "cpu", "float32"), dict.fromkeys(LEVERS, float("inf"))
    examples, net = unseen_scenes("canny", images), load_controlnet("diorama/canny", base)
    generated(base, examples, net, "draft", images)  # warms up
    for lever in list(LEVERS) * rounds:
        started = time.process_time()
        generated(base, examples, net, lever, images)
        seconds[lever] = min(seconds[lever], (time.process_time() - started) / images)
        print(f"{lever}: {seconds[lever]:.3f} s", flush=True)
    with atomic_write(run / "seconds.json") as path:
        path.write_text(json.dumps(seconds, indent=2) + "\n")


@app.command()
def report(run: Path = Path("runs/speed"), output: Path = Path("docs/speed")) -> None:
    """Write numbers.json, a plot and a grid of images to a folder, and print the table."""
    seconds = read_json(run / "seconds.json")
    speeds = {lever: {"seconds": one, "times as fast": seconds["exact"] / one} for lever, one in seconds.items()}
    numbers = {lever: speeds[lever] | compared(run, lever) for lever in LEVERS if conditions_of(run, lever)}
    with atomic_write(output / "numbers.json") as path:
        path.write_text(json.dumps(numbers, indent=2) + "\n")
    plot(numbers, output / "price.png")
    grid(run, output / "samples.png")
    print(table(numbers), by_condition(numbers), sep="\n\n")


if __name__ == "__main__":
    app()
