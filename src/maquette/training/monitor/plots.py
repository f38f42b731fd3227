"""The curve of a run."""

import warnings

from maquette.errors import MaquetteWarning
from maquette.training.monitor.metrics_log import Log

CURVE = "curve.png"


def draw_curve(log: Log, title: str) -> None:
    """Plot fidelity, gain and loss over steps, the step of sudden convergence marked; a note without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        words = "No curve.png without matplotlib: pip install 'maquette[train]'; metrics.jsonl has its numbers."
        warnings.warn(words, MaquetteWarning, stacklevel=3)
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
    other.set_ylabel("loss, and what control takes off it")
    step = log.converged()
    if step is not None:
        axes.axvline(step, color="tab:red", linestyle="--", label=f"takes hold at step {step}")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(log.folder / CURVE, dpi=110)
