"""A decoder in bands computes what it computes whole, and the estimate sees what it saves."""

import pytest
import torch
from tests.conftest import tiny_base

import maquette as mq
from maquette.arithmetic import bands
from maquette.arithmetic import fast as fast_module
from maquette.arithmetic.fast import fast
from maquette.arithmetic.footprint import footprint


@pytest.mark.parametrize("band", [1, 5000, 2**24])
@pytest.mark.parametrize("size", [(8, 6), (5, 7), (1, 1)])
@torch.no_grad()
def test_bands_are_equal_to_the_whole(band, size, monkeypatch) -> None:
    monkeypatch.setattr(bands, "BAND", band)
    for name in ("CELLS", "TILED_CELLS", "TILED_CHANNELS"):
        monkeypatch.setattr(fast_module, name, 0)
    autoencoder = tiny_base("sd15").autoencoder
    for number, part in enumerate(autoencoder.decoder.parameters()):  # norms and biases too, which begin as 1 and 0
        part.add_(0.1 * torch.randn(part.shape, generator=torch.manual_seed(number)))
    latents = torch.randn(2, 4, *size, generator=torch.manual_seed(0))
    whole = autoencoder.decode(latents).sample
    with fast(autoencoder):
        quick = bands.decoded(autoencoder, latents)
    for found in (bands.decoded(autoencoder, latents), quick):
        assert found.shape == whole.shape
        assert (found - whole).abs().max() <= 1e-5 * max(1.0, float(whole.abs().max()))
    assert whole.std() > 0.01  # so that this can fail


def test_the_bundled_base_makes_the_same_pictures_in_low_memory(monkeypatch) -> None:
    monkeypatch.setattr(bands, "BAND", 2**18)  # 8 rows of the largest maps here
    base = mq.load_base("diorama", "cpu", "float32")
    latents = torch.randn(2, base.backbone.latent_channels, 16, 24, generator=torch.manual_seed(0))
    with torch.no_grad():
        apart = base.decoded(latents, False, True) - base.decoded(latents, False, False)
    assert apart.abs().max() <= 1e-5
    whole = base.decode_latents(latents)
    base.low_memory = True
    for one, other in zip(base.decode_latents(latents), whole, strict=True):
        assert one.size == other.size == (192, 128)


def test_a_decoder_of_another_kind_is_not_divided() -> None:
    autoencoder = tiny_base("sd15").autoencoder
    assert bands.suits(autoencoder)
    autoencoder.decoder.up_blocks[0].resnets[0].norm1 = torch.nn.Identity()
    assert not bands.suits(autoencoder)


def test_bands_take_less_memory(monkeypatch) -> None:
    monkeypatch.setattr(bands, "BAND", 2**16)
    autoencoder = tiny_base("sd15").autoencoder
    whole = footprint(lambda: autoencoder.decode(torch.empty(1, 4, 64, 64)).sample)
    assert footprint(lambda: bands.decoded(autoencoder, torch.empty(1, 4, 64, 64))) < 0.75 * whole


def test_a_footprint_is_what_lives_at_once() -> None:
    """Three tensors of 4000 bytes, of which two live at once; a view and a change in place are none."""

    def compute() -> None:
        x = torch.empty(1000)
        y = x + 1
        del x
        y.view(10, 100).add_(1)
        _ = y * 2

    assert footprint(compute) == 8000
