"""What approximate speed costs: every part of it alone, and the named speeds, against exact on test scenes.

    OMP_NUM_THREADS=1 python -m maquette.recipes.speed time --run runs/speed
    python -m maquette.recipes.speed measure --run runs/speed --levers "exact;balanced;draft"
    python -m maquette.recipes.speed measure --run runs/speed --scenes 20 --conditions canny
    python -m maquette.recipes.speed report --run runs/speed --output docs/speed

Each image is compared with the exact one of the same scene, caption and noise, so differences are paired; a lever that
was measured on fewer scenes or conditions is compared on these. On two CPU cores that do nothing else, `time` takes two
minutes, and exact images of 60 scenes one. What was measured is kept and not measured again.
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from maquette.base import Base
from maquette.checkpoints import load_base, load_controlnet
from maquette.conditions.networks.perception import PerceptionModel
from maquette.controlnet.control import Control
from maquette.controlnet.network import ControlNet
from maquette.diorama import dataset, scene
from maquette.evaluation.base import shows
from maquette.evaluation.controlnet import Examples, unseen_scenes
from maquette.evaluation.report import markdown_table
from maquette.foundation.files import atomic_write
from maquette.foundation.images import image_grid
from maquette.foundation.reading.documents import read_json
from maquette.metrics.frechet import frechet_distance
from maquette.metrics.intervals import Interval, bootstrap, middle
from maquette.sampling.generate import generate

CONDITIONS = ("canny", "depth", "pose", "segmentation", "scribble", "normal")
LEVERS: dict[str, dict[str, Any]] = {
    "exact": {},
    "balanced": {"speed": "balanced"},
    "draft": {"speed": "draft"},
    "draft, tiny decoder": {"speed": "draft", "decoder": "tiny"},
    "tiny decoder": {"decoder": "tiny"},
    "reuse 2": {"reuse": 2},
    "guidance 0-0.6": {"guidance_interval": (0.0, 0.6)},
    "10 steps, ddim": {"steps": 10},
    "10 steps, dpm++": {"steps": 10, "sampler": "dpm++"},
    "10 steps, unipc": {"steps": 10, "sampler": "unipc"},
}
BATCH, SHOWN, DRAWS = 20, 3, 200  # images at once; on the grid, of each condition; of the bootstrap

app = typer.Typer(add_completion=False, help=(__doc__ or "").replace("\n\n    ", "\n\n\b\n    "))


@dataclass(frozen=True)
class Measured:
    """What was measured of N images; NaN where there is nothing to score."""

    fidelity: NDArray[np.float64]  # (N,) to the condition, in [0, 1]
    alignment: NDArray[np.float64]  # (N,) share of the caption's things that are seen
    features: NDArray[np.float64]  # (N, D) of the perception model, for Fréchet distances
    true: NDArray[np.float64]  # (N, D) of the scenes
    pixels: NDArray[np.uint8]  # (N, H, W, 3)


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
            path = _path(run, condition, lever)
            if not path.exists():
                print(f"{condition}, {lever}", flush=True)
                images = _generate(base, examples, net, lever, scenes)
                with atomic_write(path) as temporary:
                    torch.save(_scored(images, examples, perception), temporary)


@app.command("time")
def time_levers(run: Path = Path("runs/speed"), images: int = 8, rounds: int = 2) -> None:
    """Seconds of the processor for an image, of every lever with one ControlNet: the least of some rounds through all.

    On one thread (OMP_NUM_THREADS=1) they are those that pass on a machine which does nothing else.
    """
    base, seconds = load_base("diorama", "cpu", "float32"), dict.fromkeys(LEVERS, float("inf"))
    examples, net = unseen_scenes("canny", images), load_controlnet("diorama/canny", base)
    _generate(base, examples, net, "draft", images)  # warms up
    for lever in list(LEVERS) * rounds:
        started = time.process_time()
        _generate(base, examples, net, lever, images)
        seconds[lever] = min(seconds[lever], (time.process_time() - started) / images)
        print(f"{lever}: {seconds[lever]:.3f} s", flush=True)
    with atomic_write(run / "seconds.json") as path:
        path.write_text(json.dumps(seconds, indent=2) + "\n")


@app.command()
def report(run: Path = Path("runs/speed"), output: Path = Path("docs/speed")) -> None:
    """Write numbers.json, a plot and a grid of images to a folder, and print the table."""
    seconds = read_json(run / "seconds.json")
    speeds = {lever: {"seconds": one, "times as fast": seconds["exact"] / one} for lever, one in seconds.items()}
    numbers = {lever: speeds[lever] | _compared(run, lever) for lever in LEVERS if _measured(run, lever)}
    with atomic_write(output / "numbers.json") as path:
        path.write_text(json.dumps(numbers, indent=2) + "\n")
    _plot(numbers, output / "price.png")
    _grid(run, output / "samples.png")
    print(table(numbers), by_condition(numbers), sep="\n\n")


def table(numbers: dict[str, dict[str, Any]]) -> str:
    """The numbers as a Markdown table."""
    rows = [["", "times as fast", "images", "fidelity", "alignment", "Fréchet distance", "PSNR to exact, dB"]]
    for lever, found in numbers.items():
        cells = [_cell(found[name], lever == "exact") for name in ("fidelity", "alignment", "frechet")]
        psnr = "–" if lever == "exact" else f"{found['psnr']:.1f}"
        rows.append(
            [
                lever,
                f"{found['times as fast']:.2f}",
                ", ".join(f"{count} {condition}" for condition, count in found["images"].items()),
                *cells,
                psnr,
            ]
        )
    return markdown_table(rows)


def by_condition(numbers: dict[str, dict[str, Any]]) -> str:
    """Fidelity with each condition of the levers that were measured on all, as a Markdown table."""
    levers = [lever for lever, found in numbers.items() if set(found["conditions"]) == set(CONDITIONS)]
    rows = [["fidelity", *levers]]
    for condition in CONDITIONS if levers else ():
        cells = [_cell(numbers[lever]["conditions"][condition], lever == "exact") for lever in levers]
        rows.append([condition, *cells])
    return markdown_table(rows)


def _cell(found: dict[str, Any], alone: bool) -> str:
    if alone:
        return f"{found['value']:.3f}"
    change = found["difference"]
    return f"{found['value']:.3f} ({change['mean']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}])"


def _path(run: Path, condition: str, lever: str) -> Path:
    return run / f"{condition}, {lever}.pt"


def _generate(base: Base, examples: Examples, net: ControlNet, lever: str, count: int) -> list[Image.Image]:
    """Images of the first scenes."""
    control = Control(net, examples.maps[:count])
    return generate(base, examples.captions[:count], control, batch_size=BATCH, record=False, **LEVERS[lever])


def _scored(images: list[Image.Image], examples: Examples, perception: PerceptionModel) -> dict[str, Tensor]:
    """The fields of `Measured` (N, ...) of images of the first test scenes."""
    seen = perception.predict(images)
    aligned = []
    for row in range(len(images)):
        things = scene(dataset.TEST + row).world.things
        aligned.append(np.mean([shows(seen.classes[row], seen.colours[row], thing, things)[0] for thing in things]))
    return {
        "fidelity": torch.tensor(examples.measured(images)[examples.label], dtype=torch.float64),
        "alignment": torch.tensor(np.array(aligned)),
        "features": torch.tensor(perception.embed(images)),
        "true": torch.tensor(perception.embed(examples.sources)),
        "pixels": torch.tensor(np.stack([np.asarray(image) for image in images])),
    }


def _measured(run: Path, lever: str) -> list[str]:
    """The conditions that a lever was measured on."""
    return [condition for condition in CONDITIONS if _path(run, condition, lever).exists()]


def _read(run: Path, lever: str, counts: dict[str, int]) -> Measured:
    """So many first images of some conditions, one condition after the other."""
    parts = [torch.load(_path(run, condition, lever), weights_only=True) for condition in counts]
    rows = [
        {name: one[:count] for name, one in part.items()} for part, count in zip(parts, counts.values(), strict=True)
    ]
    return Measured(**{name: torch.cat([row[name] for row in rows]).numpy() for name in rows[0]})


def _counts(run: Path, lever: str) -> dict[str, int]:
    """How many images of each condition there are of a lever and of exact."""
    found = {}
    for condition in _measured(run, lever):
        both = [torch.load(_path(run, condition, which), weights_only=True) for which in (lever, "exact")]
        found[condition] = min(len(one["fidelity"]) for one in both)
    return found


def _compared(run: Path, lever: str) -> dict[str, Any]:
    """The means of a lever's images, and their differences to the exact ones of the same scenes."""
    counts = _counts(run, lever)
    found, exact = _read(run, lever, counts), _read(run, "exact", counts)
    error = np.square((found.pixels.astype(float) - exact.pixels) / 255).mean(axis=(1, 2, 3))
    numbers: dict[str, Any] = {
        "images": counts,
        "psnr": float(np.mean(-10 * np.log10(np.maximum(error, 1e-5)))),
        "frechet": _frechet(found, exact),
    }
    for name in ("fidelity", "alignment"):
        numbers[name] = _paired(getattr(found, name), getattr(exact, name))
    ends = np.cumsum(list(counts.values()))[:-1]
    parts = zip(counts, np.split(found.fidelity, ends), np.split(exact.fidelity, ends), strict=True)
    numbers["conditions"] = {condition: _paired(ours, theirs) for condition, ours, theirs in parts}
    return numbers


