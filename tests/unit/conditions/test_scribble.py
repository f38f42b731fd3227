"""Scribbles from every source, random or not; drawings cleaned."""

import hashlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

import maquette as mq
from maquette.conditions.detectors import scribble as module
from maquette.conditions.detectors.softedge import soft_edges
from maquette.conditions.drawing.morphology import cleaned, dilate, erode, remove_small_components, thickness
from maquette.conditions.drawing.synthesis import crests, mask_some, synthesised
from maquette.errors import MaquetteError

OFFLINE = ["edges", "softedge", "xdog", "drawing"]


def shapes(size: int) -> Image.Image:
    y, x = np.mgrid[:size, :size]
    image = np.stack([x * 255 // size, y * 255 // size, np.full_like(x, 90)], axis=2)
    image[(x - size // 3) ** 2 + (y - size // 3) ** 2 < (size // 5) ** 2] = (250, 240, 230)
    image[size // 2 : size * 7 // 8, size // 2 : size * 3 // 4] = (10, 20, 60)
    return Image.fromarray(image.astype(np.uint8))


@pytest.mark.parametrize(
    ("size", "width", "digest"),
    [
        (128, 3, "47797d68d2a5697a"),
        (128, 6, "764821ee0efcaac5"),
    ],
)
def test_the_usual_scribble_is_what_networks_were_trained_on(size: int, width: int, digest: str) -> None:
    seen = mq.detect("scribble", shapes(size), width=width)
    assert hashlib.sha256(seen.tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize(("size", "seed", "share"), [(128, 1, 0.0787), (128, 2, 0.0406)])
def test_so_is_the_random_scribble(size: int, seed: int, share: float) -> None:
    seen = np.asarray(mq.detect("scribble", shapes(size), seed=seed))
    assert (seen > 0).mean() == pytest.approx(share, abs=5e-4)


@pytest.mark.parametrize("source", OFFLINE)
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (97, 61), (2000, 10)])
def test_any_source_draws_any_size_in_black_and_white(source: str, size: tuple[int, int]) -> None:
    seen = np.asarray(mq.detect("scribble", shapes(400).resize(size), source=source))
    assert seen.shape == (size[1], size[0], 3)
    assert set(np.unique(seen)) <= {0, 255}


@pytest.mark.parametrize("source", OFFLINE)
@pytest.mark.parametrize("level", ["white", "black", (30, 120, 40)])
def test_nothing_is_drawn_of_a_blank_image(source: str, level) -> None:
    assert not np.asarray(mq.detect("scribble", Image.new("RGB", (60, 40), level), source=source)).any()


@pytest.mark.parametrize("source", ["softedge", "xdog"])
def test_a_seed_is_a_scribble(source: str) -> None:
    image = shapes(200)
    drawn = [mq.detect("scribble", image, source=source, seed=seed).tobytes() for seed in (*range(8), 0)]
    assert drawn[0] == drawn[-1]
    assert len(set(drawn)) == 8


def test_hed_is_loaded_once_and_only_on_use(monkeypatch) -> None:
    loaded = []

    def load_hed(weights, device):
        loaded.append((weights, device))
        return lambda images, options: [mq.detect("softedge", image) for image in images]

    monkeypatch.setattr(module, "HED", replace(module.HED, load=load_hed))
    assert module.SCRIBBLE.offline and module.SCRIBBLE.weights
    detector = mq.Detector("scribble", device="cpu")
    detector(shapes(64))
    assert not loaded
    seen = [detector(shapes(128), source="hed", seed=seed) for seed in (None, 4)]
    assert loaded == [(None, "cpu")]
    assert seen == [mq.detect("scribble", shapes(128), source="softedge", seed=seed) for seed in (None, 4)]


def test_what_has_no_effect_is_refused() -> None:
    with pytest.raises(MaquetteError, match=r'weights for source="hed", not for \'edges\''):
        mq.detect("scribble", shapes(64), weights="some")
    with pytest.raises(MaquetteError, match="leave seed=3 out"):
        mq.detect("scribble", shapes(64), source="drawing", seed=3)


# synthesis


def test_strokes_without_a_seed_follow_the_edges_and_have_the_width() -> None:
    soft = soft_edges(shapes(512))
    for width in (1, 3, 5):
        strokes = synthesised(soft, width)
        assert thickness(strokes) == pytest.approx(4 * width, rel=0.25)
        near = dilate(((soft > 0.25) * 255).astype(np.uint8), 2 * width + 3)
        assert strokes.any() and not (strokes > near).any()


def test_crests_are_thin_and_complete() -> None:
    y, x = np.mgrid[:200, :200]
    ring = np.exp(-((np.hypot(x - 100, y - 100) - 70) ** 2) / 50).astype(np.float32)
    found = crests(ring, 0.5, 1.0)
    assert np.abs(np.hypot(x - 100, y - 100)[found > 0] - 70).max() < 2
    assert thickness(found) < 2
    assert cv2.connectedComponents(255 - dilate(found, 1))[0] == 3  # it parts the inside from the outside


def test_a_share_of_the_strokes_is_masked() -> None:
    strokes = synthesised(soft_edges(shapes(300)))
    left = [mask_some(strokes, share, np.random.default_rng(7)) for share in (0, 0.3, 0.7, 1)]
    assert np.array_equal(left[0], strokes) and not left[3].any()
    assert left[0].sum() > left[1].sum() > left[2].sum() > 0
    assert (left[2] <= left[1]).all()


def test_a_seed_thins_thickens_and_leaves_out() -> None:
    soft = soft_edges(shapes(256))
    usual = synthesised(soft)
    drawn = [synthesised(soft, seed=seed) for seed in range(40)]
    shares = np.array([strokes.mean() / usual.mean() for strokes in drawn])
    widths = np.array([thickness(strokes) for strokes in drawn])
    assert shares.min() < 0.5 and shares.max() > 1.1 and shares.min() > 0
    assert widths.max() > 1.5 * widths.min()


# strokes


@pytest.mark.parametrize("width", [1, 3, 8, 21])
def test_thickness_is_measured(width: int) -> None:
    bar = np.zeros((90, 300), np.uint8)
    bar[40 : 40 + width, 20:280] = 255
    assert thickness(bar) == pytest.approx(width, rel=0.15)
    assert thickness(dilate(bar, 3)) == pytest.approx(width + 6, rel=0.15)
    assert np.array_equal(erode(dilate(bar, 3), 3), bar)


def test_specks_are_left_out() -> None:
    strokes = np.zeros((50, 50), np.uint8)
    strokes[5, 5:8] = strokes[20:30, 20] = 255
    assert remove_small_components(strokes, 4).sum() == 10 * 255


# drawings


def face(size: int, width: int = 6) -> np.ndarray:
    """A drawing, 1 where there is ink."""
    ink = np.zeros((size, size), np.uint8)
    scale = size / 512
    pen = max(1, int(width * scale))
    for centre, radius, filled in (((240, 240), 170, False), ((180, 190), 18, False), ((300, 190), 18, True)):
        place = (int(centre[0] * scale), int(centre[1] * scale))
        cv2.circle(ink, place, int(radius * scale), 255, -1 if filled else pen, cv2.LINE_AA)
    cv2.rectangle(ink, (int(170 * scale), int(290 * scale)), (int(310 * scale), int(330 * scale)), 255, pen)
    return ink / 255


def photograph(ink: np.ndarray, paper: float, pen: float, shadow: float = 0.45, grain: float = 4) -> Image.Image:
    """A drawing under light that falls off to a corner, with a shadow's soft edge, grain and JPEG's traces."""
    y, x = np.mgrid[: len(ink), : len(ink)] / len(ink)
    light = (1 - 0.5 * (0.6 * x + 0.4 * y)) * (1 - shadow / (1 + np.exp(-40 * (x + 0.5 * y - 0.9))))
    levels = (paper + (pen - paper) * ink) * light * 255 + np.random.default_rng(0).normal(0, grain, ink.shape)
    pixels = np.clip(levels[..., None] * [0.9, 0.97, 1], 0, 255).astype(np.uint8)
    return Image.fromarray(cv2.imdecode(cv2.imencode(".jpg", pixels, [1, 85])[1], 1)[..., ::-1])


@pytest.mark.parametrize("size", [256, 512, 1200])
@pytest.mark.parametrize(("paper", "pen"), [(0.9, 0.1), (0.9, 0.55), (0.15, 0.85)])
def test_a_photographed_drawing_is_cleaned(size: int, paper: float, pen: float) -> None:
    ink = face(size) > 0.5
    seen = cleaned(photograph(face(size), paper, pen), width=1) > 0
    assert (seen & ink).sum() / (seen | ink).sum() > 0.8


def test_a_drawing_and_its_negative_are_one() -> None:
    drawing = Image.fromarray(255 - (face(300) * 255).astype(np.uint8)).convert("RGB")
    negative = Image.fromarray(255 - np.asarray(drawing))
    assert np.array_equal(cleaned(drawing), cleaned(negative))


@pytest.mark.parametrize("paper", [0.9, 0.15])
def test_bare_paper_stays_bare(paper: float) -> None:
    assert not cleaned(photograph(np.zeros((300, 300)), paper, 0)).any()


def test_thin_pens_become_as_thick_as_asked_and_thick_ones_stay() -> None:
    thin, thick = (photograph(face(512, width), 0.9, 0.1) for width in (3, 16))
    assert thickness(cleaned(thin)) == pytest.approx(12, rel=0.25)
    ink = face(512, 16) > 0.5
    seen = cleaned(thick) > 0
    assert (seen & ink).sum() / (seen | ink).sum() > 0.85


@pytest.mark.parametrize("seed", [3, 7, 8])
def test_a_large_image_has_the_strokes_of_a_small_one(seed: int) -> None:
    small = mq.diorama.scene(seed).image
    large = small.resize((512, 512), Image.Resampling.BICUBIC)
    few, many = ((np.asarray(mq.detect("scribble", image)) > 0).mean() for image in (small, large))
    assert 0.6 < many / few < 1.6
