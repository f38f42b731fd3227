"""How a package is built, in numbers: sizes, import circles, types, shapes and Raises in docstrings.

    python benchmarks/structure.py                # src/maquette
    python benchmarks/structure.py --list FOLDER  # another, with the functions that say no shape or no Raises

Read off Python's ast; nothing is imported or run.

- file: physical lines of a .py that is not empty. function: from `def` to its last line, methods and nested ones too.
- import circle: the most files that import one another in a ring, at module level, then with imports inside functions.
  What stands under TYPE_CHECKING is left out, and that a package's __init__ runs before its files.
- typed: all arguments but self and cls, and what is returned (not of __init__), are annotated.
- tensors: an annotation of an argument or of what is returned names Tensor, other than as a state by name
  (Mapping[str, Tensor]), which has no one shape. A shape is said where the docstring of the function, or of its class,
  holds a tuple such as (B, C, h, w) or (B,), or the words "scalar" or "same / any / in shape"; or where the annotation
  itself says it (Float[Tensor, "B C h w"]). core: outside of cli and recipes.
- public: no underscore leads its name or its class's (dunder methods are public), and it is nested in no function.
  raises: it has a `raise` of its own that is not a bare one; said: "Raises" in its docstring or its class's.
"""

import argparse
import ast
import re
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

EDGES = ("cli/", "recipes/")  # folders that are not the core
Function = ast.FunctionDef | ast.AsyncFunctionDef
SIZE = r"(?:\.\.\.|…|[A-Za-z0-9_]+(?: ?[-+*/×] ?[A-Za-z0-9_]+| or [A-Za-z0-9_]+)*)"
TUPLE = re.compile(rf"\(({SIZE}(?:, ?{SIZE})+|{SIZE},)\)")
ONE_AXIS = re.compile(r"\.\.\.|…|\d.*|[A-Za-z]\d?\b.*")  # a number or a letter: not so of (width, height)
WORDS = re.compile(r"\bscalars?\b|\b(?:same|any|in) shapes?\b", re.IGNORECASE)
STATE = re.compile(r"(?:Mapping|dict)\[str, (?:torch\.)?Tensor\]")
ANNOTATED = re.compile(r"\[(?:torch\.)?Tensor, ['\"]")


@dataclass(frozen=True)
class Found:
    """A function, where it stands, and what is read about it."""

    where: str
    node: Function
    public: bool
    words: str  # its docstring and its class's

    @property
    def arguments(self) -> list[ast.arg]:
        given = self.node.args
        named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        return [one for one in [*named, given.vararg, given.kwarg] if one and one.arg not in ("self", "cls")]

    @property
    def annotations(self) -> list[str]:
        return [ast.unparse(one) for one in [*(one.annotation for one in self.arguments), self.node.returns] if one]

    @property
    def is_typed(self) -> bool:
        returned = self.node.returns is not None or self.node.name == "__init__"
        return returned and all(one.annotation for one in self.arguments)

    @property
    def has_tensors(self) -> bool:
        return any(re.search(r"\bTensor\b", STATE.sub("", one)) for one in self.annotations)

    @property
    def says_shape(self) -> bool:
        tuples = (re.split(r", ?", found[1]) for found in TUPLE.finditer(self.words))
        shaped = any(ONE_AXIS.fullmatch(axis) for axes in tuples for axis in axes)
        return shaped or bool(WORDS.search(self.words)) or any(map(ANNOTATED.search, self.annotations))

    @property
    def raises(self) -> bool:
        return any(isinstance(node, ast.Raise) and node.exc for node in own(self.node))


