"""Metrics against independent truths: closed forms, slow loops, scipy, transformers and the published networks.

`published_inception.json` was made by pytorch-fid 0.3.0 with torchvision 0.28 and torch 2.13 on a CPU, its network
filled by `random_weights.by_formula`: the SHA-256 of the lines "name [shape]" of its state dict (without counters),
sorted, and at ten evenly spread places what each stage answers to `pattern` of 200×120.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm
from tests.unit.conditions.random_weights import by_formula
from tests.unit.conditions.test_published_networks import pattern
from tests.unit.metrics.tiny_judges import write_clip, write_head
from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

from maquette.conditions.drawing.people import People, from_coco
from maquette.errors import MaquetteError
from maquette.metrics import condition_maps, keypoints
from maquette.metrics.clip import Aesthetic, Clip, clip_scores
from maquette.metrics.frechet import frechet_distance, frechet_interval
from maquette.metrics.inception import FEATURES, UNUSED, Inception, InceptionNetwork
from maquette.metrics.kernel import kernel_distance, kernel_interval
from maquette.metrics.maps import ssim

PUBLISHED = json.loads(Path(__file__).with_name("published_inception.json").read_text())


def features(count: int, width: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(count, width)), rng.normal(0.3, 1.2, (count + 5, width)) @ rng.normal(size=(width, width))


@pytest.mark.parametrize("count", [200, 12])
def test_the_frechet_distance_is_that_of_the_root_of_the_product(count: int) -> None:
    a, b = features(count)
    root = sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    spread = np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(((a.mean(0) - b.mean(0)) ** 2).sum() + spread, abs=1e-6)


def test_a_singular_covariance_is_no_exception() -> None:
    """Ten images in 64 dimensions: of equal sets the distance is 0, and of shifted ones the shift's."""
    a = np.random.default_rng(0).normal(size=(10, 64))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 0.5) == pytest.approx(64 * 0.25)


def test_the_kernel_distance_is_that_of_all_pairs() -> None:
    a, b = features(12)

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 8 + 1) ** 3)

    def inside(rows: np.ndarray) -> float:
        return float(np.mean([kernel(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j]))

    between = np.mean([kernel(x, y) for x in a for y in b])
    assert kernel_distance(a, b) == pytest.approx(inside(a) + inside(b) - 2 * between)


def test_the_kernel_distance_of_equal_distributions_is_zero_on_average_at_any_size() -> None:
    """A Fréchet distance is not: it falls with the size."""
    rng = np.random.default_rng(1)
    found = [kernel_distance(rng.normal(size=(10, 8)), rng.normal(size=(10, 8))) for _ in range(400)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))
    assert frechet_distance(*rng.normal(size=(2, 10, 8))) > 2


def test_intervals_of_whole_sets_hold_the_truth() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(60):
        found = kernel_interval(rng.normal(size=(60, 4)), rng.normal(size=(60, 4)), draws=60)
        covered += found.low <= 0 <= found.high
    assert covered >= 51
    few = frechet_interval(rng.normal(size=(500, 4)), rng.normal(1, 1, (500, 4)), draws=30)
    assert few.low < 4 < few.high


def test_ssim_is_that_of_each_window() -> None:
    rng = np.random.default_rng(0)
    a = rng.random((24, 31))
    b = np.clip(a + rng.normal(0, 0.2, a.shape), 0, 1)
    weights = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    window = np.outer(weights, weights) / weights.sum() ** 2
    padded = [np.pad(image, 5, mode="reflect") for image in (a, b)]
    scores = []
    for top in range(a.shape[0]):
        for left in range(a.shape[1]):
            x, y = (image[top : top + 11, left : left + 11] for image in padded)
            mean_x, mean_y = (window * x).sum(), (window * y).sum()
            var_x, var_y = (window * (x - mean_x) ** 2).sum(), (window * (y - mean_y) ** 2).sum()
            both = (window * (x - mean_x) * (y - mean_y)).sum()
            light = (2 * mean_x * mean_y + 1e-4) / (mean_x**2 + mean_y**2 + 1e-4)
            scores.append(light * (2 * both + 9e-4) / (var_x + var_y + 9e-4))
    assert ssim(a, b) == pytest.approx(np.mean(scores), abs=1e-9)
    assert ssim(a, a) == pytest.approx(1)
    with pytest.raises(MaquetteError, match="windows of 11 pixels a side, and these images are 8×10"):
        ssim(np.zeros((10, 8)), np.zeros((10, 8)))


