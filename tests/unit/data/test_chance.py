import numpy as np
import pytest
from PIL import Image
from tests.unit.conditions.random_weights import write_random

import maquette as mq
from maquette.conditions.drawing.doodles import doodle
from maquette.conditions.drawing.synthesis import synthesised
from maquette.conditions.registry import detector_spec, detectors
from maquette.data import diorama
from maquette.data.crop import CropView
from maquette.data.random_detectors import DRAWS, draw_named, random_detector
from maquette.data.random_options import OptionChances, options_problem
from maquette.diorama import dataset
from maquette.errors import MaquetteError


def test_any_detector_can_compute_training_conditions() -> None:
    image = mq.diorama.scene(7).image
    assert draw_named("softedge")(image, np.random.default_rng(0)) == mq.detect("softedge", image)
    assert draw_named("canny") is DRAWS["canny"]


def test_a_detector_that_takes_a_seed_uses_the_generator_passed_in(monkeypatch) -> None:
    monkeypatch.setattr(detectors, "_entries", dict(detectors._entries))
    mq.register_detector("grain", lambda image, seed=None: Image.new("RGB", image.size, ((seed or 0) % 256, 0, 0)))
    detect, image = draw_named("grain"), Image.new("RGB", (4, 4))
    first, again, other = (detect(image, np.random.default_rng(seed)).getpixel((0, 0)) for seed in (1, 1, 2))
    assert first == again != other
    assert detect(image, None).getpixel((0, 0)) == (0, 0, 0)


def test_missing_weights_fail_on_opening(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MaquetteError, match="hed needs"):
        draw_named("hed")


def drawn(given: dict, name: str = "canny", count: int = 200) -> list[dict]:
    spec = detector_spec(name)
    chances = OptionChances.of(spec, given)
    return [chances.draw(spec, np.random.default_rng((0, step, 1))) for step in range(count)]


def test_options_are_drawn_from_their_ranges() -> None:
    options = drawn({"low": "uniform(20, 120)", "high": "choice(130, 240.5)"})
    lows = [each["low"] for each in options]
    assert 20 <= min(lows) < 25 and 115 < max(lows) <= 120 and len(set(lows)) == 200
    assert {each["high"] for each in options} == {130, 240.5}
    assert not any("seed" in each for each in options)  # it would override both thresholds
    widths = drawn({"width": "uniform(2, 5)", "source": "choice(softedge, 'xdog')"}, "scribble")
    assert {each["width"] for each in widths} == {2, 3, 4, 5}  # whole numbers for a whole option
    assert {each["source"] for each in widths} == {"softedge", "xdog"}
    assert len({each["seed"] for each in widths}) == 200


def test_draws_depend_on_the_generator_and_not_on_the_order_of_the_options() -> None:
    given = {"low": "uniform(20, 120)", "high": "uniform(120, 240)"}
    assert drawn(given) == drawn(dict(reversed(given.items())))


def test_constants_are_passed_on_and_take_no_randomness() -> None:
    image = mq.diorama.scene(7).image
    detect = draw_named("canny", {"low": 40, "high": 90.5})
    assert detect(image, np.random.default_rng(0)) == detect(image) == mq.detect("canny", image, low=40, high=90.5)
    assert drawn({"seed": "none", "width": 4}, "scribble", 1) == [{"seed": None, "width": 4}]
    assert drawn({"safe": True}, "softedge", 1) == [{"safe": True}]
    assert "seed" not in drawn({"source": "drawing"}, "scribble", 1)[0]  # cleaning has nothing to draw


def test_maps_for_measurements_are_of_the_middle_of_each_range() -> None:
    image = mq.diorama.scene(7).image
    detect = draw_named("canny", {"low": "uniform(20, 120)", "high": "choice(240, 130)"})
    assert detect(image) == mq.detect("canny", image, low=70, high=240)
    detect = draw_named("scribble", {"source": "softedge", "width": "uniform(2, 5)"})
    assert detect(image) == mq.detect("scribble", image, source="softedge", width=3)


@pytest.mark.parametrize("source", ["softedge", "xdog"])
def test_scribbles_of_soft_edges_are_the_papers_synthesis(source) -> None:
    image = mq.diorama.scene(7).image
    scribbled = draw_named("scribble", {"source": source})(image, np.random.default_rng(5))
    soft = np.asarray(mq.detect(source, image).convert("L")) / 255
    expected = synthesised(soft.astype(np.float32), 3, int(np.random.default_rng(5).integers(2**31)))
    assert np.array_equal(np.asarray(scribbled.convert("L")), expected)


