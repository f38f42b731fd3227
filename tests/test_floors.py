"""A file imports only from lower floors, and folders on one floor do not import each other."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "maquette"

FLOORS = [
    {"errors", "foundation"},
    {"backbones", "conditions", "diorama", "formats", "noise"},
    {"controlnet", "data", "metrics", "text"},
    {"base"},
    {"checkpoints", "sampling"},
    {"training", "evaluation"},
    {"recipes"},
    {"cli"},
]
"""From the ground up; what stands in one set is on one floor."""

FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
FLOOR_MATES = {("foundation", "errors")}  # the one pair where one may know the other


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
