import numpy as np

from maquette import diorama
from maquette.diorama import dataset


def test_shards_hold_the_scenes(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(dataset, "SHARD", 4)
    for start in (0, 4):
        dataset._render_shard(tmp_path, start, 4)
    seeds = range(2, 7)
    images = dataset.load(seeds, tmp_path, "images")
    assert images.shape == (5, 128, 128, 3)
    assert dataset.load_captions(seeds, tmp_path) == [diorama.scene(seed).caption for seed in seeds]
    assert np.array_equal(images[2], np.asarray(diorama.scene(4).image))
    exact = diorama.scene(5)
    depth = dataset.load(range(5, 6), tmp_path, "depth")[0].astype(np.float32)
    assert np.allclose(depth, exact.depth, rtol=1e-3)
    assert np.array_equal(dataset.load(range(5, 6), tmp_path, "classes")[0], exact.classes)


def test_only_missing_shards_are_rendered(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(dataset, "SHARD", 2)
    dataset._render_shard(tmp_path, 0, 2)
    before = dataset._path(tmp_path, 0).stat().st_mtime_ns
    dataset.prepare(range(0, 2), tmp_path)
    assert dataset._path(tmp_path, 0).stat().st_mtime_ns == before
