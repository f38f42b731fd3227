"""Settings: every problem at once, by the name that was typed."""

import pytest

from maquette.errors import MaquetteError
from maquette.training.config import TrainingConfig, read_settings
from maquette.training.problems import without_effect


def config(**changes) -> TrainingConfig:
    return TrainingConfig(**{"condition": "canny", "output": "runs/x", **changes})


def test_all_problems_are_told_at_once() -> None:
    problems = r"batch_size is .* 1 or more, not 0; .*learning_rate is above 0.*prompt_drop is a number from 0 to 1"
    with pytest.raises(MaquetteError, match=problems):
        config(batch_size=0, learning_rate=0, prompt_drop=2)
    with pytest.raises(MaquetteError, match=r"max_steps is a whole number .* not 1000\.0; .*weight_decay .* not nan"):
        config(max_steps=1e3, weight_decay=float("nan"))
    with pytest.raises(MaquetteError, match="condition cannot be 'cany' on the diorama; did you mean 'canny'"):
        config(condition="cany")
    with pytest.raises(MaquetteError, match="kind cannot be 'zer'; did you mean 'zero'"):
        config(kind="zer")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": 3}, "data is a text, not 3"),
        ({"data": "x", "size": 100}, "size is a multiple of 64 pixels, not 100"),
        ({"data": "x", "size": [512, 0]}, "size is a whole number of 64 or more, or two, not"),
        ({"data": "x", "detect": True, "condition": "rings"}, "detect needs the name of a detector that draws"),
        ({"reconnect": 10}, 'reconnect needs connect = "middle"'),
        ({"reconnect": "sometime"}, "reconnect cannot be 'sometime'; .*Known: converged|reconnect cannot be"),
        ({"connect": "middle", "reconnect": "converged", "evaluate_every": 0}, "needs evaluate_every above 0"),
        ({"keep_best": True, "evaluate_every": 0}, "keep_best needs evaluate_every above 0"),
        ({"ema": 1.0}, "ema is below 1"),
        ({"shard": True, "ema": 0.9}, "shard and ema do not go together"),
        ({"shard": True, "precision": "float16"}, "shard takes the precision"),
        ({"resume": 1}, "resume is true or false, not 1"),
        ({"stop_after": 0, "evaluate_every": 0}, "stop_after needs evaluate_every above 0"),
        ({"unlock": True}, "unlock cannot be True"),
        ({"precision": 16}, "precision cannot be 16"),
        ({"cache_folder": 5}, "cache_folder is a text, not 5"),
        ({"keep_best": True, "unlock": "all"}, "keep_best and unlock do not go together"),
        ({"start_from": "x", "kind": "gaussian"}, "kind is brought by start_from"),
        ({"condition": "pose", "data": "x", "flip": 0.5}, "flip mirrors pictures, and not what the colours of pose"),
        ({"stop_after": -1}, "stop_after is a whole number of 0 or more, not -1"),
    ],
)
def test_what_cannot_be(changes, words) -> None:
    with pytest.raises(MaquetteError, match=words):
        config(**changes)


def test_settings_from_a_file_are_told_of_together(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('condition = "canny"\noutput = "runs/x"\nlearning_rate = 3e-4  # found by trying\n')
    assert TrainingConfig.of(read_settings(path)).learning_rate == 3e-4
    path.write_text('condtion = "canny"\nbatch_size = "32"\nresume = 1\n')
    with pytest.raises(MaquetteError) as error:
        TrainingConfig.of(read_settings(path))
    for words in (
        "There is no setting 'condtion'; did you mean 'condition'",
        "condition is missing; output is missing",
        "batch_size is a whole number of 1 or more, not '32'",
        "resume is true or false, not 1",
    ):
        assert words in str(error.value)
    for broken in ("= 3", "[1", b"\xff\xfe"):
        path.write_bytes(broken if isinstance(broken, bytes) else broken.encode())
        with pytest.raises(MaquetteError, match="is neither TOML nor"):
            read_settings(path)


def test_a_problem_has_the_name_that_was_typed() -> None:
    given = {"condition": "canny", "output": "x", "batch_size": 0, "warmup": -1}
    with pytest.raises(MaquetteError, match=r"--batch-size is a whole .*warmup is"):
        TrainingConfig.of(given, {"batch_size": "--batch-size"})


def test_what_was_kept_is_what_was_given(tmp_path) -> None:
    given = config(output=tmp_path, data="pairs", size=(128, 64), connect="middle", reconnect="converged", unlock="all")
    given.save(tmp_path / "training.json")
    assert TrainingConfig.load(tmp_path / "training.json") == given


def test_settings_without_effect_are_named() -> None:
    assert without_effect(config()) == []
    assert without_effect(config(flip=0.5, unlock_at=3)) == [
        "flip has no effect without data.",
        "unlock_at has no effect without unlock.",
    ]
    assert without_effect(config(connect="middle", reconnect=1000)) == [
        "reconnect has no effect at 1000, after the last step."
    ]
    assert without_effect(config(data="x", scenes=3)) == ["scenes has no effect with data of one's own."]
