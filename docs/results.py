"""The tables of what was measured, from what the commands wrote beside the docs.

python docs/results.py            # writes them into docs/fidelity.md
python docs/results.py --check    # only says whether they are there
"""

import json
import sys
from pathlib import Path

DOCS = Path(__file__).parent
PAGE = DOCS / "fidelity.md"
START, END = "<!-- results: python docs/results.py -->", "<!-- end of results -->"
ORDER = ("canny", "scribble", "segmentation", "depth", "normal", "pose")


def table() -> str:
    lines = [
        "| condition | ceiling | floor | true prompt | of the ceiling | default | none | conflicting |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for condition in ORDER:
        found = json.loads((DOCS / "fidelity" / f"diorama-{condition}.json").read_text())
        kinds = ("true", "default", "none", "conflicting")
        true, *others = (f"{found['controlled'][kind]:.3f} ({found['uncontrolled'][kind]:.3f})" for kind in kinds)
        share = found["controlled"]["true"] / found["ceiling"]
        cells = [condition, f"{found['ceiling']:.3f}", f"{found['floor']:.3f}", true, f"{100 * share:.0f} %", *others]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def page(before: str) -> str:
    head, _, rest = before.partition(START)
    _, _, tail = rest.partition(END)
    return f"{head}{START}\n\n{table()}\n\n{END}{tail}"


if __name__ == "__main__":
    before = PAGE.read_text()
    if "--check" in sys.argv:
        sys.exit(page(before) != before and "docs/fidelity.md is behind: python docs/results.py")
    PAGE.write_text(page(before))
