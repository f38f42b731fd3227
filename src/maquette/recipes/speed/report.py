"""Tables, a plot and a grid of images of what was measured and compared."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from maquette.evaluation.report import markdown_table
from maquette.foundation.files import atomic_write
from maquette.foundation.images import image_grid
from maquette.recipes.speed.measure import CONDITIONS, conditions_of, read

SHOWN = 2  # scenes of each condition on the grid


def table(numbers: dict[str, dict[str, Any]]) -> str:
    """The numbers as a Markdown table."""
    rows = [["", "times as fast", "images", "fidelity", "alignment", "Fréchet distance", "PSNR to exact, dB"]]
    for lever, found in numbers.items():
        cells = [_cell(found[name], lever == "exact") for name in ("fidelity", "alignment", "frechet")]
        psnr = "–" if lever == "exact" else f"{found['psnr']:.1f}"
        rows.append([lever, f"{found['times as fast']:.2f}", _images(found["images"]), *cells, psnr])
    return markdown_table(rows)


def _images(counts: Mapping[str, int]) -> str:
    if len(counts) > 2:
        return f"{sum(counts.values()):,} with {len(counts)} nets"
    return ", ".join(f"{count} {condition}" for condition, count in counts.items())


def by_condition(numbers: dict[str, dict[str, Any]]) -> str:
    """Fidelity with each condition of the levers that were measured on all, as a Markdown table."""
    levers = [lever for lever, found in numbers.items() if set(found["conditions"]) == set(CONDITIONS)]
    rows = [["fidelity", "scenes", *levers]]
    for condition in CONDITIONS if levers else ():
        cells = [_cell(numbers[lever]["conditions"][condition], lever == "exact") for lever in levers]
        rows.append([condition, str(numbers[levers[0]]["images"][condition]), *cells])
    return markdown_table(rows)


def _cell(found: dict[str, Any], alone: bool) -> str:
    if alone:
        return f"{found['value']:.3f}"
    change = found["difference"]
    return f"{found['value']:.3f} ({change['mean']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}])"


def plot(numbers: dict[str, dict[str, Any]], path: Path) -> None:
    """Differences of every lever to exact, over how much faster it is, as a PNG."""
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


def grid(run: Path, path: Path) -> None:
    """The first scenes of each condition, a row for exact and each named speed."""
    rows: dict[str, list[Image.Image]] = {}
    for lever in ("exact", "balanced", "draft"):
        pixels = read(run, lever, dict.fromkeys(conditions_of(run, lever), SHOWN)).pixels
        rows[lever] = [Image.fromarray(one) for one in pixels]
    with atomic_write(path) as temporary:
        image_grid(list(rows.values()), labels=list(rows)).save(temporary, "PNG")
