"""Settings in the format of version 0.1, which had no tables."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maquette.errors import MaquetteWarning
from maquette.foundation.declared import Setting

RENAMED = {
    "data": "data.source",
    "picture_column": "data.image_column",
    "optimiser": "optimizer.name",
    "kind": "model.variant",
}
"""Settings that were renamed since version 0.1, and their paths now; the others only moved into tables."""


def modern(settings: Mapping[str, Any], known: Mapping[str, Setting], path: Path) -> dict[str, Any]:
    """The settings of a file under their current names, with a warning about those that moved.

    Args:
        known: the current settings by flat name.
    """
    parts = {declared.part for declared in known.values()}
    read: dict[str, Any] = {}
    moved: dict[str, str] = {}
    for name, value in settings.items():
        if name in parts and isinstance(value, Mapping):
            read[name] = value
            continue
        now = RENAMED.get(name) or (known[name].path if name in known else name)
        read[name if name in known else now] = value
        if now != name:
            moved[name] = now
    if moved:
        warnings.warn(
            f"{str(path)!r} has settings as version 0.1 wrote them; they are in tables now: {_tables(moved)}.",
            MaquetteWarning,
            stacklevel=4,
        )
    return read


def _tables(moved: Mapping[str, str]) -> str:
    """Moved settings grouped by table, with their old names if they differ."""
    tables: dict[str, list[str]] = {}
    for name, path in moved.items():
        part, _, now = path.rpartition(".")
        tables.setdefault(part, []).append(now if now == name else f"{now} (was {name})")
    return "; ".join(f"[{part}] {', '.join(names)}" for part, names in tables.items())
