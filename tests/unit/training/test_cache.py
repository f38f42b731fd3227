"""Cached outputs equal fresh ones, and nothing random is cached."""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import tiny_base

import maquette as mq
from maquette.base import sample_posterior
from maquette.data.crop import CropView
from maquette.data.diorama import Pairs
from maquette.errors import MaquetteError
from maquette.foundation.pixels import to_signed
from maquette.training.data import filling, latent_cache
from maquette.training.data.tensor_store import Store
from maquette.training.distributed.world import World

ALONE = World("cpu")


@pytest.fixture
def base():
    return tiny_base("diorama", "v_prediction", context=96)


@pytest.fixture
def pairs() -> Pairs:
    images = np.stack([np.asarray(mq.diorama.scene(seed).image) for seed in range(3)])
    return Pairs("canny", range(3), ["a", "b c", "a"], images, (images,))


def posteriors(cache: latent_cache.Cache) -> set[bytes]:
    """The keys of the posteriors of all rows."""
    stored = [cache.store.get(key.tobytes())["keys"].numpy() for key in cache.chunks]
    return {key.tobytes() for keys in stored for key in keys.reshape(-1, filling.DIGEST)}


def test_cached_is_fresh(base, pairs, tmp_path) -> None:
    """Cached latents are sampled from the autoencoder's posterior, anew each time; cached text features are exact."""
    cache = latent_cache.precompute(base, pairs, tmp_path, ALONE)
    pixels = torch.stack([to_signed(Image.fromarray(image)) for image in pairs.images])
    posterior = base.autoencoder.encode(pixels).latent_dist
    kept = torch.stack([cache.moments(row, CropView()) for row in range(3)])
    assert torch.allclose(kept.float(), posterior.parameters, atol=2e-3)
    noise = torch.randn((400, 3, *posterior.mean.shape[1:]))
    samples = torch.stack([sample_posterior(kept, e) for e in noise])
    assert torch.allclose(samples.mean(0), posterior.mean, atol=0.25)
    assert torch.allclose(samples.std(0), posterior.std, rtol=0.25, atol=1e-3)
    for prompt in ("a", "b c", ""):
        assert torch.allclose(cache.text(prompt).hidden_states, base.encode_text([prompt]).hidden_states[0], atol=1e-6)


def test_conflicting_texts_are_cached_where_they_are_asked_for(base, pairs, tmp_path) -> None:
    """Also in a cache that was filled without them."""
    latent_cache.precompute(base, pairs, tmp_path, ALONE)
    cache = latent_cache.precompute(base, pairs, tmp_path, ALONE, conflicting=True)
    for row in range(3):
        prompt = pairs.conflicting(row)
        assert prompt not in pairs.captions
        assert torch.allclose(cache.text(prompt).hidden_states, base.encode_text([prompt]).hidden_states[0], atol=1e-6)
        assert cache.moments(row, CropView()) is not None


def test_a_second_run_computes_nothing(base, pairs, tmp_path, monkeypatch) -> None:
    latent_cache.precompute(base, pairs, tmp_path, ALONE)
    monkeypatch.setattr(filling, "encode", None)
    monkeypatch.setattr(Pairs, "pair", None)
    monkeypatch.setattr(type(base), "encode_text", None)
    assert latent_cache.precompute(base, pairs, tmp_path, ALONE).moments(2, CropView()) is not None


def test_keys_depend_on_the_content(base, pairs, tmp_path) -> None:
    """Different images, autoencoders and text encoders have different entries."""
    cache = latent_cache.precompute(base, pairs, tmp_path, ALONE)
    keys = posteriors(cache)
    assert len(keys) == cache.count == 3
    other = tiny_base("diorama", "v_prediction", seed=1, context=96)
    again = latent_cache.precompute(other, pairs, tmp_path, ALONE)
    assert keys.isdisjoint(posteriors(again))
    assert cache.encoder != again.encoder
    assert not torch.equal(cache.text("a").hidden_states, again.text("a").hidden_states)


def test_a_cache_that_exceeds_the_disk_is_refused_beforehand(base, pairs, tmp_path, monkeypatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(latent_cache.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(MaquetteError, match=r"takes 0\.0 GiB and .* has 0\.0 GiB free; make room"):
        latent_cache.precompute(base, pairs, tmp_path, ALONE)


WRITE = """
import sys, pathlib, time, torch
from maquette.training.data.tensor_store import Store
time.sleep(max(0, float(sys.argv[3]) - time.time()))  # all at the same time
store, first = Store(pathlib.Path(sys.argv[1])), int(sys.argv[2])
for number in range(first, first + 60):
    store.put([(number.to_bytes(16, "big"), {"moments": torch.full((8, 4, 4), float(number))})])
"""


def test_several_processes_can_open_and_write_at_once(tmp_path) -> None:
    path, moment = tmp_path / "cache.sqlite", time.time() + 8
    command = [sys.executable, "-c", WRITE, str(path)]
    writers = [subprocess.Popen([*command, str(first), str(moment)]) for first in (0, 30, 60, 90)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0, 0]
    store = Store(path)
    for number in range(150):
        assert store.get(number.to_bytes(16, "big"))["moments"].unique().tolist() == [number]


def test_entries_are_written_atomically(tmp_path) -> None:
    store = Store(tmp_path / "cache.sqlite")

    def entries():
        yield b"first", {"a": torch.ones(2)}
        raise RuntimeError("killed here")

    with pytest.raises(RuntimeError, match="killed"):
        store.put(entries())
    assert store.present([b"first"]) == set()
    with pytest.raises(KeyError):
        store.get(b"first")


def test_a_file_that_is_not_a_store_is_refused(tmp_path) -> None:
    (tmp_path / "cache.sqlite").write_text("not a database at all, but long enough to be looked at" * 30)
    with pytest.raises(MaquetteError, match=r"cannot be opened .*remove it"):
        Store(tmp_path / "cache.sqlite")
