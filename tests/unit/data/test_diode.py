"""Folders of DIODE: measured depth and normals, drawn as the detectors draw theirs, against planes in closed form."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maquette.conditions.detectors.normal import normals_from_disparity
from maquette.conditions.drawing.surfaces import disparity_map
from maquette.data.crop import CropView, ResizeCrop
from maquette.data.pairs import SourcePairs
from maquette.data.sources.diode import Diode
from maquette.data.sources.folder import ImageFolder
from maquette.data.sources.jsonl import Columns, RowError, Source, read
from maquette.data.sources.open import open_source
from maquette.errors import MaquetteError, MaquetteWarning

WIDTH, HEIGHT = 128, 96
NAME = "00000_00000_indoors_000_0{}0"
LEFT, UP = (-0.6, 0.0, 0.8), (0.0, 0.6, 0.8)  # planes' normals: right, up, backward


def plane(normal: tuple[float, float, float]) -> np.ndarray:
    """Depth (H, W) in metres of a plane 3 m off along its normal, seen by DIODE's camera (intrinsics.txt) at 1/8."""
    fx, fy, cx, cy = np.array([886.81, 927.06, 512, 384]) / 8
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    ray = np.stack([(u - cx) / fx, (cy - v) / fy, -np.ones(u.shape)], axis=-1)
    return 3 / -(ray @ np.array(normal))


def write(folder: Path, normals, missing: np.ndarray | None = None, sign: int = 1) -> Path:
    """A folder of that layout, a plane per photograph; nothing is measured where `missing` (H, W)."""
    missing = np.zeros((HEIGHT, WIDTH), bool) if missing is None else missing
    scan = folder / "train" / "indoors" / "scene_00000" / "scan_00000"
    scan.mkdir(parents=True)
    for number, normal in enumerate(normals, start=1):
        path = scan / NAME.format(number)
        Image.new("RGB", (WIDTH, HEIGHT), (number, 90, 9)).save(f"{path}.png")
        np.save(f"{path}_depth.npy", np.where(missing, 0, plane(normal)).astype(np.float32)[..., None])
        np.save(f"{path}_depth_mask.npy", (~missing).astype(np.float32))
        np.save(f"{path}_normal.npy", np.where(missing[..., None], 0, sign * np.array(normal)).astype(np.float32))
    return folder


@pytest.fixture
def opened():
    def open_silently(folder: Path, kind: str | None) -> Source:
        with pytest.warns(MaquetteWarning, match=r"have no file NAME\.txt"):
            return open_source(folder, Columns(condition=kind))

    return open_silently


def test_depth_of_a_plane_is_a_straight_ramp(opened, tmp_path) -> None:
    """1 / depth of a plane is linear in the pixel, so the map is too, between the clipped ends."""
    source = opened(write(tmp_path, [LEFT, UP]), "depth")
    assert isinstance(source, Diode) and len(source) == 2
    left, up = (np.asarray(read(row).condition, float) for row in source)
    assert (left == left[:1]).all() and (up == up[:, :1]).all()
    for ramp in (left[0, :, 0], up[:, 0, 0]):
        assert (ramp[0], ramp[-1]) in ((0, 255), (255, 0))
        inner = ramp[(ramp > 0) & (ramp < 255)]
        assert np.abs(np.diff(inner, 2)).max() <= 1  # rounding
    assert left[0, -1, 0] == 255  # a wall that faces left comes nearer on the right
    assert up[-1, 0, 0] == 255  # a floor comes nearer at the bottom
    expected = disparity_map(1 / plane(LEFT), 0.005)  # as the detector draws by default
    assert np.abs(left - np.asarray(expected, float)).max() <= 1


@pytest.mark.parametrize("sign", [1, -1])
def test_normals_of_a_plane_have_the_published_colour(opened, tmp_path, sign) -> None:
    """Red is left, green up, blue towards the viewer; a measured normal may have either sign."""
    source = opened(write(tmp_path, [LEFT, UP, (0, 0, 1)], sign=sign), "normal")
    colours = [np.unique(np.asarray(read(row).condition).reshape(-1, 3), axis=0).tolist() for row in source]
    assert colours == [[[204, 128, 230]], [[128, 204, 230]], [[128, 128, 255]]]


