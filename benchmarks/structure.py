"""Structure of a package in numbers: sizes, import cycles, types, and shapes and Raises in docstrings.

    python benchmarks/structure.py                # src/maquette
    python benchmarks/structure.py --list FOLDER  # another package, with a list of functions without shapes or Raises

Computed from the AST; nothing is imported or run.

- file: physical lines of a non-empty .py. function: from `def` to its last line; also methods and nested functions.
- import cycle: the largest strongly connected set of files, by imports at module level, then also by those inside
  functions. Imports under TYPE_CHECKING are ignored, and so is that a package's __init__ runs before its modules.
- typed: all arguments except self and cls, and the return value (except of __init__), are annotated.
- tensors: an annotation of an argument or of the return value names Tensor, other than as a state by name
  (Mapping[str, Tensor]), which has no single shape. A shape is documented if the docstring of the function, or of its
  class, contains a tuple such as (B, C, h, w) or (B,), or the words "scalar" or "same / any / in shape"; or if the
  annotation itself contains it (Float[Tensor, "B C h w"]). core: outside of cli and recipes.
- public: neither its name nor its class's has a leading underscore (dunder methods are public), and it is not nested in
  a function. raises: it contains a `raise` other than a bare one; documented: "Raises" in its docstring or its class's.
"""

import argparse
import ast
import re
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

EDGES = ("cli/", "recipes/")  # folders outside the core
Function = ast.FunctionDef | ast.AsyncFunctionDef
SIZE = r"(?:\.\.\.|…|[A-Za-z0-9_]+(?: ?[-+*/×] ?[A-Za-z0-9_]+| or [A-Za-z0-9_]+)*)"
TUPLE = re.compile(rf"\(({SIZE}(?:, ?{SIZE})+|{SIZE},)\)")
ONE_AXIS = re.compile(r"\.\.\.|…|\d.*|[A-Za-z]\d?\b.*")  # a number or a letter, unlike in (width, height)
WORDS = re.compile(r"\bscalars?\b|\b(?:same|any|in) shapes?\b", re.IGNORECASE)
STATE = re.compile(r"(?:Mapping|dict)\[str, (?:torch\.)?Tensor\]")
ANNOTATED = re.compile(r"\[(?:torch\.)?Tensor, ['\"]")


@dataclass(frozen=True)
class Found:
    """A function with its location and its documentation."""

    where: str
    node: Function
    public: bool
    docstring: str  # with its class's

    @property
    def arguments(self) -> list[ast.arg]:
        declared = self.node.args
        named = [*declared.posonlyargs, *declared.args, *declared.kwonlyargs, declared.vararg, declared.kwarg]
        return [argument for argument in named if argument and argument.arg not in ("self", "cls")]

    @property
    def annotations(self) -> list[str]:
        annotations = [*(argument.annotation for argument in self.arguments), self.node.returns]
        return [ast.unparse(annotation) for annotation in annotations if annotation]

    @property
    def is_typed(self) -> bool:
        returned = self.node.returns is not None or self.node.name == "__init__"
        return returned and all(argument.annotation for argument in self.arguments)

    @property
    def has_tensors(self) -> bool:
        return any(re.search(r"\bTensor\b", STATE.sub("", annotation)) for annotation in self.annotations)

    @property
    def has_shape(self) -> bool:
        tuples = (re.split(r", ?", found[1]) for found in TUPLE.finditer(self.docstring))
        shaped = any(ONE_AXIS.fullmatch(axis) for axes in tuples for axis in axes)
        return shaped or bool(WORDS.search(self.docstring)) or any(map(ANNOTATED.search, self.annotations))

    @property
    def raises(self) -> bool:
        return any(isinstance(node, ast.Raise) and node.exc for node in own_nodes(self.node))


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes inside a function, except those of functions and classes defined in it."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, Function | ast.ClassDef | ast.Lambda):
            yield node
            yield from own_nodes(node)


