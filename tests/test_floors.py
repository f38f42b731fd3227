"""A file imports only from lower floors, folders on one floor do not import each other, and no import comes back.

Imports inside functions count as those at the top.
"""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "maquette"

FLOORS = [
    {"errors", "foundation"},
    {"arithmetic", "conditions", "diorama", "formats", "noise", "text"},
    {"backbones", "data", "metrics"},
    {"base", "controlnet"},
    {"annotation", "checkpoints", "sampling"},
    {"training", "evaluation"},
    {"studio", "study", "baselines"},
    {"ablation", "recipes"},
    {"cli"},
]
"""From the ground up; what stands in one set is on one floor."""

FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
FLOOR_MATES = {("foundation", "errors"), ("conditions", "diorama")}  # the pairs where one may know the other


def imports(path: Path) -> set[str]:
    """Folders and top-level files of maquette that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = [
                f"{node.module}.{alias.name}" if node.module == "maquette" else node.module or ""
                for alias in node.names
            ]
        found |= {name.split(".")[1] for name in names if name.startswith("maquette.")}
    return found


def files() -> list[Path]:
    """Every file of a floor; `__init__` and `__main__` at the top stand above all of them."""
    return [path for path in sorted(SOURCE.rglob("*.py")) if path.parent != SOURCE or path.stem in FLOOR]


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    home = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    assert home in FLOOR, f"{home} stands on no floor"
    for other in imports(path) - {home}:
        below = FLOOR[other] < FLOOR[home] or (home, other) in FLOOR_MATES
        assert below, f"{path.relative_to(SOURCE)} (floor {FLOOR[home]}) imports {other} (floor {FLOOR[other]})"


def test_every_folder_has_a_floor() -> None:
    folders = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    assert folders <= set(FLOOR)


def imported_files(path: Path) -> set[Path]:
    """Files of maquette that a file imports, inside functions too."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            inside = [name for name in submodules if file_of(name)]
            names = inside if len(inside) == len(submodules) else [node.module, *inside]
        found |= {file for name in names if (file := file_of(name))}
    return found - {path}


def file_of(module: str) -> Path | None:
    """The file of a module of maquette."""
    home, _, rest = module.partition(".")
    place = SOURCE.joinpath(*rest.split(".")) if rest else SOURCE
    candidates = (place.with_suffix(".py"), place / "__init__.py") if home == "maquette" else ()
    return next((file for file in candidates if file.is_file()), None)


def test_no_import_comes_back() -> None:
    """Removing, again and again, every file that imports none of those left leaves nothing."""
    left = {path: imported_files(path) for path in files()}
    left = {path: {one for one in imported if one in left} for path, imported in left.items()}
    while leaves := {path for path, imported in left.items() if not imported & left.keys()}:
        left = {path: imported for path, imported in left.items() if path not in leaves}
    assert not left, f"these import each other in a circle: {sorted(str(path.relative_to(SOURCE)) for path in left)}"
