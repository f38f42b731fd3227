"""All detectors in a table, and one with its options."""

from collections.abc import Sequence

from maquette.conditions.registry import detector_spec, detectors, load_others
from maquette.conditions.spec import DetectorSpec

HEAD = ("name", "what it draws", "library", "weights, MB", "licence", "offline")


def table() -> str:
    """A line a detector: what it draws, with what, and what it needs."""
    load_others()
    rows = [_row(detectors[name]) for name in detectors]
    return _columns([HEAD, *rows])


def one_detector(name: str) -> str:
    """A detector's options and weights."""
    spec = detector_spec(name)
    options = [
        ("option", "default", "range", "meaning"),
        *((o[0], str(o[1]), *o[2:]) for o in spec.options.described()),
    ]
    weights = [
        ("weights", "MB", "licence", "fetched by"),
        *((key, str(one.megabytes), one.licence, one.command) for key, one in spec.weights.items()),
    ]
    return "\n\n".join([f"{name}: {spec.draws}", *(_columns(rows) for rows in (options, weights) if len(rows) > 1)])


def _row(spec: DetectorSpec) -> tuple[str, ...]:
    usual = next(iter(spec.weights), None)
    others = f" and {len(spec.weights) - 1} more" if len(spec.weights) > 1 else ""
    weights = f"{usual} {spec.weights[usual].megabytes}{others}" if usual else "none"
    licences = spec.weights[usual].licence if usual else "-"
    offline = "once fetched" if not spec.offline else "but for some options" if spec.weights else "yes"
    return spec.name, spec.draws, spec.library, weights, licences, offline


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)