def test_ssim_fid_and_kid_are_those_of_torchmetrics() -> None:
    """Where it is installed."""
    torchmetrics = pytest.importorskip("torchmetrics")
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    a, b = map(torch.from_numpy, features(200))
    theirs = _compute_fid(a.mean(0), a.T.cov(), b.mean(0), b.T.cov()).item()
    assert frechet_distance(a.numpy(), b.numpy()) == pytest.approx(theirs, abs=1e-4)
    equal = b[: len(a)]
    assert kernel_distance(a.numpy(), equal.numpy()) == pytest.approx(poly_mmd(a, equal, 3, None, 1.0).item(), abs=1e-4)
    x, y = torch.rand(2, 1, 1, 40, 50, dtype=torch.float64)
    score = torchmetrics.functional.image.structural_similarity_index_measure(x, y, data_range=1.0).item()
    assert ssim(x[0, 0].numpy(), y[0, 0].numpy()) == pytest.approx(score, abs=1e-4)


def grey(levels: np.ndarray) -> Image.Image:
    return Image.fromarray(levels.astype(np.uint8)).convert("RGB")


def test_depth_by_error_and_ratio() -> None:
    truth = np.tile(np.linspace(50, 250, 64), (64, 1))
    assert condition_maps.depth_error(grey(truth), grey(truth)) == 0
    assert condition_maps.depth_error(grey(truth - 25), grey(truth)) == pytest.approx(25 / 255, abs=1e-3)
    assert condition_maps.depth_ratio(grey(truth / 2), grey(truth)) == 1  # a scale is fitted
    assert condition_maps.depth_ratio(grey(np.full((64, 64), 9)), grey(truth)) < 0.6  # flat: the mean is fitted
    off = truth.copy()
    off[:16] = 255  # a quarter at the near end: 50 and 255 are apart, 250 and 255 are not
    assert 0.6 < condition_maps.depth_ratio(grey(off), grey(truth)) < 1


def test_normals_by_angle() -> None:
    def towards(degrees: float) -> Image.Image:
        vector = np.array([np.sin(np.radians(degrees)), 0, np.cos(np.radians(degrees))])
        return Image.fromarray(np.tile(((vector + 1) * 127.5).round().astype(np.uint8), (8, 8, 1)))

    assert condition_maps.normal_error(towards(30), towards(0)) == pytest.approx(30, abs=1)
    assert np.isnan(condition_maps.normal_error(towards(0), grey(np.full((8, 8), 127))))


def test_pixels_without_a_class_do_not_count() -> None:
    truth = np.zeros((4, 8, 3), np.uint8)
    truth[:, :4], truth[:, 4:6] = (200, 0, 0), (0, 200, 0)  # the rest is nothing, black
    found = truth.copy()
    found[:, 6:] = (0, 0, 200)
    found[:2, 4:6] = (200, 0, 0)
    score = (Image.fromarray(found), Image.fromarray(truth))
    assert condition_maps.accuracy(*score) == pytest.approx(20 / 24)
    assert condition_maps.labelled_classes(*score) == pytest.approx((16 / 20 + 4 / 8) / 2)
    assert np.isnan(condition_maps.accuracy(score[0], Image.new("RGB", (8, 4))))


def person(x: float = 0.0, visible: int = 17) -> np.ndarray:
    points = np.zeros((17, 3))
    points[:, 0], points[:, 1] = x + np.arange(17) * 5, np.arange(17) * 10
    points[:visible, 2] = 1
    return points


def people(*points: np.ndarray) -> People:
    return People.of_bodies(from_coco(np.array(points).reshape(-1, 17, 3)), (400, 400))


