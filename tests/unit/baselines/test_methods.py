"""What all comparison methods promise: resumed = unbroken, the same picture in any batch, sentences for mistakes."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import tiny_base
from tests.tiny_sd3 import tiny_sd3
from tests.unit.baselines.conftest import CONDITION, tiny

import maquette as mq
from maquette.baselines.protocol import Budget, runs_of_seeds
from maquette.baselines.registry import METHODS, TRAINED, load, make
from maquette.conditions.drawing.class_maps import class_map
from maquette.controlnet.network import ControlNet
from maquette.controlnet.save import save
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.weights import open_weights

BUDGET = Budget(steps=6, batch_size=2, keep_every=2)


@dataclass(frozen=True)
class Failing:
    """Pairs of which only so many can be read, as if the process ended then."""

    pairs: Any
    left: list[int]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pairs, name)

    def __len__(self) -> int:
        return len(self.pairs)

    def pair(self, *arguments: Any) -> Any:
        self.left[0] -= 1
        if self.left[0] < 0:
            raise KeyboardInterrupt
        return self.pairs.pair(*arguments)


@pytest.fixture(scope="module", params=TRAINED)
def trained(request, base, scenes, tmp_path_factory):
    """Name, folder and method, trained for a few steps."""
    folder = tmp_path_factory.mktemp(request.param)
    method = tiny(request.param, base)
    method.train(scenes[CONDITION[request.param]], BUDGET, folder)
    return request.param, folder, method


def request_of(name: str, scenes: dict[str, Any], seeds: list[int]) -> tuple[list[str], list[Any], list[int]]:
    """Prompts, maps and seeds."""
    pairs = scenes[CONDITION[name]]
    takes_text = METHODS[name].takes_text
    return (
        [pairs.text(row) * takes_text for row in range(len(seeds))],
        [pairs.standard(r) for r in range(len(seeds))],
        seeds,
    )


@pytest.mark.parametrize(("pairs_read", "left"), [(5, 10), (11, 4)])  # of 12; in an early stage, and within the last
def test_a_resumed_training_equals_an_unbroken_one(trained, pairs_read, left, base, scenes, tmp_path) -> None:
    """And it does not begin anew: it reads no more pairs than are left since the last state."""
    name, _, whole = trained
    pairs = scenes[CONDITION[name]]
    with pytest.raises(KeyboardInterrupt):
        tiny(name, base).train(Failing(pairs, [pairs_read]), BUDGET, tmp_path)
    resumed = tiny(name, base)
    resumed.train(Failing(pairs, [left]), BUDGET, tmp_path)
    expected, found = whole.networks.state_dict(), resumed.networks.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    fresh = tiny(name, base).networks.state_dict()
    assert any(not torch.equal(fresh[key], found[key]) for key in fresh)


def test_the_stages_take_all_steps(trained) -> None:
    for total in (1, 7, 4500):
        assert sum(length for _, length in trained[2].lengths(total)) == total


def test_a_seed_gives_the_same_picture_alone_and_in_any_batch(trained, scenes) -> None:
    name, _, method = trained
    prompts, maps, seeds = request_of(name, scenes, [3, 4, 9])
    together = [np.asarray(one, int) for one in method.pictures(prompts, maps, seeds)]
    alone = [method.pictures(prompts[n : n + 1], maps[n : n + 1], seeds[n : n + 1])[0] for n in range(3)]
    for one, other in zip(together, alone, strict=True):
        assert np.abs(one - np.asarray(other, int)).max() <= 1
    assert np.abs(together[0] - together[1]).max() > 1


def test_a_loaded_method_makes_the_same_pictures(trained, base, scenes) -> None:
    name, folder, method = trained
    request = request_of(name, scenes, [3])
    loaded = load(folder, base)
    assert (loaded.name, loaded.condition, loaded.parameters) == (name, CONDITION[name], method.parameters)
    assert loaded.pictures(*request)[0].tobytes() == method.pictures(*request)[0].tobytes()
    with pytest.warns(MaquetteWarning, match="was trained on another base"):
        load(folder, tiny_base("diorama", "v_prediction", seed=5, context=96))


def test_the_picture_depends_on_the_map(trained, scenes) -> None:
    name, _, method = trained
    prompts, maps, seeds = request_of(name, scenes, [3, 3])
    one, other = method.pictures([prompts[0]] * 2, maps, seeds)
    assert one.tobytes() != other.tobytes()


def test_a_run_goes_on_only_as_it_began(trained, base, scenes) -> None:
    name, folder, method = trained
    with pytest.raises(MaquetteError, match="began with steps = 6, not 7"):
        method.train(scenes[CONDITION[name]], Budget(steps=7, batch_size=2, keep_every=2), folder)


def test_training_leaves_the_base_alone(trained, base) -> None:
    assert base.hash() == tiny_base("diorama", "v_prediction", context=96).hash()


def test_the_base_and_a_controlnet_answer_the_protocol(base, scenes, tmp_path) -> None:
    """The base's pictures are those of `generate`; a new ControlNet, whose zero layers are zero, gives the same."""
    prompts, maps, seeds = request_of("sketch-guided", scenes, [5, 6])
    plain = load("base", base)
    expected = mq.generate(base, prompts, seed=5, batch_size=2, record=False)
    found = plain.pictures(prompts, maps, seeds)
    assert [one.tobytes() for one in found] == [one.tobytes() for one in expected]
    for variant in ("zero", "gaussian", "lite", "channels"):
        net = ControlNet.attach(base, variant=variant)
        save(net, tmp_path / variant)
        method = load(tmp_path / variant, base)
        assert method.parameters == sum(weight.numel() for weight in net.parameters())
        steered = method.pictures(prompts, maps, seeds)
        same = [one.tobytes() for one in steered] == [one.tobytes() for one in expected]
        assert same == (variant in ("zero", "lite", "channels"))
    for one, said in ((plain, "learns nothing"), (method, "maquette train")):
        with pytest.raises(MaquetteError, match=said):
            one.train(scenes["canny"], BUDGET, tmp_path)


