"""Settings: all problems are reported at once, under the names that were typed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.declared import settings_of
from maquette.foundation.flags import read_flags
from maquette.foundation.settings import read_named
from maquette.training.config import TrainingConfig, read_settings
from maquette.training.parts import OptimizerConfig
from maquette.training.validation import without_effect


def config(**changes) -> TrainingConfig:
    return TrainingConfig(**{"condition": "canny", "output": "runs/x", **changes})


def test_all_problems_are_reported_at_once() -> None:
    problems = r"batch_size is .* 1 or more, not 0; .*learning_rate is above 0.*prompt_drop is a number from 0 to 1"
    with pytest.raises(MaquetteError, match=problems):
        config(batch_size=0, learning_rate=0, prompt_drop=2)
    with pytest.raises(MaquetteError, match=r"max_steps is a whole number .* not 1000\.0; .*weight_decay .* not nan"):
        config(max_steps=1e3, weight_decay=float("nan"))
    with pytest.raises(MaquetteError, match="condition cannot be 'cany' on the diorama; did you mean 'canny'"):
        config(condition="cany")
    with pytest.raises(MaquetteError, match="variant cannot be 'zer'; did you mean 'zero'"):
        config(variant="zer")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": 3}, "data is a text, not 3"),
        ({"data": "x", "size": 100}, "size is a multiple of 64 pixels, not 100"),
        ({"data": "x", "size": [512, 0]}, "size is a whole number of 64 or more, or two, not"),
        (
            {"data": "x", "detect": True, "condition": "rings"},
            "detect needs a condition that names a detector of maps, not 'rings'",
        ),
        ({"blocks": 2, "start_from": "x"}, "blocks is determined by start_from"),
        ({"reconnect": 10}, 'reconnect needs connect = "middle"'),
        ({"reconnect": "sometime"}, "reconnect cannot be 'sometime'; .*Known: converged|reconnect cannot be"),
        ({"connect": "middle", "reconnect": "converged", "evaluate_every": 0}, "needs evaluate_every above 0"),
        ({"keep_best": True, "evaluate_every": 0}, "keep_best needs evaluate_every above 0"),
        ({"ema": 1.0}, "ema is below 1"),
        ({"shard": True, "ema": 0.9}, "shard and ema cannot be combined"),
        ({"shard": True, "precision": "float16"}, "shard needs precision"),
        ({"resume": 1}, "resume is true or false, not 1"),
        ({"stop_after": 0, "evaluate_every": 0}, "stop_after needs evaluate_every above 0"),
        ({"unlock": True}, "unlock cannot be True"),
        ({"precision": 16}, "precision cannot be 16"),
        ({"cache_folder": 5}, "cache_folder is a text, not 5"),
        ({"keep_best": True, "unlock": "all"}, "keep_best and unlock cannot be combined"),
        ({"keep_every": 5, "unlock": "all"}, "keep_every and unlock cannot be combined"),
        ({"start_from": "x", "variant": "gaussian"}, "variant is determined by start_from"),
        (
            {"condition": "pose", "data": "x", "flip": 0.5},
            "flip mirrors images but not the meaning of the colours of pose",
        ),
        (
            {"detect_options": {"low": 3000}},
            "detect_options cannot be drawn: canny: low is a number from 0 to 2040, not 3000",
        ),
        (
            {"condition": "softedge", "data": "x", "detect": True, "detect_options": {"sigma": "uniform(0, 2)"}},
            r"detect_options cannot be drawn: softedge: sigma is a number from 0\.1 to 20, not 0",
        ),
        (
            {"detect_options": {"low": "unifrom(1, 2)"}},
            r"detect_options has low = 'unifrom\(1, 2\)'; an option is a value, uniform\(a, b\)",
        ),
        ({"detect_weights": "x"}, "detect_weights cannot be used: canny takes no weights"),
        (
            {"condition": "hed", "data": "x", "detect": True, "detect_device": "cuda", "workers": 2},
            "detect_device other than cpu needs workers = 0",
        ),
        (
            {"condition": "segmentation", "data": "x", "detect": True, "palette": "ade20k"},
            "palette is of condition maps that are read, and detect computes them",
        ),
        ({"stop_after": -1}, "stop_after is a whole number of 0 or more, not -1"),
    ],
)
def test_invalid_settings(changes, message) -> None:
    with pytest.raises(MaquetteError, match=message):
        config(**changes)


def test_problems_of_a_file_are_reported_together(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('condition = "canny"\noutput = "x"\n[optimizer]\nlearning_rate = 3e-4  # found by trying\n')
    assert TrainingConfig.of(read_settings(path)).optimizer.learning_rate == 3e-4
    path.write_text('condtion = "canny"\nresume = 1\n[data]\nbatch_size = "32"\n[optimizer]\nlearningrate = 1\n')
    with pytest.raises(MaquetteError) as error:
        TrainingConfig.of(read_settings(path))
    for message in (
        "There is no setting 'condtion'; did you mean 'condition'",
        "condition is missing (on the command line --condition); output is missing (on the command line --output)",
        "data.batch_size is a whole number of 1 or more, not '32'",
        "There is no setting 'optimizer.learningrate'; did you mean 'optimizer.learning_rate'",
        "resume is true or false, not 1",
    ):
        assert message in str(error.value)
    for broken in ("= 3", "[1", b"\xff\xfe"):
        path.write_bytes(broken if isinstance(broken, bytes) else broken.encode())
        with pytest.raises(MaquetteError, match="is neither TOML nor"):
            read_settings(path)


def test_a_problem_has_the_name_that_was_typed() -> None:
    given = {"condition": "canny", "output": "x", "batch_size": 0, "warmup": -1}
    with pytest.raises(MaquetteError, match=r"--batch-size is a whole .*warmup is"):
        TrainingConfig.of(given, {"batch_size": "--batch-size"})


def test_saved_settings_are_loaded_unchanged(tmp_path) -> None:
    saved = config(output=tmp_path, data="pairs", size=(128, 64), connect="middle", reconnect="converged", unlock="all")
    saved.save(tmp_path / "training.json")
    assert TrainingConfig.load(tmp_path / "training.json") == saved


def test_settings_without_effect_are_named() -> None:
    assert without_effect(config().items()) == []
    assert without_effect(config(flip=0.5, unlock_at=3).items()) == [
        "flip has no effect without data.",
        "unlock_at has no effect without unlock.",
    ]
    assert without_effect(config(connect="middle", reconnect=1000).items()) == [
        "reconnect has no effect at 1000, after the last step."
    ]
    assert without_effect(config(prompt_conflict=0.5, prompt_drop=1.0).items()) == [
        "prompt_conflict has no effect with prompt_drop = 1: no prompt is left."
    ]
    assert without_effect(config(data="x", crop="random", cache_folder="y").items()) == [
        "cache_folder has no effect with random crops, which are not cached."
    ]
    assert without_effect(config(data="x", scenes=3).items()) == ["scenes has no effect with custom data."]


BOUNDS = {
    **dict.fromkeys(("checkpoint_every", "scenes", "batch_size", "shuffle_window", "accumulation"), 1),
    **dict.fromkeys(("held_out", "blocks", "reconnect"), 1),
    **dict.fromkeys(("workers", "unlock_at", "warmup", "evaluate_every", "stop_after", "keep_every"), 0),
}
SHARES = ("flip", "prompt_drop", "prompt_conflict", "condition_drop", "broken")
POSITIVE = ("learning_rate", "clip", "unlock_learning_rate")
NONNEGATIVE = ("weight_decay", "ema", "min_snr")
SWITCHES = (
    "resume", "detect", "outside", "buckets", "categorical", "cache", "keep_best", "gradient_checkpointing", "compile",
    "shard",
)  # fmt: skip
TEXTS = (
    "condition", "output", "base", "data", "image_column", "condition_column", "text_column", "cache_folder",
    "start_from", "track", "device", "detect_weights", "detect_device",
)  # fmt: skip
CHOICES = (
    "prediction",
    "crop",
    "palette",
    "encoder",
    "connect",
    "variant",
    "unlock",
    "decay",
    "optimizer_name",
    "precision",
)
WRONG = [
    *((name, low - 1, f"{name} is a whole number of {low} or more, not {low - 1}") for name, low in BOUNDS.items()),
    *((name, value, f"{name} is a number from 0 to 1, not {value}") for name in SHARES for value in (-0.1, 1.1)),
    *((name, 0, f"{name} is above 0, not 0") for name in POSITIVE),
    *((name, -1, f"{name} is a number of 0 or more, not -1") for name in (*POSITIVE, *NONNEGATIVE)),
    *((name, "yes", f"{name} is true or false, not 'yes'") for name in SWITCHES),
    *((name, 3, f"{name} is a text, not 3") for name in TEXTS),
    *((name, "paper-like", f"{name} cannot be 'paper-like'") for name in CHOICES),
    ("detect_options", 3, "detect_options is a table of a detector's options, such as {low = "),
    ("max_steps", 0, "max_steps is a whole number from 1 to 1,000,000,000,000, not 0"),
    ("max_steps", 10**30, "max_steps is a whole number from 1 to 1,000,000,000,000, not 1"),
    ("seed", -1, "seed is a whole number from 0 to 9,223,372,036,854,775,807, not -1"),
    ("seed", 2**64, "seed is a whole number from 0 to 9,223,372,036,854,775,807, not 18446744073709551616"),
    ("size", 32, "size is a whole number of 64 or more, or two, not 32"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_each_setting_has_its_bounds(name, value, message) -> None:
    with pytest.raises(MaquetteError) as error:
        config(**{name: value})
    assert message in str(error.value)


def test_the_bounds_of_every_setting_are_tested() -> None:
    assert {name for name, _, _ in WRONG} == set(settings_of(TrainingConfig))


def test_parts_check_themselves() -> None:
    with pytest.raises(MaquetteError, match=r"^learning_rate is above 0, not 0; ema is below 1, not 1\.5\.$"):
        OptimizerConfig(learning_rate=0, ema=1.5)


def test_options_of_the_detector_come_from_files_flags_and_python(tmp_path) -> None:
    options = {"low": "uniform(20, 120)", "high": "uniform(120, 240)"}
    (tmp_path / "table.toml").write_text(
        'condition = "canny"\noutput = "runs/x"\n[data.detect_options]\nlow = "uniform(20, 120)"\n'
        'high = "uniform(120, 240)"\n'
    )
    text = '{high = "uniform(120, 240)", low = "uniform(20, 120)"}'
    (tmp_path / "inline.toml").write_text(f'condition = "canny"\noutput = "runs/x"\n[data]\ndetect_options = {text}\n')
    flags = dict.fromkeys(settings_of(TrainingConfig)) | {"detect_options": text}
    typed = read_flags(flags, settings_of(TrainingConfig).values())
    named = read_named([f"data.detect_options={text}"], "--set", "")
    expected = config(detect_options=options)
    assert expected.data.detect_options == options
    assert expected == config(data={"detect_options": options}) == config(**typed) == config(**named)
    for name in ("table", "inline"):
        assert TrainingConfig.of(read_settings(tmp_path / f"{name}.toml")) == expected
    expected.save(tmp_path / "training.json")
    assert TrainingConfig.of(read_settings(tmp_path / "training.json")) == expected


def test_options_of_a_detector_that_does_not_run_are_named() -> None:
    def idle(**changes) -> list[str]:
        return without_effect(config(detect_options={"resolution": 64}, **changes).items())

    assert idle(condition="depth") == ["detect_options has no effect on the diorama's depth, which is exact."]
    assert idle(data="x") == ["detect_options has no effect without detect."]
    assert idle(data="x", condition="hed", detect=True) == []


def test_flat_names_tables_and_parts_are_equivalent() -> None:
    flat = config(data="pairs", learning_rate=3e-4, optimizer_name="adamw8bit")
    assert flat.data.source == "pairs" and flat.optimizer.name == "adamw8bit"
    assert flat == config(data={"source": "pairs"}, optimizer={"learning_rate": 3e-4, "name": "adamw8bit"})
    assert flat == config(data={"source": Path("pairs")}, optimizer=OptimizerConfig(3e-4, name="adamw8bit"))
    assert flat == TrainingConfig.of(
        {"condition": "canny", "output": "runs/x", "data.source": "pairs", "optimizer.learning_rate": 3e-4}
        | {"optimizer.name": "adamw8bit"}
    )
    assert replace(config(), learning_rate=3e-4, data="pairs", optimizer_name="adamw8bit") == flat


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 1, "optimizer": {"learning_rate": 1}}, "are the same setting; give one of them"),
        ({"model": 3}, "model is a table of settings: [model], or model.start_from = ..."),
        ({"optmizer.ema": 0.9}, "There is no table 'optmizer'; did you mean 'optimizer'"),
        ({"optimizer.ema": 2}, "optimizer.ema is below 1, not 2"),
        ({"shrad": True}, "There is no setting 'shrad'; did you mean 'shard'"),
        ({"model": {"reconnect": 5}}, 'model.reconnect needs connect = "middle"'),
    ],
)
def test_unknown_and_ambiguous_names(changes, message) -> None:
    with pytest.raises(MaquetteError) as error:
        config(**changes)
    assert message in str(error.value)


def test_a_file_of_version_0_1_is_read_with_a_warning(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('condition = "rings"\noutput = "x"\ndata = "pairs"\nema = 0.9\nwarmup = 3\n')
    now = r"\[data\] source \(was data\); \[optimizer\] ema, warmup\.$"
    with pytest.warns(MaquetteWarning, match=rf"mine\.toml' has settings as version 0\.1 wrote them; .*: {now}"):
        settings = TrainingConfig.of(read_settings(path))
    assert settings == TrainingConfig(condition="rings", output="x", data="pairs", ema=0.9, warmup=3)


def test_a_run_of_version_0_1_is_read(tmp_path) -> None:
    """It has all settings in one table, unset ones as null."""
    given = config(output=tmp_path, optimizer_name="adamw8bit", size=None, seed=3)
    old = {"optimizer_name": "optimiser", "variant": "kind", "image_column": "picture_column"}
    kept = {old.get(s.flat, s.flat): value for s, value in given.items()}
    (tmp_path / "training.json").write_text(json.dumps(kept, default=str))
    with pytest.warns(MaquetteWarning, match=r"\[optimizer\] .*name \(was optimiser\)"):
        assert TrainingConfig.load(tmp_path / "training.json") == given


def test_what_a_resumed_run_may_change() -> None:
    """Only what does not affect the result; with cosine decay, the last step does."""
    constant, cosine = (
        {s.flat for s, _ in c.items() if s.may_differ_in(c)} for c in (config(), config(decay="cosine"))
    )
    assert cosine == {
        "output", "resume", "device", "checkpoint_every", "accumulation", "workers", "cache", "cache_folder", "shard",
        "track", "gradient_checkpointing", "compile", "detect_device", "keep_every",
    }  # fmt: skip
    assert constant == {*cosine, "max_steps"}
