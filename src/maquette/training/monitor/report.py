"""A run's curve, and `report.html`: the run on one page, viewable from disk."""

import warnings
from html import escape
from pathlib import Path

from maquette.data.sources.jsonl import BadRow
from maquette.errors import MaquetteWarning
from maquette.foundation.files import atomic_write
from maquette.training.config import TrainingConfig
from maquette.training.monitor.metrics_log import Log

CURVE = "curve.png"


def plot_curve(log: Log, title: str) -> None:
    """Plot fidelity, gain and loss over steps and mark the step of convergence; warns if matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        message = "No curve.png without matplotlib: pip install 'maquette[train]'; metrics.jsonl has the numbers."
        warnings.warn(message, MaquetteWarning, stacklevel=3)
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    steps, scores = log.column("fidelity")
    if steps:
        axes.plot(steps, scores, marker="o", markersize=3, color="tab:blue", label=f"{log.score}, no prompt")
    axes.set(xlabel="optimizer steps", ylabel=log.score, title=title, ylim=(0, 1))
    other = axes.twinx()
    other.plot(*log.column("loss"), color="tab:gray", alpha=0.6, label="loss")
    other.plot(*log.column("gain"), color="tab:green", linestyle=":", label="gain")
    other.set_ylabel("loss, and its reduction by control")
    step = log.converged()
    if step is not None:
        axes.axvline(step, color="tab:red", linestyle="--", label=log.verdict())
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    with atomic_write(log.folder / CURVE) as path:
        figure.savefig(path, dpi=110)


REPORT = "report.html"

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #28282c;
  background: #faf9f6; }}
img {{ max-width: 100%; }} td, th {{ text-align: left; padding: .1rem 1.2rem .1rem 0; }}
td:nth-child(n+2) {{ font-variant-numeric: tabular-nums; }} input[type=range] {{ width: 100%; }}
</style></head><body>
<h1>{title}</h1>
<p>{summary}</p>
{curve}
{grids}
{faults}
<h2>Measurements</h2>
{measurements}
<h2>Settings</h2>
{settings}
</body></html>
"""

SLIDER = """<h2>Held-out conditions</h2>
<p><label>After step <output id="step">{last}</output>
<input type="range" min="0" max="{most}" value="{most}" id="which"></label></p>
<img id="grid" src="grids/{name}" alt="condition, source, and images generated with four kinds of prompt">
<script>
const grids = [{names}];
document.getElementById("which").oninput = event => {{
  const name = grids[event.target.value];
  document.getElementById("grid").src = "grids/" + name;
  document.getElementById("step").value = parseInt(name.slice(5));
}};
</script>"""


def write_report(config: TrainingConfig, log: Log, faults: list[BadRow]) -> None:
    """Write the page: curve, image grids, skipped rows, metrics and settings."""
    title = f"{config.base}/{config.condition}"
    curve = f'<img src="{CURVE}" alt="training curve">' if (config.output / CURVE).exists() else ""
    page = PAGE.format(
        title=escape(title),
        summary=escape(_summary(log)),
        curve=curve,
        grids=_grids(config.output / "grids"),
        faults=_faults(faults),
        measurements=_measurements(log),
        settings=_table([[declared.path, str(value)] for declared, value in config.items() if value is not None]),
    )
    with atomic_write(config.output / REPORT) as path:
        path.write_text(page, "utf-8")


def _summary(log: Log) -> str:
    lines = log.lines()
    progress = f"{lines[-1]['step']} optimizer steps in {_minutes(lines[-1]['seconds'])}" if lines else "no step yet"
    best = log.best()
    return f"{progress}; {log.verdict()}" + (f"; best score {best[1]:.3f} at step {best[0]}." if best else ".")


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} minute{'' if minutes == 1 else 's'}"


def _grids(folder: Path) -> str:
    names = sorted(path.name for path in folder.glob("step-*.png"))
    if not names:
        return ""
    last, listed = names[-1], ", ".join(f'"{name}"' for name in names)
    return SLIDER.format(last=int(last[5:-4]), most=len(names) - 1, name=last, names=listed)


def _faults(faults: list[BadRow]) -> str:
    if not faults:
        return ""
    return "<h2>Skipped rows</h2>" + _table([[fault.where, fault.reason] for fault in faults])


def _measurements(log: Log) -> str:
    measured = [line for line in log.lines() if "gain" in line]
    names = [
        name for name in ("step", "seconds", "fidelity", "gain", "gain share") if any(name in line for line in measured)
    ]
    heads = [log.score if name == "fidelity" else name for name in names]
    return _table([[str(line.get(name, "")) for name in names] for line in measured], heads)


def _table(rows: list[list[str]], heads: list[str] | None = None) -> str:
    head = "<tr>" + "".join(f"<th>{escape(name)}</th>" for name in heads) + "</tr>" if heads else ""
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{head}{body}</table>"
