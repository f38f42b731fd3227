"""The tables of these pages that follow from something else: settings, detectors, and what evaluations wrote.

python docs/tables.py            # writes them into training.md, detectors.md and fidelity.md
python docs/tables.py --check    # only says whether they are there
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from maquette.conditions.registry import detectors
from maquette.evaluation.protocol import PROMPTS
from maquette.foundation.declared import REQUIRED, Setting, When, settings_of
from maquette.training.config import PARTS, TrainingConfig

DOCS = Path(__file__).parent
START, END = "<!-- table: python docs/tables.py -->", "<!-- end of table -->"
CONDITIONS = ("canny", "scribble", "segmentation", "depth", "normal", "pose")


def settings() -> Iterator[str]:
    """From the fields of the configuration, one table for each of its parts; `*`: may differ in a resumed run."""
    tables = {None: "At the top of a file.", **{name: str(part.__doc__) for name, part in PARTS.items()}}
    known = settings_of(TrainingConfig).values()
    for number, (part, words) in enumerate(tables.items()):
        yield from [""] * bool(number)
        yield f"`[{part}]`: {words}" if part else words
        yield ""
        yield "| setting | usual | range | meaning |"
        yield "| --- | --- | --- | --- |"
        for one in (one for one in known if one.part == part):
            usual = "(needed)" if one.default is REQUIRED else f"`{one.usual}`" if one.usual else ""
            flat = "" if one.flat == one.name else f" (`{one.flat}`)"
            yield f"| `{one.name}`{flat}{_differs(one)} | {usual} | {one.range} | {one.words} |"


def _differs(one: Setting) -> str:
    if isinstance(one.may_differ, When):
        return f" \\* {one.may_differ.words}"
    return " \\*" * one.may_differ


def fidelities() -> Iterator[str]:
    """From the reports of the six ControlNets."""
    yield "| condition | ceiling | floor | true prompt | of the ceiling | default | none | conflicting |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for condition in CONDITIONS:
        found = json.loads((DOCS / "fidelity" / f"diorama-{condition}.json").read_text())
        true, *others = (f"{found['controlled'][kind]:.3f} ({found['uncontrolled'][kind]:.3f})" for kind in PROMPTS)
        share = found["controlled"]["true"] / found["ceiling"]
        cells = [condition, f"{found['ceiling']:.3f}", f"{found['floor']:.3f}", true, f"{100 * share:.0f} %", *others]
        yield f"| {' | '.join(cells)} |"


def kinds() -> Iterator[str]:
    """From the registry of detectors, and the options of each."""
    yield "| detector | what it draws | by | weights, MB | licence |"
    yield "| --- | --- | --- | --- | --- |"
    for name in detectors:
        kind = detectors[name]
        weights = ", ".join(f"{key} {one.megabytes}" for key, one in kind.weights.items()) or "none"
        licences = ", ".join(dict.fromkeys(one.licence for one in kind.weights.values())) or "–"
        yield f"| `{name}` | {kind.draws} | {kind.library} | {weights} | {licences} |"
    yield ""
    yield "| detector | option | usual | range | meaning |"
    yield "| --- | --- | --- | --- | --- |"
    for name in detectors:
        for one in detectors[name].options.described():
            yield f"| `{name}` | `{one.name}` | `{one.default!r}` | {one.range.replace('|', 'or')} | {one.words} |"


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "training.md": settings,
    "detectors.md": kinds,
    "fidelity.md": fidelities,
}


def page(before: str, table: Iterator[str]) -> str:
    head, _, rest = before.partition(START)
    _, _, tail = rest.partition(END)
    return "\n".join([f"{head}{START}\n", *table, f"\n{END}{tail}"])


if __name__ == "__main__":
    for name, table in TABLES.items():
        before = (DOCS / name).read_text()
        after = page(before, table())
        if "--check" in sys.argv and after != before:
            sys.exit(f"docs/{name} is behind: python docs/tables.py")
        (DOCS / name).write_text(after)
