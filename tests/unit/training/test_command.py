"""`maquette train`: flags, help and `--set` are generated from the settings."""

import re

import pytest
from tests.own_pairs import write_pairs
from typer.testing import CliRunner

from maquette.cli.main import app
from maquette.errors import MaquetteError
from maquette.foundation.declared import settings_of
from maquette.training import loop
from maquette.training.config import TrainingConfig


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """The configuration that a command line produces, without training."""
    monkeypatch.chdir(tmp_path)
    found = []

    def stop(config: TrainingConfig) -> None:
        found.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "train", stop)

    def parse(*arguments: str) -> TrainingConfig:
        result = CliRunner().invoke(app, ["train", *arguments, "--output", "run"])
        if isinstance(result.exception, MaquetteError):
            raise result.exception
        assert result.exit_code == 130, result.output
        return found.pop()

    return parse


def expected(**changes) -> TrainingConfig:
    return TrainingConfig(condition="canny", output="run", **changes)


def test_flags(settings) -> None:
    """One flag of each type."""
    flags = (
        "--max-steps 5 --learning-rate 3e-4 --decay cosine --no-cache --compile --cache-folder x "
        "--optimizer-name adamw8bit"
    )
    assert settings("diorama/canny", *flags.split()) == expected(
        max_steps=5,
        learning_rate=3e-4,
        decay="cosine",
        cache=False,
        compile=True,
        cache_folder="x",
        optimizer_name="adamw8bit",
    )
    mixed = settings("diorama/canny", "--connect", "middle", "--reconnect", "7", "--size", "[128, 64]")
    assert mixed == expected(connect="middle", reconnect=7, size=(128, 64))
    assert settings("diorama/canny", "--size", "128x64") == settings("diorama/canny", "--set", "data.size=128x64")
    assert settings("diorama/canny", "--size", "128x64").data.size == (128, 64)
    assert settings("diorama/canny", "--connect", "middle", "--reconnect", "converged").model.reconnect == "converged"


def test_a_resumed_run_names_the_data_that_it_was_started_on(settings, tmp_path) -> None:
    for folder in ("mine", "others"):
        write_pairs(tmp_path / folder, 2)
    TrainingConfig(condition="rings", data="mine", output="run").save(tmp_path / "run" / "training.json")
    assert settings("mine", "--resume").data.source == settings(str(tmp_path / "mine"), "--resume").data.source
    for other in ("others", "nonsense", "diorama/canny"):
        with pytest.raises(MaquetteError, match=f"trains on mine, not on {other}"):
            settings(other, "--resume")


def test_set_with_and_without_a_table(settings) -> None:
    for name in ("optimizer.learning_rate", "learning_rate"):
        assert settings("diorama/canny", "--set", f"{name}=3e-4") == expected(learning_rate=3e-4)
    with pytest.raises(MaquetteError, match=r"optimizer\.ema is below 1, not 2; warmup is .*; --batch-size is a whole"):
        settings("diorama/canny", "--batch-size", "0", "--set", "optimizer.ema=2", "--set", "warmup=-1")


def test_flags_override_set_and_set_overrides_the_file(settings, tmp_path) -> None:
    (tmp_path / "mine.toml").write_text(
        'condition = "canny"\n[optimizer]\nlearning_rate = 1e-5\nema = 0.5\nwarmup = 1\n'
    )
    found = settings(
        "mine.toml", "--set", "ema=0.6", "--set", "optimizer.learning_rate=2e-5", "--learning-rate", "3e-5"
    )
    assert found == expected(learning_rate=3e-5, ema=0.6, warmup=1)


def test_help_has_every_setting(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = re.sub(r"\x1b\[[\d;]*m", "", CliRunner().invoke(app, ["train", "--help"]).output)
    for flat in settings_of(TrainingConfig):
        assert re.search(rf"--(no-)?{flat.replace('_', '-')}\b", shown), flat
