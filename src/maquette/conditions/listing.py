"""Tables for the command line: all detectors, and the options and weights of one."""

from collections.abc import Sequence

from maquette.conditions.registry import detector_spec, detectors, load_others
from maquette.conditions.spec import DetectorSpec

HEADER = ("name", "what it draws", "library", "weights, MB", "licence", "offline")


def table() -> str:
    """One line per detector: what it draws, its library and its weights."""
    load_others()
    rows = [_row(detectors[name]) for name in detectors]
    return _columns([HEADER, *rows])


def one_detector(name: str) -> str:
    """The options and weights of one detector. Raises `MaquetteError` for an unknown name."""
    spec = detector_spec(name)
    options = [
        ("option", "default", "range", "meaning"),
        *((option.name, str(option.default), option.range, option.words) for option in spec.options.described()),
    ]
    weights = [
        ("weights", "MB", "licence", "fetched by"),
        *((key, str(source.megabytes), source.licence, source.command) for key, source in spec.weights.items()),
    ]
    return "\n\n".join([f"{name}: {spec.draws}", *(_columns(rows) for rows in (options, weights) if len(rows) > 1)])


def _row(spec: DetectorSpec) -> tuple[str, ...]:
    default = next(iter(spec.weights), None)
    others = f" and {len(spec.weights) - 1} more" if len(spec.weights) > 1 else ""
    weights = f"{default} {spec.weights[default].megabytes}{others}" if default else "none"
    licences = spec.weights[default].licence if default else "-"
    offline = "once downloaded" if not spec.offline else "except some options" if spec.weights else "yes"
    return spec.name, spec.draws, spec.library, weights, licences, offline


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)
