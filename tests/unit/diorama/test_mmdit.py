"""The base in Stable Diffusion 3's shape: what is trained is what diffusers' pipeline runs; it resumes exactly."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusion3Pipeline
from tests.conftest import randomise
from transformers import CLIPTokenizer

import maquette as mq
from maquette.diorama import dataset
from maquette.recipes.diorama import base, mmdit, mmdit_model, ship
from maquette.recipes.diorama.autoencoder import Recipe as AutoencoderRecipe
from maquette.recipes.diorama.autoencoder import build
from maquette.recipes.diorama.tokens import train_tokenizer

TEXTS = ["a red house", "", "a striped ball on a sunny day, a green tree to its left"]
TINY = mmdit.Recipe(
    scenes=8, wordings=1, held_out=4, batch_size=2, steps=8, warmup=1, blank_every=3, layers=3, heads=2, head_size=8,
    text_layers=2, pictures=2,
)  # fmt: skip


def _vae() -> AutoencoderKL:
    return build(AutoencoderRecipe(channels=(4, 4, 4, 4)))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> CLIPTokenizer:
    folder = tmp_path_factory.mktemp("run") / "tokenizer"
    train_tokenizer(TEXTS, folder, merges=20)
    return CLIPTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def model(tokenizer) -> mmdit.TextAndMMDiT:
    torch.manual_seed(0)
    made = mmdit.TextAndMMDiT(TINY, tokenizer, 8)
    for parameter in made.transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made.eval()


@pytest.fixture(scope="module")
def pipeline(model, tokenizer, tmp_path_factory) -> StableDiffusion3Pipeline:
    """Saved and loaded again."""
    folder = tmp_path_factory.mktemp("pipeline")
    mmdit.assembled(model, _vae(), tokenizer, shift=1.5).save_pretrained(folder)
    loaded = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.mark.parametrize("blank", [0, 256])
@torch.no_grad()
def test_the_pipeline_predicts_what_the_training_does(model, pipeline, tokenizer, blank) -> None:
    latents, times = torch.randn(3, 8, 16, 16), torch.tensor([1000.0, 400.0, 3.5])
    context, _, pooled, _ = pipeline.encode_prompt(
        TEXTS, None, None, do_classifier_free_guidance=False, max_sequence_length=blank
    )
    theirs = pipeline.transformer(latents, context, pooled, times).sample
    ours = model(latents, times, base.tokenize(tokenizer, TEXTS), blank)
    assert context.shape == (3, base.CONTEXT + blank, mmdit_model.JOINT)
    assert theirs.std() > 0.1
    assert torch.allclose(ours, theirs, atol=1e-5)


@torch.no_grad()
def test_guidance_starts_from_the_empty_prompt_that_dropped_prompts_are_trained_on(model, pipeline, tokenizer) -> None:
    noise, times = torch.randn(1, 8, 16, 16), torch.tensor([1000.0])
    asked, empty = (model(noise, times, base.tokenize(tokenizer, [text])) for text in TEXTS[:2])
    drawn = pipeline(
        TEXTS[0], num_inference_steps=1, guidance_scale=4.0, max_sequence_length=0, latents=noise, output_type="latent"
    ).images
    assert not torch.allclose(asked, empty, atol=1e-3)
    assert torch.allclose(drawn, noise - (empty + 4 * (asked - empty)), atol=1e-4)


def test_a_new_transformer_predicts_nothing_and_learns_inside_its_blocks_by_muon(tokenizer) -> None:
    made = mmdit.TextAndMMDiT(TINY, tokenizer, 8)
    assert not made(torch.randn(2, 8, 16, 16), torch.tensor([1.0, 900.0]), base.tokenize(tokenizer, TEXTS[:2])).any()
    matrices, others = mmdit._optimiser(made, mmdit.Head(made.transformer, [2]), TINY).param_groups
    blocks = [one for one in made.transformer.transformer_blocks.parameters() if one.ndim == 2]
    assert {id(one) for one in matrices["params"]} == {id(one) for one in blocks}
    trained = sum(len(group["params"]) for group in (matrices, others))
    assert trained == len(list(made.parameters())) + 4


def test_times_are_in_the_interval_and_thickest_in_the_middle() -> None:
    times = mmdit.draw_times(20_000, torch.Generator().manual_seed(0))
    share = [((times > low) & (times <= low + 200)).float().mean().item() for low in range(0, 1000, 200)]
    assert times.min() >= 0
    assert times.max() <= 1000
    assert share == pytest.approx([0.118, 0.238, 0.283, 0.238, 0.118], abs=0.015)


def test_the_features_lie_where_their_latents_do(tokenizer) -> None:
    """Without modulations the blocks are the identity, and each feature is the embedding of its own latent."""
    made = mmdit.TextAndMMDiT(TINY, tokenizer, 8)
    features, latents = mmdit.read(made.transformer), torch.randn(1, 8, 16, 16)
    made(latents, torch.tensor([500.0]), base.tokenize(tokenizer, [""]))
    before = features[0].clone()
    latents[0, :, 3, 11] += 1
    made(latents, torch.tensor([500.0]), base.tokenize(tokenizer, [""]))
    changed = (features[0] - before).abs().amax(dim=(0, 1)) > 1e-6
    assert changed.nonzero().tolist() == [[3, 11]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """Two runs of as many steps, the second of them interrupted."""
    folder = tmp_path_factory.mktemp("recipes")
    vae = _vae()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(dataset, "SHARD", 8)
        runs = folder / "whole", folder / "parts"
        for run in runs:
            vae.save_pretrained(run / "vae")
            train_tokenizer(TEXTS, run / "tokenizer", merges=20)
        mmdit.make(replace(TINY, run=runs[0]))
        mmdit.train(replace(TINY, run=runs[1], stop=5))
        mmdit.train(replace(TINY, run=runs[1]))
    return runs


def test_an_interrupted_training_ends_at_the_same_weights(trained) -> None:
    whole, parts = (mmdit.pipeline(replace(TINY, run=run)).transformer.state_dict() for run in trained)
    assert whole["proj_out.weight"].any()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_the_folder_holds_the_average_in_half_precision_and_draws(trained) -> None:
    folder = trained[0] / "mmdit"
    loaded = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None).to(torch.float32)
    kept = mmdit.pipeline(replace(TINY, run=trained[0])).transformer.state_dict()
    for name, value in loaded.transformer.state_dict().items():
        assert torch.equal(value, kept[name].half().to(value.dtype)), name
    image = loaded("a red house", num_inference_steps=2, max_sequence_length=0).images[0]
    assert image.size == (128, 128)
    assert loaded.scheduler.config.shift == TINY.shift
    assert mq.load_base(folder).defaults == mmdit.DEFAULTS
    assert (trained[0] / "mmdit.png").exists()


@torch.no_grad()
def test_it_is_a_base_like_any(model, tokenizer, tmp_path) -> None:
    mmdit.assembled(model, _vae(), tokenizer, shift=1.5).save_pretrained(tmp_path)
    loaded = mq.load_base(tmp_path)
    latents, times = torch.randn(3, 8, 16, 16), torch.tensor([1000.0, 400.0, 3.5])
    predicted = loaded.predict(latents, times, loaded.encode_text(TEXTS))
    assert torch.allclose(predicted, model(latents, times, base.tokenize(tokenizer, TEXTS)), atol=1e-5)


def test_the_base_and_its_finished_controlnets_are_shipped(trained, tmp_path) -> None:
    made = mq.load_base(trained[0] / "mmdit")
    net = randomise(mq.ControlNet.attach(made, blocks=1))
    net.save(tmp_path / "nets" / "depth")
    ship.ship(ship.Recipe(trained[0], tmp_path / "weights", "diorama-mmdit", tmp_path / "nets"))
    base = mq.load_base(tmp_path / "weights" / "base")
    shipped = mq.load_controlnet(tmp_path / "weights" / "controlnets" / "depth", base)
    assert base.hash() == made.hash()
    assert all(torch.equal(shipped.state_dict()[name], value.half()) for name, value in net.state_dict().items())