def test_hed_scribbles_use_the_weights_given_and_fail_at_once_without(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    image = mq.diorama.scene(7).image
    weights = str(write_random("hed", tmp_path))
    detect = draw_named("scribble", {"source": "hed"}, weights)
    soft = np.asarray(mq.detect("hed", image, weights=weights, device="cpu").convert("L")) / 255
    expected = synthesised(soft.astype(np.float32), 3, int(np.random.default_rng(5).integers(2**31)))
    assert np.array_equal(np.asarray(detect(image, np.random.default_rng(5)).convert("L")), expected)
    with pytest.raises(MaquetteError, match="hed needs"):
        draw_named("scribble", {"source": "choice(softedge, hed)"})
    with pytest.raises(MaquetteError, match='has weights for source="hed"'):
        draw_named("scribble", {"source": "softedge"}, weights)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"low": 3000}, "canny: low is a number from 0 to 2040, not 3000"),
        ({"low": "uniform(-5, 100)"}, "canny: low is a number from 0 to 2040, not -5"),
        ({"low": "uniform(20, 120)", "high": "uniform(100, 240)"}, "low ≤ high, not low=120 and high=100"),
        ({"low": "uniform(20, 300)"}, "low ≤ high, not low=300 and high=200"),
        ({"lo": 3}, "no option of canny 'lo'; did you mean 'low'"),
        ({"low": "wide"}, "low is a number from 0 to 2040, not 'wide'"),
    ],
)
def test_what_does_not_fit_a_detector_is_refused_at_the_start(given, message) -> None:
    with pytest.raises(MaquetteError, match=message):
        draw_named("canny", given)


@pytest.mark.parametrize(
    "value",
    [
        "unifrom(1, 2)", "uniform(1, 2", "uniform(1)", "uniform(2, 1)", "uniform(1, 1)", "uniform(1, 2, 3)",
        "uniform(a, b)", "uniform(0, inf)", "uniform(1, nan)", "choice(1)", "choice(1, )", "choice(1, [2])",
        "choice(1, choice(2, 3))", "uniform(1, 2) + 1", "__import__('os')", "", [1, 2], None, {"low": 1},
    ],
)  # fmt: skip
def test_the_grammar_is_strict(value) -> None:
    problem = options_problem({"low": value})
    assert problem is not None and problem.startswith(f"has low = {value!r}; an option is a value, uniform(a, b)")
    with pytest.raises(MaquetteError, match="cannot be drawn; an option is a value"):
        OptionChances.of(detector_spec("canny"), {"low": value})


def test_words_name_the_options_as_given() -> None:
    def words(name, *more):
        return str(random_detector(name, *more))

    assert words("canny", {"high": "uniform(120, 240)", "low": 20}) == "low = 20, high = uniform(120, 240)"
    assert words("scribble", {"source": "hed"}, "a.pth") == "source = hed, weights = a.pth, a seed for each image"
    assert words("scribble", {"seed": 3}) == "seed = 3"
    assert words("softedge", None) == ""


def test_the_diorama_draws_its_own_maps_unless_told_otherwise(tmp_path, monkeypatch) -> None:
    """Edges with drawn thresholds; scribbles along all that is seen, or around things alone, about as often."""
    monkeypatch.setattr(dataset, "SHARD", 8)
    rng = np.random.default_rng
    edges = diorama.Pairs.load("canny", range(8), tmp_path)
    assert edges.condition_map(3, CropView(), rng(4)) == DRAWS["canny"](edges.image(3, CropView()), rng(4))
    plain = diorama.Pairs.load("scribble", range(8), tmp_path)
    image = plain.image(3, CropView())
    assert plain.standard(3) == plain.ground_truth(3) == DRAWS["scribble"](image)
    outlines = [rng(seed).random() < diorama.DOODLES for seed in range(20)]
    assert 5 < sum(outlines) < 15
    for seed, outlined in enumerate(outlines):
        draws = rng(seed)
        draws.random()
        expected = doodle(mq.diorama.scene(3).classes, 3, draws) if outlined else DRAWS["scribble"](image, draws)
        assert plain.condition_map(3, CropView(), rng(seed)) == expected
    chosen = diorama.Pairs.load("scribble", range(8), tmp_path, draw_named("scribble", {"source": "softedge"}))
    assert chosen.condition_map(3, CropView(), rng(4)) == draw_named("scribble", {"source": "softedge"})(image, rng(4))
    assert chosen.ground_truth(3) == plain.ground_truth(3)


def test_held_out_scenes_for_poses_show_people(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(dataset, "SHARD", 8)
    pairs, rows = diorama.held_out_pairs("pose", 4, tmp_path)
    assert len(rows) == 4
    assert all(pairs.standard(row).getbbox() for row in rows)
    skipped = set(range(rows[-1])) - set(rows)
    assert skipped and not any(pairs.standard(row).getbbox() for row in skipped)
    assert diorama.held_out_pairs("depth", 4, tmp_path)[1] == [0, 1, 2, 3]