def own(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes inside a function, without those of functions and classes defined in it."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, Function | ast.ClassDef | ast.Lambda):
            yield node
            yield from own(node)


def functions(path: str, node: ast.AST, public: bool = True, words: str = "") -> Iterator[Found]:
    """All functions below a node, with the docstring of the class around them."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef):
            shown = public and (not child.name.startswith("_") or child.name.endswith("__"))
            said = ast.get_docstring(child) or ""
            if isinstance(child, Function):
                yield Found(f"{path}:{child.lineno} {child.name}", child, shown, f"{said}\n{words}")
                yield from functions(path, child, False)
            else:
                yield from functions(path, child, shown, said)
        else:
            yield from functions(path, child, public, words)


def imports(node: ast.AST, lazy: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from (found for other in child.orelse for found in imports(other, lazy))
        elif lazy or not isinstance(child, Function | ast.Lambda):
            yield from imports(child, lazy)


def graph(trees: dict[Path, ast.Module], root: Path, lazy: bool) -> dict[str, set[str]]:
    """Which modules each module imports, by dotted names that begin with the root's."""
    modules = {".".join(path.relative_to(root.parent).with_suffix("").parts): path for path in trees}
    homes = {name.removesuffix(".__init__"): name for name in modules}
    found: dict[str, set[str]] = {}
    for name, path in modules.items():
        names: set[str] = set()
        for node in imports(trees[path], lazy):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
                continue
            package = name.split(".")[: -node.level] if node.level else []
            module = ".".join([*package, *([node.module] if node.module else [])])
            for alias in node.names:
                submodule = f"{module}.{alias.name}"
                names.add(submodule if submodule in homes else module)
        found[name] = {homes[one] for one in names if one in homes} - {name}
    return found


def biggest_circle(edges: dict[str, set[str]]) -> list[str]:
    """The largest set of modules each of which reaches all others; empty without a circle."""
    reached = {start: reachable(edges, start) for start in edges}
    circles = [sorted(one for one in edges if one in reached[start] and start in reached[one]) for start in edges]
    return max(circles, key=len, default=[])


def reachable(edges: dict[str, set[str]], start: str) -> set[str]:
    """What is imported from a module on, itself only where it lies on a circle."""
    found: set[str] = set()
    waiting = [*edges[start]]
    while waiting:
        if (one := waiting.pop()) not in found:
            found.add(one)
            waiting += edges[one]
    return found


def spread(values: Iterable[int]) -> str:
    """Median, 95th percentile and maximum."""
    ordered = sorted(values)
    if not ordered:
        return "none"
    high = statistics.quantiles(ordered, n=20, method="inclusive")[-1] if len(ordered) > 1 else ordered[-1]
    return f"{statistics.median(ordered):g}/{high:.0f}/{ordered[-1]}"


def measure(root: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The table by the names of its rows, and what is listed behind them."""
    trees = {path: ast.parse(text) for path in sorted(root.rglob("*.py")) if (text := path.read_text("utf-8")).strip()}
    found = [one for path, tree in trees.items() for one in functions(str(path.relative_to(root)), tree)]
    lines = [len(path.read_text("utf-8").splitlines()) for path in trees]
    folders: dict[Path, int] = {}
    for path in trees:
        folders[path.parent] = folders.get(path.parent, 0) + 1
    fullest = max(folders, key=lambda folder: folders[folder])
    circles = [biggest_circle(graph(trees, root, lazy)) for lazy in (False, True)]
    tensors = [one for one in found if one.has_tensors]
    shapeless = [one for one in tensors if not one.says_shape]
    raising = [one for one in found if one.public and one.raises]
    silent = [one for one in raising if "Raises" not in one.words]
    core = [one for one in tensors if one.public and not one.where.startswith(EDGES)]
    table = {
        "files": f"{len(trees)}, {sum(lines)} lines",
        "file, lines (median/p95/max)": spread(lines),
        "function, lines": spread((one.node.end_lineno or 0) - one.node.lineno + 1 for one in found),
        "biggest import circle, files (with lazy imports)": f"{len(circles[0])} ({len(circles[1])})",
        "functions fully typed, %": f"{100 * sum(one.is_typed for one in found) / max(1, len(found)):.1f}",
        "arguments": spread(len(one.arguments) for one in found),
        "files a folder (median/max)": f"{statistics.median(folders.values()):g}/{folders[fullest]} ({fullest.name})",
        "functions with tensors that say no shape": f"{len(shapeless)} of {len(tensors)}",
        "  public ones of the core": f"{sum(not one.says_shape for one in core)} of {len(core)}",
        "public functions that raise and say no Raises": f"{len(silent)} of {len(raising)}",
    }
    listed = {
        "in a circle": circles[1],
        "no shape": [one.where for one in shapeless],
        "no Raises": [one.where for one in silent],
    }
    return table, listed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    home = Path(__file__).parent.parent / "src" / "maquette"
    parser.add_argument("folder", type=Path, nargs="?", default=home, help="the package's folder; ours without")
    parser.add_argument("--list", action="store_true", help="name what lies in a circle, or says no shape or no Raises")
    arguments = parser.parse_args()
    if not any(arguments.folder.rglob("*.py")):
        parser.error(f"{str(arguments.folder)!r} holds no Python file")
    table, listed = measure(arguments.folder.resolve())
    width = max(map(len, table))
    for name, value in table.items():
        print(f"{name:{width}}  {value}")
    for name, places in listed.items() if arguments.list else ():
        print(f"\n{name}:", *places, sep="\n  ")


if __name__ == "__main__":
    main()
