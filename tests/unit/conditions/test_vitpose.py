"""RT-DETR and ViTPose against transformers called plainly, on tiny random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.unit.conditions.tiny_pose import SEEN, write_tiny

import maquette as mq
from maquette.conditions.networks.person_crop import Window
from maquette.conditions.networks.vitpose import DEVIATION, MEAN, VitPose, _key_points, peaks_of
from maquette.errors import MaquetteError

PERSON = 0.5
SIZE = (SEEN["width"], SEEN["height"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_tiny("pose", tmp_path_factory.mktemp("pose"))


@pytest.fixture(scope="module")
def finder(folder) -> VitPose:
    return VitPose(folder / "boxes", folder / "points", "cpu")


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    scene = mq.diorama.scene(3).image
    return [scene, scene.resize((90, 200)), scene.crop((0, 30, 128, 40)), mq.diorama.scene(4).image]


def plain_boxes(folder: Path, image: Image.Image) -> torch.Tensor:
    from transformers import RTDetrForObjectDetection, RTDetrImageProcessorPil

    processor = RTDetrImageProcessorPil.from_pretrained(folder / "boxes")
    with torch.no_grad():
        seen = RTDetrForObjectDetection.from_pretrained(folder / "boxes")(**processor(image, return_tensors="pt"))
    found = processor.post_process_object_detection(seen, PERSON, target_sizes=[image.size[::-1]])[0]
    return found["boxes"][found["labels"] == 1]


def test_boxes_are_transformers_own(folder, finder, images) -> None:
    for image in images:
        expected = plain_boxes(folder, image)
        with torch.no_grad():
            found = finder._find([np.asarray(image)], PERSON)[0]
        assert len(found)
        assert np.allclose(found, expected, atol=1e-3)


def test_crops_and_points_are_transformers_own(folder, finder, images) -> None:
    pytest.importorskip("scipy", reason="the library's own crops and reading of heat maps need SciPy")
    from transformers import VitPoseForPoseEstimation, VitPoseImageProcessorPil

    processor = VitPoseImageProcessorPil.from_pretrained(folder / "points")
    network = VitPoseForPoseEstimation.from_pretrained(folder / "points")
    for image in images:
        corners = plain_boxes(folder, image).numpy()
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        inputs = processor(image, boxes=[boxes], return_tensors="pt")
        windows = [Window.around(box, SIZE) for box in corners]
        crops = np.stack([finder._crop(np.asarray(image), window) for window in windows])
        expected = inputs["pixel_values"].permute(0, 2, 3, 1).numpy() * DEVIATION + MEAN
        apart = np.abs(crops / 255 - expected)
        assert np.median(apart) < 0.004
        assert (apart < 0.05).mean() > 0.97  # the rest is the image's border, which SciPy does not blend

        with torch.no_grad():
            seen = network(**inputs)
        plain = processor.post_process_pose_estimation(seen, boxes=[boxes])[0]
        heat = seen.heatmaps.numpy()
        found = _key_points(list(heat), windows)
        pixel = np.array([(window.width / 11, window.height / 15) for window in windows])[:, None]
        expected = np.stack([pose["keypoints"] for pose in plain])
        hottest = np.stack(np.unravel_index(heat.reshape(*heat.shape[:2], -1).argmax(-1), heat.shape[2:])[::-1], -1)
        corner = np.array([window[:2] for window in windows])[:, None]
        bounded = (np.abs(expected - corner - hottest * pixel) <= pixel).all(axis=-1)  # the library's step is not
        assert bounded.mean() > 0.6
        assert (np.abs(found[..., :2] - expected) < 0.01 * pixel)[bounded].all()
        assert (np.abs(found[..., :2] - corner - hottest * pixel) <= 1.001 * pixel).all()
        assert np.allclose(found[..., 2], np.clip(np.stack([pose["scores"] for pose in plain]), 0, 1))


def test_many_together_are_found_as_each_alone(finder, images) -> None:
    together = finder(images * 5, PERSON)  # more than a batch of either network
    assert sum(map(len, together)) > 32
    for number, people in enumerate(together):
        alone = finder([images[number % len(images)]], PERSON)[0]
        assert people.size == images[number % len(images)].size
        assert np.allclose(people.body, alone.body, atol=1e-2)


def test_nobody_is_found_where_no_box_is_sure_enough(finder, images) -> None:
    assert [len(people) for people in finder(images, 1.0)] == [0, 0, 0, 0]


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3)])
def test_slips_of_images(finder, size: tuple[int, int]) -> None:
    people = finder([Image.new("RGB", size, "red")], PERSON)[0]
    assert np.isfinite(people.body).all()


def test_peaks_lie_between_pixels() -> None:
    places = np.random.default_rng(0).uniform((3, 3), (44, 60), (17, 2))
    y, x = np.mgrid[:64, :48]
    far = (x - places[:, 0, None, None]) ** 2 + (y - places[:, 1, None, None]) ** 2
    found, confidence = peaks_of((0.8 * np.exp(-far / 8)).astype(np.float32))  # σ = 2 pixels, as ViTPose is trained on
    assert np.abs(found - places).max() < 0.02
    assert (confidence > 0.7).all() and (confidence <= 0.8).all()
    flat, none = peaks_of(np.zeros((1, 64, 48), np.float32))
    assert np.isfinite(flat).all() and none == 0


@pytest.mark.parametrize("unbiased", [False, True])
def test_what_is_seen_in_a_window_is_placed_where_it_is(unbiased: bool) -> None:
    pixels = np.zeros((300, 400, 3), np.uint8)
    pixels[118:123, 207:212] = 255  # the middle is (209, 120)
    size = (96, 128)
    span = (95, 127) if unbiased else size
    window = Window.around(np.array([180, 60, 260, 200]), size)
    assert window.width / window.height == pytest.approx(96 / 128)
    light = window.cut(pixels, size, span)[..., 0].astype(float)
    y, x = np.mgrid[:128, :96]
    seen = np.array([(light * x).sum(), (light * y).sum()]) / light.sum()
    assert np.allclose(window.to_image(seen / span), (209, 120), atol=0.2)  # of pixels 1.4 wide


def test_crops_run_from_the_middle_of_the_first_pixel_to_that_of_the_last(finder) -> None:
    ramp = np.repeat(np.broadcast_to(np.arange(256, dtype=np.uint8), (256, 256))[..., None], 3, axis=2)
    window = Window(40, 10, 150, 200)
    crop = finder._crop(ramp, window)[32, :, 0]
    assert abs(crop[0] - 40) <= 1
    assert abs(crop[-1] - 190) <= 1


def test_weights_that_miss_a_tensor_are_refused(tmp_path) -> None:
    file = write_tiny("pose", tmp_path) / "points" / "model.safetensors"
    tensors = load_file(file)
    del tensors["head.conv.weight"]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(MaquetteError, match=r"lacks 1 tensors of its network, 'head\.conv\.weight' first"):
        VitPose(tmp_path / "boxes", tmp_path / "points", "cpu")


def test_networks_of_something_else_are_refused(folder) -> None:
    with pytest.raises(MaquetteError, match="holds no network of pose"):
        VitPose(folder / "points", folder / "points", "cpu")
    with pytest.raises(MaquetteError, match="holds no network of pose"):
        VitPose(folder / "boxes", folder / "boxes", "cpu")
    with pytest.raises(MaquetteError, match="holds no weights of pose"):
        VitPose(folder / "absent", folder / "points", "cpu")


@pytest.mark.parametrize("part", ["boxes", "points"])
@pytest.mark.parametrize("size", [3, 9, 2000, -1])
def test_truncated_weights_are_refused(tmp_path, part: str, size: int) -> None:
    file = write_tiny("pose", tmp_path) / part / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(MaquetteError, match=r"cut off or broken|holds no weights"):
        VitPose(tmp_path / "boxes", tmp_path / "points", "cpu")


@pytest.mark.parametrize("name", ["boxes/config", "points/config", "boxes/preprocessor_config"])
@pytest.mark.parametrize("content", ["[]", "3", "{", '{"model_type": "vitpose", "backbone_config": [], "size": {}}'])
def test_broken_settings_are_refused(tmp_path, name: str, content: str) -> None:
    (write_tiny("pose", tmp_path) / f"{name}.json").write_text(content)
    with pytest.raises(MaquetteError, match=r"holds no settings|holds no network of|as JSON|'size' in"):
        VitPose(tmp_path / "boxes", tmp_path / "points", "cpu")


def test_unknown_processors_are_refused(tmp_path) -> None:
    path = write_tiny("pose", tmp_path) / "boxes" / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"image_processor_type": 7}))
    with pytest.raises(MaquetteError, match="holds no image processor"):
        VitPose(tmp_path / "boxes", tmp_path / "points", "cpu")
