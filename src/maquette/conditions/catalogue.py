"""All detectors in a table, and one with its options."""

from collections.abc import Sequence

from maquette.conditions.detect import detectors, kind_named, load_others
from maquette.conditions.kind import Kind

HEAD = ("name", "what it draws", "library", "weights, MB", "licence", "offline")


def table() -> str:
    """A line a detector: what it draws, with what, and what it needs."""
    load_others()
    rows = [_row(detectors[name]) for name in detectors]
    return _columns([HEAD, *rows])


def one_detector(name: str) -> str:
    """A detector's options and weights."""
    kind = kind_named(name)
    options = [
        ("option", "default", "range", "meaning"),
        *((o[0], str(o[1]), *o[2:]) for o in kind.options.described()),
    ]
    weights = [
        ("weights", "MB", "licence", "fetched by"),
        *((key, str(one.megabytes), one.licence, one.command) for key, one in kind.weights.items()),
    ]
    return "\n\n".join([f"{name}: {kind.draws}", *(_columns(rows) for rows in (options, weights) if len(rows) > 1)])


def _row(kind: Kind) -> tuple[str, ...]:
    usual = next(iter(kind.weights), None)
    others = f" and {len(kind.weights) - 1} more" if len(kind.weights) > 1 else ""
    weights = f"{usual} {kind.weights[usual].megabytes}{others}" if usual else "none"
    licences = kind.weights[usual].licence if usual else "-"
    offline = "once fetched" if not kind.offline else "but for some options" if kind.weights else "yes"
    return kind.name, kind.draws, kind.library, weights, licences, offline


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)
