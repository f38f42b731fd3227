"""The training curve of a run."""

import warnings

from maquette.errors import MaquetteWarning
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
        axes.axvline(step, color="tab:red", linestyle="--", label=f"converges at step {step}")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(log.folder / CURVE, dpi=110)
