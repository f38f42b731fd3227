"""Rules on the source, as benchmarks/structure.py measures it: shapes, Raises, no import cycles, no full folders."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def measured() -> tuple[dict[str, str], dict[str, list[str]]]:
    spec = importlib.util.spec_from_file_location("structure", ROOT / "benchmarks" / "structure.py")
    assert spec is not None and spec.loader is not None
    structure = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(structure)
    return structure.measure(ROOT / "src" / "maquette")


@pytest.mark.parametrize("fault", ["in a cycle", "no shape", "no Raises"])
def test_nothing_is_listed(measured, fault) -> None:
    """No import cycle, no function of tensors without their shapes, no public one that raises without saying so."""
    assert measured[1][fault] == []


def test_a_folder_can_be_read_at_a_glance() -> None:
    folders = {path.parent for path in (ROOT / "src" / "maquette").rglob("*.py")}
    full = {folder.name: count for folder in folders if (count := len(list(folder.glob("*.py")))) > 16}
    assert not full, "15 files and __init__ at most"