def test_key_points_by_coco_s_similarity() -> None:
    """exp(-d² / (2 (2σ)² area)) over the visible points, with 0.53 of the box as the area."""
    moved = person()
    moved[:, 0] += 6
    area = 0.53 * 80 * 160
    expected = np.mean(np.exp(-36 / (2 * (2 * keypoints.SIGMAS) ** 2 * area)))
    assert keypoints.oks(people(moved), people(person())) == pytest.approx(expected)
    assert keypoints.oks(people(person()), people(person())) == pytest.approx(1)
    half = keypoints.oks(people(person(visible=9)), people(person()))
    assert half == pytest.approx(9 / 17)  # those that are not found count 0
    assert keypoints.oks(people(person(200), person()), people(person())) == pytest.approx(1)  # the nearest counts
    assert keypoints.oks(people(person()), people(person(), person(200))) == pytest.approx(0.5, abs=1e-6)  # and once
    assert keypoints.oks(people(), people(person())) == 0
    assert np.isnan(keypoints.oks(people(person()), people()))


def test_correct_key_points_are_within_a_tenth_of_the_longer_side() -> None:
    moved = person()
    moved[:5, 0] += 15.9
    moved[5:8, 0] += 16.1  # of 160 pixels
    assert keypoints.pck(people(moved), people(person())) == pytest.approx(14 / 17)
    assert np.isnan(keypoints.pck(people(), people()))


def test_inception_is_the_published_network() -> None:
    with torch.device("meta"):
        network = InceptionNetwork().eval()
    named = [name for name in network.state_dict() if not UNUSED.match(name)]
    shapes = {name: tuple(network.state_dict()[name].shape) for name in named}
    classifier = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}
    lines = sorted(f"{name} {list(shape)}" for name, shape in (shapes | classifier).items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == PUBLISHED["tensors"]
    network.load_state_dict(by_formula(shapes), assign=True)
    judge = Inception.__new__(Inception)
    judge.network = network
    for count in FEATURES:
        found = judge.features([pattern(200, 120)], count)
        assert found.shape == (1, count)
        places = np.linspace(0, count - 1, 10).astype(int)
        assert found[0, places] == pytest.approx(PUBLISHED[str(count)], rel=1e-4, abs=1e-4)


def test_clip_is_that_of_transformers(tmp_path) -> None:
    folder = write_clip(tmp_path / "clip")
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (h, w, 3), np.uint8)) for h, w in ((40, 61), (90, 33), (32, 32))]
    texts = ["a b c", "d " * 100, "e"]
    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPImageProcessor.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(texts, padding=True, truncation=True, max_length=16, return_tensors="pt")
    with torch.no_grad():
        pixels = torch.cat([processor(image, return_tensors="pt").pixel_values for image in images])
        out = model(pixel_values=pixels, **tokens)
    expected = (out.image_embeds * out.text_embeds).sum(1).clamp(min=0).numpy()
    judge = Clip(str(folder))
    found = clip_scores(judge.images(images), judge.texts(texts))
    assert found == pytest.approx(expected.tolist(), abs=1e-4)
    assert max(found) > 0.01


@pytest.mark.parametrize("layers", [1, 5])
def test_the_aesthetic_head_is_a_stack_of_linear_layers(layers: int, tmp_path) -> None:
    path, head = write_head(tmp_path / "head.pth", 8, layers)
    vectors = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    with torch.no_grad():
        expected = head.eval()(torch.from_numpy(vectors))[:, 0].tolist()
    assert Aesthetic(str(path), 8)(vectors) == pytest.approx(expected, abs=1e-4)
    with pytest.raises(MaquetteError, match=r"reads vectors of 8 numbers, and this CLIP's have 768; give the CLIP"):
        Aesthetic(str(path), 768)


def test_weights_that_are_missing_or_of_others_are_told(tmp_path) -> None:
    with pytest.raises(MaquetteError, match=r"needs weights, and there is no '.*fid.pth'; give a file or folder"):
        Inception(str(tmp_path / "fid.pth"))
    torch.save({"weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    with pytest.raises(MaquetteError, match="holds no weights of inception"):
        Inception(str(tmp_path / "other.pth"))
    with pytest.raises(MaquetteError, match="is no head of an aesthetic score: it holds weight"):
        Aesthetic(str(tmp_path / "other.pth"), 2)
    with pytest.raises(MaquetteError, match="needs a folder as transformers saves networks"):
        Clip(str(tmp_path / "other.pth"))
    (tmp_path / "second.pth").write_bytes((tmp_path / "other.pth").read_bytes())
    with pytest.raises(MaquetteError, match=r"needs one file of weights, and .* holds other.pth, second.pth"):
        Inception(str(tmp_path))
