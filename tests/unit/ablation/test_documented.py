"""The commands that the pages show ask for studies that can run."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from maquette.cli.ablate import EXAMPLE, request_of
from maquette.cli.main import app

ROOT = Path(__file__).parent.parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN = [command for page in PAGES for command in re.findall(r"maquette ablate \w+ [^`\n]*", page.read_text())]


def test_every_study_has_a_command_on_its_page() -> None:
    page = (ROOT / "docs" / "tables.md").read_text()
    for study in ("design", "pairs", "guidance", "composition", "methods", "convergence"):
        assert f"maquette ablate {study} -o" in page


@pytest.mark.parametrize("command", [EXAMPLE, *dict.fromkeys(SHOWN)])
def test_the_command_is_understood(command, recwarn) -> None:
    _, _, *words = shlex.split(command, comments=True)
    ablate = typer.main.get_command(app).commands["ablate"]
    typed = ablate.make_context("ablate", list(words)).params  # which takes the words away
    typed.pop("only_estimate")
    assert request_of(**typed).study == words[0]
    assert not recwarn.list, "a setting has no effect"