@pytest.mark.parametrize(("normal", "channel"), [(LEFT, 0), (UP, 1)])
def test_the_detectors_colours_lean_the_same_way(opened, tmp_path, normal, channel) -> None:
    detected = normals_from_disparity((1000 / plane(normal)).astype(np.float32), 0.0, 1.0)[1:-1, 1:-1]
    (row,) = opened(write(tmp_path, [normal]), "normal")
    drawn = np.asarray(read(row).condition, float) - 127.5
    assert detected[..., channel].min() > 0 and drawn[..., channel].min() > 5
    assert np.abs(detected[..., 1 - channel]).max() < 1e-3 and np.abs(drawn[..., 1 - channel]).max() < 1


def test_what_was_not_measured_is_far_and_faces_the_viewer(opened, tmp_path) -> None:
    missing = np.zeros((HEIGHT, WIDTH), bool)
    missing[:40, 30:70] = True
    write(tmp_path, [UP], missing)
    (depth,), (normal,) = (opened(tmp_path, kind) for kind in ("depth", "normal"))
    depth, normal = (np.asarray(read(row).condition) for row in (depth, normal))
    assert not depth[missing].any()
    assert (normal[missing] == (128, 128, 255)).all()
    assert (normal[~missing] == (128, 204, 230)).all()
    full = np.asarray(disparity_map(1 / plane(UP)[~missing][None], 0.005))[0]
    assert np.abs(depth[~missing].astype(int) - full).max() <= 1  # its range is that of what was measured


def test_nothing_measured_at_all_is_black(opened, tmp_path) -> None:
    (row,) = opened(write(tmp_path, [UP], np.ones((HEIGHT, WIDTH), bool)), "depth")
    assert read(row).condition.getbbox() is None


def test_pairs_are_framed_together_and_read_in_other_processes(opened, tmp_path) -> None:
    source = pickle.loads(pickle.dumps(opened(write(tmp_path, [LEFT]), "normal")))
    pair = SourcePairs.open("normal", source, ResizeCrop((64, 64))).pair(0, CropView(), None)
    assert pair.image.size == pair.condition.size == (64, 64)
    assert pair.condition.getpixel((32, 32)) == (204, 128, 230)
    assert pair.image.getpixel((32, 32)) == (1, 90, 9)


def test_the_kind_follows_from_the_files_or_is_named(tmp_path) -> None:
    write(tmp_path, [LEFT])
    with pytest.raises(MaquetteError, match="holds depth and normals; name one"):
        open_source(tmp_path)
    with pytest.raises(MaquetteError, match="no condition of DIODE 'normals'; did you mean 'normal'"):
        open_source(tmp_path, Columns(condition="normals"))
    plain = open_source(tmp_path, Columns(has_conditions=False, has_texts=False))
    assert len(plain) == 1 and plain[0].condition is None
    for path in tmp_path.rglob("*_normal.npy"):
        path.unlink()
    assert open_source(tmp_path / "train", Columns(has_texts=False))[0].condition.kind == "depth"
    for path in tmp_path.rglob("*.npy"):
        path.unlink()
    assert isinstance(open_source(tmp_path, Columns(has_conditions=False, has_texts=False)), ImageFolder)


def test_texts_are_read_from_files_beside(tmp_path) -> None:
    write(tmp_path, [LEFT, UP])
    scan = next(tmp_path.rglob("scan_*"))
    (scan / f"{NAME.format(1)}.txt").write_text("a wall")
    with pytest.warns(MaquetteWarning, match=r"1 of the 2 photographs .* have no file NAME\.txt"):
        source = open_source(tmp_path, Columns(condition="depth"))
    assert [row.text for row in source] == ["a wall", ""]


def test_faults_are_named(tmp_path) -> None:
    write(tmp_path, [LEFT, UP, UP, UP])
    scan = next(tmp_path.rglob("scan_*"))
    (scan / f"{NAME.format(1)}_depth.npy").unlink()
    (scan / f"{NAME.format(2)}_depth.npy").write_bytes(b"\x93NUMPY")
    np.save(scan / f"{NAME.format(3)}_depth.npy", np.zeros((4, 4, 3)))
    (scan / f"{NAME.format(4)}_depth_mask.npy").unlink()
    source = open_source(tmp_path, Columns(condition="depth", has_texts=False))
    (fault,) = source.faults
    assert fault.where.endswith(f"{NAME.format(1)}.png") and "has no 00000_00000_indoors" in fault.reason
    for number, reason in enumerate((r"is broken", r"holds \(4, 4, 3\), not \(H, W, 1\)", "No such file")):
        with pytest.raises(RowError, match=reason):
            read(source[number])
