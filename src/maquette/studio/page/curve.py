"""The curves of a training as a drawing that follows the page's colours, and as a table for who does not see it."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from maquette.studio.page.strings import Strings
from maquette.training.monitor.metrics_log import Line, Log

WIDTH, LEFT, RIGHT = 640, 64, 12
TOP, BETWEEN, BOTTOM = 14, 34, 30
HEIGHTS = (150, 70)  # of the panels: of the score, and of the loss


@dataclass(frozen=True)
class Panel:
    """One curve with its axis.

    Args:
        low, high: the range of its axis.
        top, height: its place, in units of the drawing.
        last: the step at its right end.
    """

    name: str
    steps: Sequence[int]
    values: Sequence[float]
    low: float
    high: float
    top: float
    height: float
    last: int

    def x(self, step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, step / max(1, self.last))

    def y(self, value: float) -> float:
        return self.top + self.height * (1 - (value - self.low) / (self.high - self.low))

    def drawn(self, kind: str) -> str:
        """As SVG; `kind` is the class of its line."""
        points = [(self.x(step), self.y(value)) for step, value in zip(self.steps, self.values, strict=True)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points)
        dots = dots if kind == "score" or len(points) == 1 else ""
        ticks = "".join(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{self.y(value):.1f}" y2="{self.y(value):.1f}"/>'
            f'<text x="{LEFT - 6}" y="{self.y(value) + 4:.1f}" text-anchor="end">{value:.2g}</text>'
            for value in (self.low, (self.low + self.high) / 2, self.high)
        )
        name = f'<text x="{LEFT + 6}" y="{self.top + 13}">{escape(self.name)}</text>'
        return f'<g class="axis">{ticks}{name}</g><g class="{kind}"><polyline points="{line}"/>{dots}</g>'


def drawn(log: Log, last: int, converged: int | None, words: Strings) -> str:
    """The measurements and the loss of a training as HTML; empty before the first.

    Args:
        last: the step at which it ends.
        converged: the step of sudden convergence, which is marked.
    """
    lines = log.lines()
    measured = [line for line in lines if "gain share" in line]
    losses = [line for line in lines if "loss" in line]
    if not measured and not losses:
        return ""
    scored = any("fidelity" in line for line in measured)
    column, name = ("fidelity", log.score) if scored else ("gain share", words("gain"))
    last = max([last, *(line["step"] for line in lines)])
    low, high = (0.0, 1.0) if scored else _range(measured, column)
    score = Panel(name, *_columns(measured, column), low, high, TOP, HEIGHTS[0], last)
    top = TOP + HEIGHTS[0] + BETWEEN
    loss = Panel(words("loss"), *_columns(losses, "loss"), *_range(losses, "loss"), top, HEIGHTS[1], last)
    bottom = top + HEIGHTS[1]
    marks = _steps(score, bottom) + ("" if converged is None else _mark(score, converged, bottom, words))
    height = bottom + BOTTOM
    drawing = (
        f'<svg class="curve" viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(_said(score))}">'
        f"{score.drawn('score')}{loss.drawn('loss')}{marks}</svg>"
    )
    return drawing + _table(measured, column, name, words)


def _columns(lines: Sequence[Line], name: str) -> tuple[list[int], list[float]]:
    found = [line for line in lines if name in line]
    return [line["step"] for line in found], [line[name] for line in found]


def _range(lines: Sequence[Line], name: str) -> tuple[float, float]:
    """The range of an axis, from 0 or the lowest value."""
    values = [line[name] for line in lines if name in line] or [1.0]
    low, high = min(0.0, *values), max(values)
    return low, high if high > low else low + 1


def _steps(panel: Panel, bottom: float) -> str:
    """The axis of steps."""
    places = [(0, "start"), (panel.last // 2, "middle"), (panel.last, "end")]
    texts = (
        f'<text x="{panel.x(step):.1f}" y="{bottom + 18:g}" text-anchor="{anchor}">{step}</text>'
        for step, anchor in places
    )
    return f'<g class="axis">{"".join(texts)}</g>'


def _mark(panel: Panel, step: int, bottom: float, words: Strings) -> str:
    """The step of sudden convergence."""
    x, right = panel.x(step), panel.x(step) < WIDTH / 2
    place = f'x="{x + (6 if right else -6):.1f}" y="{panel.top + panel.height - 8:g}"'
    return (
        f'<g class="sudden"><line x1="{x:.1f}" x2="{x:.1f}" y1="{panel.top}" y2="{bottom:g}"/>'
        f'<text {place} text-anchor="{"start" if right else "end"}">{escape(words("sudden", step))}</text></g>'
    )


def _said(panel: Panel) -> str:
    """The curve in a line."""
    if not panel.values:
        return panel.name
    ends = {0, len(panel.values) - 1}
    return f"{panel.name}: " + ", ".join(f"{panel.values[one]:.2f} ({panel.steps[one]})" for one in sorted(ends))


def _table(measured: Sequence[Line], column: str, name: str, words: Strings) -> str:
    columns = {"step": words("step"), column: name, "gain share": words("gain")}
    heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in columns.values())
    rows = "".join(
        "<tr>" + "".join(f"<td>{line.get(key, '')}</td>" for key in columns) + "</tr>" for line in measured
    )  # fmt: skip
    summary = f"<summary>{escape(words('measurements'))}</summary>"
    return f"<details>{summary}<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></details>"
