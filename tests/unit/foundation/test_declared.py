"""Declared settings: checks, documentation and command-line flags follow from the fields."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from maquette.errors import MaquetteError
from maquette.foundation.declared import REQUIRED, Declared, setting, settings_of
from maquette.foundation.flags import Given, read_flags, with_flags


@dataclass(frozen=True)
class Oven(Declared):
    heat: float = setting(180.0, "Degrees Celsius.", 0, 300)
    door: Literal["open", "shut"] = setting("shut", "How it stands.")
    log: Path | None = setting(None, "Where to.", flat="oven_log")


@dataclass(frozen=True)
class Kitchen:
    cook: str = setting(REQUIRED, "Who.")
    hours: tuple[int, ...] = (8, 20)
    loud: bool = False
    oven: Oven = field(default_factory=Oven)


def test_parts_are_found_by_flat_name_and_by_path() -> None:
    known = settings_of(Kitchen)
    assert [(flat, setting.path) for flat, setting in known.items()] == [
        ("cook", "cook"), ("hours", "hours"), ("loud", "loud"),
        ("heat", "oven.heat"), ("door", "oven.door"), ("oven_log", "oven.log"),
    ]  # fmt: skip
    assert [known[name].range for name in ("heat", "door", "oven_log")] == ["0 to 300", "open, shut", "Path"]
    assert [known[name].usual for name in ("heat", "loud", "oven_log", "cook")] == ["180", "false", "", ""]


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(MaquetteError, match=r"^heat is a number from 0 to 300, not 301; door cannot be 'ajar'"):
        Oven(heat=301, door="ajar")  # type: ignore[arg-type]
    assert Oven(log="here").log == Path("here")  # type: ignore[arg-type]


def test_later_settings_override_earlier_ones() -> None:
    before = Given.of(Kitchen, {"cook": "Ada", "oven": {"heat": 100, "door": "open"}})
    given = Given.of(Kitchen, {"oven.heat": 200}, {"oven.heat": "--heat"}).over(before)
    assert given.values == {"cook": "Ada", "heat": 200, "door": "open"}
    assert given.typed == {"cook": "cook", "heat": "--heat", "door": "oven.door"}
    assert Given.of(Kitchen, {}).missing(Kitchen) == ["cook"]


def test_flags_of_every_type() -> None:
    settings, parsed = settings_of(Kitchen).values(), {}

    def command(**flags: Any) -> None:
        """Cook."""
        parsed.update(read_flags(flags, settings))

    app = typer.Typer()
    app.command()(with_flags(command, settings, required=("cook",)))
    arguments = ["--cook", "7", "--hours", "[9, 12]", "--loud", "--heat", "90", "--oven-log", "x"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert parsed == {"cook": "7", "hours": (9, 12), "loud": True, "heat": 90.0, "oven_log": Path("x")}
    for arguments, problem in (
        (["--cook", "Ada", "--heat", "hot"], "Invalid value for '--heat'"),
        ([], "Missing option '--cook'"),
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 2 and problem in result.output
