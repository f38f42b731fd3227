"""Loading of networks: from any file that holds their weights, and from no other."""

import numpy as np
import pytest
import torch
from maquette_diorama import WEIGHTS
from safetensors.torch import load_file, save_file
from tests.unit.conditions.random_weights import by_formula, write_random

import maquette as mq
from maquette.conditions.networks.mlsd import Large
from maquette.conditions.networks.perception import Perception, PerceptionModel
from maquette.errors import MaquetteError

SCENE = 11


@pytest.fixture
def tensors(tmp_path) -> dict[str, torch.Tensor]:
    return torch.load(write_random("mlsd", tmp_path), weights_only=True)


def detected(weights) -> np.ndarray:
    detector = mq.Detector("mlsd", weights, device="cpu")
    return np.asarray(detector(mq.diorama.scene(SCENE).image, resolution=128))


def test_however_the_weights_are_kept_the_map_is_the_same(tensors, tmp_path) -> None:
    expected = detected(tmp_path / "mlsd.pth")
    assert expected.any()
    torch.save({"state_dict": {f"module.{name}": value for name, value in tensors.items()}}, tmp_path / "wrapped.pth")
    save_file(tensors, tmp_path / "other.safetensors")
    folder = tmp_path / "folder"
    folder.mkdir()
    torch.save(tensors, folder / "mlsd_tiny_512_fp32.pth")
    for weights in (tmp_path / "wrapped.pth", tmp_path / "other.safetensors", folder):
        assert np.array_equal(detected(weights), expected)


def test_the_network_follows_from_the_weights(tensors, tmp_path) -> None:
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in Large().state_dict().items()}
    torch.save(by_formula(shapes), tmp_path / "large.pth")
    assert not np.array_equal(detected(tmp_path / "large.pth"), detected(tmp_path / "mlsd.pth"))


def test_weights_of_another_network_are_refused(tmp_path) -> None:
    path = write_random("lineart", tmp_path)
    with pytest.raises(
        MaquetteError, match=r"holds no weights of hed: (\d+) of its \1 tensors are missing .*'norm' first"
    ):
        mq.Detector("hed", path, device="cpu")


def test_a_tensor_of_another_shape_is_refused(tensors, tmp_path) -> None:
    tensors["block16.conv3.bias"] = torch.zeros(5)
    torch.save(tensors, tmp_path / "bent.pth")
    with pytest.raises(MaquetteError, match="1 of its 252 tensors are missing or of another shape, and 0 are unexp"):
        mq.Detector("mlsd", tmp_path / "bent.pth", device="cpu")


def test_a_folder_without_them_is_refused(tmp_path) -> None:
    with pytest.raises(MaquetteError, match=r"holds no weights of hed: none of ControlNetHED\.pth"):
        mq.Detector("hed", tmp_path, device="cpu")


def test_loading_uses_no_randomness(tmp_path) -> None:
    path = write_random("mlsd", tmp_path)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    mq.Detector("mlsd", path, device="cpu")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_unexpected_tensors_are_counted_separately(tensors, tmp_path) -> None:
    torch.save(tensors | {"one": torch.zeros(1), "two": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(MaquetteError, match=r"0 of its 252 tensors .* and 2 are unexpected, 'one' first"):
        mq.Detector("mlsd", tmp_path / "more.pth", device="cpu")


def test_loading_the_perception_model_uses_no_randomness() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    PerceptionModel()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_perception_model_is_its_file_in_float32() -> None:
    tensors = load_file(WEIGHTS / "perception.safetensors")
    network = Perception().eval()
    network.load_state_dict({name: value.float() for name, value in tensors.items()})
    model = PerceptionModel()
    assert {value.dtype for value in model.network.parameters()} == {torch.float32}
    pixels = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        expected, found = network(pixels), model.network(pixels)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