def functions(path: str, node: ast.AST, public: bool = True, outer: str = "") -> Iterator[Found]:
    """All functions below a node, with the docstring of the class around them."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef):
            shown = public and (not child.name.startswith("_") or child.name.endswith("__"))
            docstring = ast.get_docstring(child) or ""
            if isinstance(child, Function):
                yield Found(f"{path}:{child.lineno} {child.name}", child, shown, f"{docstring}\n{outer}")
                yield from functions(path, child, False)
            else:
                yield from functions(path, child, shown, docstring)
        else:
            yield from functions(path, child, public, outer)


def imports(node: ast.AST, lazy: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from (found for other in child.orelse for found in imports(other, lazy))
        elif lazy or not isinstance(child, Function | ast.Lambda):
            yield from imports(child, lazy)


def graph(trees: dict[Path, ast.Module], root: Path, lazy: bool) -> dict[str, set[str]]:
    """The modules that each module imports, by dotted names that begin with the root's."""
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
        found[name] = {homes[target] for target in names if target in homes} - {name}
    return found


def biggest_cycle(edges: dict[str, set[str]]) -> list[str]:
    """The largest set of modules that all reach one another; empty without a cycle."""
    reached = {start: reachable(edges, start) for start in edges}
    cycles = [sorted(name for name in edges if name in reached[start] and start in reached[name]) for start in edges]
    return max(cycles, key=len, default=[])


def reachable(edges: dict[str, set[str]], start: str) -> set[str]:
    """Modules that a module imports directly or indirectly; itself only if it is part of a cycle."""
    found: set[str] = set()
    waiting = [*edges[start]]
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting += edges[name]
    return found


def spread(values: Iterable[int]) -> str:
    """Median, 95th percentile and maximum."""
    ordered = sorted(values)
    if not ordered:
        return "none"
    high = statistics.quantiles(ordered, n=20, method="inclusive")[-1] if len(ordered) > 1 else ordered[-1]
    return f"{statistics.median(ordered):g}/{high:.0f}/{ordered[-1]}"


def measure(root: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The table by the names of its rows, and the lists for `--list`."""
    trees = {path: ast.parse(text) for path in sorted(root.rglob("*.py")) if (text := path.read_text("utf-8")).strip()}
    found = [function for path, tree in trees.items() for function in functions(str(path.relative_to(root)), tree)]
    lines = [len(path.read_text("utf-8").splitlines()) for path in trees]
    folders: dict[Path, int] = {}
    for path in trees:
        folders[path.parent] = folders.get(path.parent, 0) + 1
    fullest = max(folders, key=lambda folder: folders[folder])
    cycles = [biggest_cycle(graph(trees, root, lazy)) for lazy in (False, True)]
    tensors = [function for function in found if function.has_tensors]
    shapeless = [function for function in tensors if not function.has_shape]
    raising = [function for function in found if function.public and function.raises]
    undocumented = [function for function in raising if "Raises" not in function.docstring]
    core = [function for function in tensors if function.public and not function.where.startswith(EDGES)]
    table = {
        "files": f"{len(trees)}, {sum(lines)} lines",
        "file, lines (median/p95/max)": spread(lines),
        "function, lines": spread((function.node.end_lineno or 0) - function.node.lineno + 1 for function in found),
        "biggest import cycle, files (with lazy imports)": f"{len(cycles[0])} ({len(cycles[1])})",
        "functions fully typed, %": f"{100 * sum(function.is_typed for function in found) / max(1, len(found)):.1f}",
        "arguments": spread(len(function.arguments) for function in found),
        "files per folder (median/max)": f"{statistics.median(folders.values()):g}/{folders[fullest]} ({fullest.name})",
        "functions with tensors, without shapes": f"{len(shapeless)} of {len(tensors)}",
        "  public ones of the core": f"{sum(not function.has_shape for function in core)} of {len(core)}",
        "public functions that raise, without Raises": f"{len(undocumented)} of {len(raising)}",
    }
    listed = {
        "in a cycle": cycles[1],
        "no shape": [function.where for function in shapeless],
        "no Raises": [function.where for function in undocumented],
    }
    return table, listed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    home = Path(__file__).parent.parent / "src" / "maquette"
    parser.add_argument(
        "folder", type=Path, nargs="?", default=home, help="folder of the package; by default maquette's"
    )
    parser.add_argument(
        "--list", action="store_true", help="list the files in a cycle, and the functions without shapes or Raises"
    )
    arguments = parser.parse_args()
    if not any(arguments.folder.rglob("*.py")):
        parser.error(f"{str(arguments.folder)!r} contains no Python files")
    table, listed = measure(arguments.folder.resolve())
    width = max(map(len, table))
    for name, value in table.items():
        print(f"{name:{width}}  {value}")
    for name, places in listed.items() if arguments.list else ():
        print(f"\n{name}:", *places, sep="\n  ")


if __name__ == "__main__":
    main()
