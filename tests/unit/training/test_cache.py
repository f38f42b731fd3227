"""Cached outputs equal fresh ones, and nothing random is cached."""

import sqlite3
import subprocess
import sys
import time
from contextlib import nullcontext

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from tests.conftest import tiny_base

import maquette as mq
from maquette.base import sample_posterior
from maquette.data.crop import CropView
from maquette.data.diorama import Pairs
from maquette.errors import MaquetteError, MaquetteWarning
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


def test_a_lock_is_no_damage(tmp_path, recwarn) -> None:
    """It is said, and the entry stays."""
    store = Store(tmp_path / "cache.sqlite")
    store.put([(b"first", {"a": torch.ones(2)})])
    store._connection().execute("PRAGMA journal_mode = DELETE")  # in the other mode writers keep no readers out
    store._connection().execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(store.path)
    other.execute("BEGIN EXCLUSIVE")
    for read in (lambda: store.get(b"first"), lambda: store.present([b"first"])):
        with pytest.raises(MaquetteError, match=r"cannot be read \(database is locked\); end what else uses it"):
            read()
    other.rollback()
    assert torch.equal(store.get(b"first")["a"], torch.ones(2))
    assert not recwarn.list


def test_an_interrupted_read_is_no_damage(tmp_path, recwarn) -> None:
    store = Store(tmp_path / "cache.sqlite")
    store.put([(b"first", {"a": torch.ones(2)})])
    store._connection().set_progress_handler(lambda: 1, 1)
    with pytest.raises(MaquetteError, match=r"cannot be read \(interrupted\)"):
        store.get(b"first")
    store._connection().set_progress_handler(None, 1)
    assert torch.equal(store.get(b"first")["a"], torch.ones(2))
    assert not recwarn.list


@pytest.mark.parametrize("changed", ["DROP TABLE entries", "ALTER TABLE entries RENAME COLUMN value TO other"])
def test_a_file_of_another_schema_is_damage(changed, tmp_path) -> None:
    store = Store(tmp_path / "cache.sqlite")
    store.put([(b"first", {"a": torch.ones(2)})])
    with sqlite3.connect(store.path) as other:
        other.execute(changed)
    with pytest.warns(MaquetteWarning, match="is damaged"), pytest.raises(KeyError):
        store.get(b"first")


def every_entry(store: Store) -> list[bytes]:
    return [key for (key,) in store._connection().execute("SELECT key FROM entries ORDER BY key")]


def change(store: Store, key: bytes, value: bytes) -> None:
    with store._connection() as connection:
        connection.execute("UPDATE entries SET value = ? WHERE key = ?", (value, key))


def value_of(store: Store, key: bytes) -> bytes:
    return store._connection().execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()[0]


def test_no_flipped_bit_of_an_entry_goes_unnoticed(tmp_path) -> None:
    store, key = Store(tmp_path / "cache.sqlite"), b"k" * 16
    tensors = {"moments": torch.randn(8, 4, 4).half()}
    store.put([(key, tensors)])
    whole = value_of(store, key)
    for bit in np.random.default_rng(0).integers(8 * len(whole), size=100).tolist():
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        change(store, key, bytes(changed))
        with pytest.warns(MaquetteWarning, match=r"An entry of .* is damaged .*; it is computed anew"):
            assert store.find(key) is None
        assert store.present([key]) == set()
        store.put([(key, tensors)])
    assert torch.equal(store.get(key)["moments"], tensors["moments"])


def test_an_entry_is_not_taken_for_another(tmp_path) -> None:
    """As after damage to the pages that say where entries are."""
    store = Store(tmp_path / "cache.sqlite")
    store.put([(b"first", {"a": torch.ones(2)}), (b"second", {"a": torch.zeros(2)})])
    change(store, b"first", value_of(store, b"second"))
    with pytest.warns(MaquetteWarning, match="its checksum does not match"), pytest.raises(KeyError):
        store.get(b"first")


def test_entries_without_a_checksum_are_read(tmp_path) -> None:
    """As versions up to 0.2 wrote them."""
    store, tensors = Store(tmp_path / "cache.sqlite"), {"a": torch.arange(5.0)}
    store.put([(b"key", tensors)])
    change(store, b"key", safetensors.torch.save(tensors))
    assert torch.equal(store.get(b"key")["a"], tensors["a"])


def test_what_was_lost_is_computed_anew(base, pairs, tmp_path) -> None:
    """Whichever entry: of posteriors, of texts or of the chunk's keys; the others are not."""
    cache = latent_cache.precompute(base, pairs, tmp_path, ALONE)
    whole = {key: value_of(cache.store, key) for key in every_entry(cache.store)}
    for key in whole:
        with cache.store._connection() as connection:
            connection.execute("DELETE FROM entries WHERE key = ?", (key,))
        again = latent_cache.precompute(base, pairs, tmp_path, ALONE)
        texts = {filling.text_key(again.encoder, text) for text in pairs.captions}
        assert {*every_entry(again.store)} | texts == {*whole}
        assert all(again.moments(row, CropView()) is not None for row in range(3))


@pytest.mark.parametrize("content", [b"not a database at all" * 99, b"", None])
def test_beside_a_file_of_another_kind_the_cache_is_built_anew(base, pairs, tmp_path, content) -> None:
    path = tmp_path / "cache.sqlite"
    if content is None:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE entries (name TEXT, number INTEGER)")
        connection.close()
        content = path.read_bytes()
    else:
        path.write_bytes(content)
    expected = pytest.warns(MaquetteWarning, match="The cache is built anew beside it") if content else nullcontext()
    with expected:
        assert latent_cache.precompute(base, pairs, tmp_path, ALONE).count == 3
    if content:
        assert path.read_bytes()[:16] == content[:16]
        with expected:  # and found again
            assert latent_cache.precompute(base, pairs, tmp_path, ALONE).store.path.name == "cache-2.sqlite"