def _paired(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> dict[str, Any]:
    """The mean of a lever's scores (N,), and of their differences to those of the exact images."""
    return {"value": float(np.nanmean(ours)), "difference": asdict(bootstrap(ours - theirs))}


def _frechet(found: Measured, exact: Measured) -> dict[str, Any]:
    """The distance to the scenes, and its difference to that of the exact images, drawing the same rows for all."""

    def difference(rows: NDArray[np.intp]) -> float:
        ours, theirs = (frechet_distance(one.features[rows], one.true[rows]) for one in (found, exact))
        return ours - theirs

    rng, rows = np.random.default_rng(0), np.arange(len(found.true))
    draws = np.array([difference(rng.choice(rows, len(rows))) for _ in range(DRAWS)])
    mean = difference(rows)
    change = Interval(mean, *middle(draws - draws.mean() + mean))
    return {"value": frechet_distance(found.features, found.true), "difference": asdict(change)}


def _plot(numbers: dict[str, dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, 3), ("fidelity", "alignment", "frechet"), strict=True):
        for lever, found in numbers.items():
            change, x = found[name]["difference"], found["times as fast"]
            reach = [[change["mean"] - change["low"]], [change["high"] - change["mean"]]]
            axes.errorbar(x, change["mean"], reach, fmt="o", capsize=3, label=lever)
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set(xlabel="times as fast as exact", title=f"{name}, difference to exact")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize="small")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _grid(run: Path, path: Path) -> None:
    """The first scenes of each condition, a row for exact and each named speed."""
    rows: dict[str, list[Image.Image]] = {}
    for lever in ("exact", "balanced", "draft"):
        pixels = _read(run, lever, dict.fromkeys(_measured(run, lever), SHOWN)).pixels
        rows[lever] = [Image.fromarray(one) for one in pixels]
    with atomic_write(path) as temporary:
        image_grid(list(rows.values()), labels=list(rows)).save(temporary, "PNG")


if __name__ == "__main__":
    app()
