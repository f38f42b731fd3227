"""The table of a training's settings, from the words under each field of its configuration.

python docs/settings.py            # writes it into docs/training.md
python docs/settings.py --check    # only says whether it is there
"""

import ast
import inspect
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from maquette.training.config import TrainingConfig

PAGE = Path(__file__).parent / "training.md"
START, END = "<!-- settings: python docs/settings.py -->", "<!-- end of settings -->"


def rows() -> Iterator[str]:
    body = ast.parse(inspect.getsource(TrainingConfig)).body[0].body
    for field, words in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign):
            default = f"`{ast.unparse(field.value)}`" if field.value else "(needed)"
            said = isinstance(words, ast.Expr) and isinstance(words.value, ast.Constant)
            meaning = " ".join(str(words.value.value).split()) if said else ""
            yield f"| `{ast.unparse(field.target)}` | {default} | {meaning} |"


def page(before: str) -> str:
    head, _, rest = before.partition(START)
    _, _, tail = rest.partition(END)
    table = "\n".join(["| setting | usual | meaning |", "| --- | --- | --- |", *rows()])
    return f"{head}{START}\n\n{table}\n\n{END}{tail}"


if __name__ == "__main__":
    before = PAGE.read_text()
    if "--check" in sys.argv:
        sys.exit(page(before) != before and "docs/training.md is behind: python docs/settings.py")
    PAGE.write_text(page(before))