@pytest.mark.parametrize(
    ("make_it", "said"),
    [
        (lambda base: make("pity", base, "segmentation"), "no comparison method 'pity'; did you mean 'piti'"),
        (lambda base: make("sketch-guided", base, "depth"), r"takes edges \(canny, scribble\), not 'depth'"),
        (lambda base: make("taming", base, "canny"), "takes class maps"),
        (lambda base: make("ldm", base, "canny"), "takes class maps"),
        (lambda base: make("ldm", base, "segmentation", palette="paint"), "no palette 'paint'"),
        (lambda base: make("piti", base, "canny", depth=3), "no setting of 'piti' 'depth'"),
        (lambda base: make("sketch-guided", base, "canny", until=2.0), "until"),
        (lambda base: make("piti", tiny_sd3(t5=False), "canny"), "for U-Nets"),
        (lambda base: make("controlnet", base, "canny"), "maquette train"),
        (lambda base: Budget(steps=0), "steps"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(make_it, said, base) -> None:
    with pytest.raises(MaquetteError, match=said):
        make_it(base)


def test_mistakes_in_a_request_are_told(base, scenes, tmp_path) -> None:
    method, pairs = tiny("ldm", base), scenes["segmentation"]
    one = pairs.standard(0)
    with pytest.raises(MaquetteError, match="128×128 pixels on this base, not 64×128"):
        method.pictures([""], [one.crop((0, 0, 64, 128))], [0])
    with pytest.raises(MaquetteError, match="not 1, 1 and 2"):
        method.pictures([""], [one], [0, 1])
    with pytest.raises(MaquetteError, match="0 or more, not -1"):
        method.pictures([""], [one], [-1])
    with pytest.raises(MaquetteError, match="colours of the palette 'diorama' alone"):
        method.pictures([""], [pairs.image(0, pairs.views()[0])], [0])
    with pytest.raises(MaquetteError, match="the pairs show 'canny'"):
        method.train(scenes["canny"], BUDGET, tmp_path)
    with pytest.warns(MaquetteWarning, match="takes no text"):
        method.pictures(["a house"], [one], [0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method.pictures([""], [one], [0])


def test_a_damaged_folder_is_told(trained, base, tmp_path) -> None:
    _, folder, _ = trained
    (tmp_path / "method.json").write_text((folder / "method.json").read_text())
    with pytest.raises(MaquetteError, match="cannot be read"):
        load(tmp_path, base)
    (tmp_path / "method.json").write_text("[]")
    with pytest.raises(MaquetteError, match="describes no comparison method"):
        load(tmp_path, base)
    assert len(open_weights(folder / "method.safetensors"))


def test_seeds_are_batched_in_order() -> None:
    seeds = [5, 6, 7, 8, 3, 4, 4, 9]
    slices = [seeds[rows] for rows in runs_of_seeds(seeds, 3)]
    assert slices == [[5, 6, 7], [8], [3, 4], [4], [9]]
    assert list(runs_of_seeds([], 3)) == []


def test_classes_are_read_from_their_colours(scenes) -> None:
    from maquette.baselines.classes import class_numbers, one_hot
    from maquette.foundation.pixels import to_unit

    numbers = scenes["segmentation"].fields[0][:2]
    maps = torch.stack([to_unit(class_map(one)) for one in numbers])
    assert np.array_equal(class_numbers(maps, "diorama").numpy(), numbers)
    assert torch.equal(one_hot(maps, "diorama").argmax(dim=1), class_numbers(maps, "diorama"))
