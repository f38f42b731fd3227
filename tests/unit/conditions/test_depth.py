"""Depth by networks of transformers, on tiny random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.unit.conditions.tiny_models import DEVIATION, MEAN, write_depth_anything, write_tiny
from transformers import AutoModelForDepthEstimation

import maquette as mq
from maquette.conditions.drawing.surfaces import disparity_map
from maquette.conditions.networks.pretrained import Pretrained
from maquette.errors import MaquetteError

NETWORKS = ("depth_anything", "dpt", "dpt_hybrid")
OWN_SIZE = {"depth_anything": (56, 56), "dpt": (64, 64), "dpt_hybrid": (64, 64)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return {name: write_tiny(name, tmp_path_factory.mktemp(name)) for name in NETWORKS}


def photo(size: tuple[int, int]) -> Image.Image:
    return mq.diorama.scene(3).image.resize(size)


def plain_depth(folder: Path, image: Image.Image) -> np.ndarray:
    """What transformers predicts for an image that already has the input size."""
    pixels = (np.asarray(image) / 255 - MEAN) / DEVIATION
    network = AutoModelForDepthEstimation.from_pretrained(folder)
    with torch.no_grad():
        return network(torch.from_numpy(pixels).float().permute(2, 0, 1)[None]).predicted_depth[0].numpy()


@pytest.mark.parametrize("name", NETWORKS)
def test_draws_what_transformers_predicts(folders, name: str) -> None:
    image = photo(OWN_SIZE[name])
    expected = plain_depth(folders[name], image)
    expected = (expected - expected.min()) / np.ptp(expected) * 255
    drawn = np.asarray(mq.detect("depth", image, weights=folders[name], device="cpu", clip=0.0))
    assert np.ptp(drawn) == 255
    assert np.abs(drawn[..., 0] - expected).max() < 1.1
    assert (drawn == drawn[..., :1]).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_of_several_sizes_is_each_alone(folders, name: str) -> None:
    detector = mq.Detector("depth", folders[name], device="cpu")
    images = [photo(size) for size in ((97, 61), (64, 64), (61, 97), (2000, 10), (1, 1), (97, 61))]
    for image, drawn in zip(images, detector(images), strict=True):
        assert drawn.size == image.size
        assert np.abs(np.asarray(detector(image), int) - np.asarray(drawn)).max() <= 1


def test_metric_depth_is_inverted(tmp_path) -> None:
    torch.manual_seed(0)
    folder = write_depth_anything(tmp_path, "metric")
    image = photo((56, 56))
    metres = plain_depth(folder, image)
    drawn = np.asarray(mq.detect("depth", image, weights=folder, device="cpu", clip=0.0))[..., 0]
    assert drawn[np.unravel_index(metres.argmin(), metres.shape)] == 255
    assert drawn[np.unravel_index(metres.argmax(), metres.shape)] == 0
    relative = np.asarray(mq.detect("depth", image, weights=folder, device="cpu", clip=0.0, metric=False))[..., 0]
    assert relative[np.unravel_index(metres.argmax(), metres.shape)] == 255


def test_shapes_are_kept_where_the_network_allows_it(folders) -> None:
    def network(name: str) -> Pretrained:
        return Pretrained("depth", {}, folders[name], "cpu", AutoModelForDepthEstimation)

    assert network("depth_anything").size_of((1000, 500)) == (112, 56)
    assert network("depth_anything").size_of((1000, 500), 140) == (280, 140)
    assert network("dpt").size_of((1000, 500), 96) == (96, 96)


def test_the_hybrid_runs_at_one_size_only(folders) -> None:
    with pytest.raises(MaquetteError, match="only runs at 64 pixels, not at 128"):
        mq.detect("depth", photo((64, 64)), weights=folders["dpt_hybrid"], device="cpu", resolution=128)
    detector = mq.Detector("depth", folders["depth_anything"], device="cpu")
    coarse, fine = (np.asarray(detector(photo((128, 128)), resolution=side)) for side in (64, 128))
    assert not np.array_equal(coarse, fine)


def test_outliers_are_clipped() -> None:
    disparity = np.linspace(0, 1, 10_000).reshape(100, 100)
    disparity[0, 0], disparity[-1, -1] = -50, 50
    assert np.asarray(disparity_map(disparity)).std() < 10
    clipped = np.asarray(disparity_map(disparity, clip=0.01))
    assert clipped.std() > 70
    assert np.asarray(disparity_map(np.full((4, 5), 3.0))).max() == 0


def test_weights_that_lack_a_tensor_are_refused(folders, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    for file in folders["dpt"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["neck.fusion_stage.layers.0.residual_layer1.convolution1.weight"]  # never used
    save_file(tensors, tmp_path / "model.safetensors")
    mq.Detector("depth", tmp_path, device="cpu")
    del tensors["head.head.0.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(MaquetteError, match=r"lacks 1 tensors of its network, 'head\.head\.0\.weight' first"):
        mq.Detector("depth", tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "holds no weights of depth"),
        ("preprocessor_config.json", "how to preprocess images"),
        ("model.safetensors", "no weights beside it"),
    ],
)
def test_incomplete_folders_are_refused(folders, tmp_path, missing: str, message: str) -> None:
    for file in folders["dpt"].iterdir():
        if file.name != missing:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(MaquetteError, match=message):
        mq.Detector("depth", tmp_path, device="cpu")


def test_another_kind_of_network_is_refused(tmp_path) -> None:
    with pytest.raises(MaquetteError, match="holds no network of depth"):
        mq.Detector("depth", write_tiny("caption", tmp_path), device="cpu")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("size", size) for size in ({}, {"longest_edge": 64}, {"height": 64}, {"shortest_edge": "x"}, [64], "x")),
        *(("size", size) for size in (None, 0, -4, True, 1e400, 10**400, {"height": 64, "width": 0})),
        *(("image_mean", three) for three in (None, 0.5, [0.5], ["x"] * 3, [[0.5] * 3], [127.5] * 3, [10**400] * 3)),
        ("image_std", [0, 0.5, 0.5]),
        ("ensure_multiple_of", "x"),
        ("size_divisor", -1),
    ],
)
def test_invalid_preprocessing_is_refused(folders, tmp_path, name: str, value: object) -> None:
    for file in folders["dpt"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(MaquetteError, match=f"'{name}' in .* must be .*, not .*; download the file again"):
        mq.Detector("depth", tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("preprocessor_config.json", "[]"),
        ("preprocessor_config.json", '{"image_processor": 3}'),
        ("config.json", "[]"),
        ("config.json", '{"model_type": "dpt", "num_attention_heads": 0}'),
        ("config.json", '{"model_type": "dpt", "hidden_size": "x"}'),
    ],
)
def test_settings_of_no_network_are_refused(folders, tmp_path, file: str, content: str) -> None:
    for path in folders["dpt"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / file).write_text(content)
    with pytest.raises(MaquetteError, match=r"holds no settings|holds no network of depth"):
        mq.Detector("depth", tmp_path, device="cpu")
