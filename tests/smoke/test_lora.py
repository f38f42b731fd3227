"""LoRAs on the command line do what Python does, and records hold them: the same image again, or why not."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import tiny_base

import maquette as mq
from maquette.checkpoints.convert import convert
from maquette.errors import MaquetteError
from maquette.formats.lora_file import LoraFile
from maquette.formats.write import write_weights
from maquette.sampling.metadata import KEY, Record, record_of

STEPS = {"steps": 2, "size": (64, 64), "seed": 4}


def pixels(path: Path | str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), np.int16)


def write_lora(path: Path, seed: int) -> Path:
    """A LoRA for the tiny base: a query of its middle block, and a layer of its text encoder."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        f"{module}.lora_{half}.weight": 2 * torch.randn(shape, generator=generator)
        for module, width, out in (
            ("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", 24, 24),
            ("unet.mid_block.attentions.0.proj_in", 16, 16),
            ("text_encoder.text_model.encoder.layers.0.mlp.fc1", 24, 32),
        )
        for half, shape in (("A", (2, width)), ("B", (out, 2)))
    }
    write_weights(tensors, path, {})
    return path


@pytest.fixture
def loras(tmp_path) -> tuple[Path, Path]:
    return write_lora(tmp_path / "ink.safetensors", 1), write_lora(tmp_path / "wash.safetensors", 2)


@pytest.fixture
def made(maquette, base, net, image, loras) -> Path:
    """An image of two LoRAs and a ControlNet."""
    options = ("--base", base, "--controlnet", net, "--steps", 2, "--size", "64x64", "--seed", 4, "--prompt", "a b")
    code, _, err = maquette(
        "generate", image, *options, "--lora", "ink.safetensors:0.5", "--lora", "wash.safetensors", "-o", "made.png"
    )
    assert code == 0, err
    return Path("made.png")


def test_as_from_python(maquette, base, net, loras, image, tmp_path) -> None:
    """A ControlNet that is stored as a difference is completed by the weights it was trained with: it comes first."""
    relative = convert(net, tmp_path / "net.safetensors", "difference", base)
    options = ("--base", base, "--controlnet", relative, "--steps", 2, "--size", "64x64", "--seed", 4)
    adding = ("--lora", "ink.safetensors:-0.5", "--lora", "wash.safetensors")
    assert maquette("generate", image, *options, "--prompt", "a b", *adding, "-o", "made.png")[0] == 0
    assert maquette("generate", image, *options, "--prompt", "a b", "-o", "plain.png")[0] == 0
    python = mq.load_base(base, "cpu", "float32")
    control = mq.Control(mq.load_controlnet(relative, python), Record.load(Path("made.png")).controls[0].image())
    plain = mq.generate(python, "a b", control, **STEPS)[0]
    python.add_lora("ink.safetensors", -0.5)
    python.add_lora("wash.safetensors")
    wanted = mq.generate(python, "a b", control, **STEPS)[0]
    assert np.array_equal(pixels("made.png"), np.asarray(wanted, np.int16))
    assert np.array_equal(pixels("plain.png"), np.asarray(plain, np.int16))
    assert np.abs(pixels("made.png") - pixels("plain.png")).max() > 2
    found = record_of(wanted)
    assert (found.loras, found.base_hash) == (Record.load(Path("made.png")).loras, record_of(plain).base_hash)


def test_again(maquette, made, loras) -> None:
    record = Record.load(made)
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in loras]
    assert record.loras == [
        LoraFile("ink.safetensors", 0.5, hashes[0]), LoraFile("wash.safetensors", 1.0, hashes[1])
    ]  # fmt: skip
    code, _, err = maquette("generate", "--again", made, "-o", "again.png")
    assert (code, "Note" in err) == (0, False), err
    assert np.array_equal(pixels("again.png"), pixels(made))
    assert Record.load(Path("again.png")) == record


def test_an_image_from_python_again(maquette, base, loras) -> None:
    python = mq.load_base(base, "cpu", "float32")
    python.add_lora(loras[0], 0.7)
    mq.save(mq.generate(python, "a b", **STEPS)[0], "python.png")
    code, _, err = maquette("generate", "--again", "python.png", "-o", "again.png")
    assert (code, "Note" in err) == (0, False), err
    assert np.array_equal(pixels("again.png"), pixels("python.png"))


def test_a_changed_file_is_refused_by_name(maquette, made, loras) -> None:
    write_lora(loras[1], 3)
    code, _, err = maquette("generate", "--again", made, "-o", "again.png")
    assert (code, "the LoRA 'wash.safetensors' has changed since. --anyway" in err) == (2, True), err
    assert not Path("again.png").exists()
    code, _, err = maquette("generate", "--again", made, "-o", "again.png", "--anyway")
    assert (code, "differs from" in err) == (0, True), err


def test_a_file_may_move(maquette, made, loras) -> None:
    shutil.move(loras[1], "moved.safetensors")
    code, _, err = maquette("generate", "--again", made, "-o", "again.png")
    assert (code, "There is no LoRA 'wash.safetensors'" in err, "--set lora=" in err) == (2, True, True), err
    code, _, err = maquette("generate", "--again", made, "-o", "again.png", "--set", "lora.2=moved.safetensors")
    assert code == 0, err
    assert np.array_equal(pixels("again.png"), pixels(made))


def test_weights_are_varied(maquette, made, base) -> None:
    code, _, err = maquette("generate", "--again", made, "-o", "off.png", "--set", "lora_weight=0")
    assert code == 0, err
    assert [lora.weight for lora in Record.load(Path("off.png")).loras] == [0, 0]
    assert np.abs(pixels("off.png") - pixels(made)).max() > 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--lora", "none.safetensors:0.5"), "There is no LoRA 'none.safetensors'; give the path"),
        (("--lora", "ink.safetensors:nan"), "The weight of a LoRA is a number, usually 0 to 1, not nan."),
        (("--lora", "house.png"), "'house.png' holds no weights"),
        (("--sweep", "lora_weight=0,1"), "lora_weight cannot be swept over"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(maquette, image, loras, options, message, monkeypatch) -> None:
    monkeypatch.setattr("maquette.checkpoints.load_base", None)
    code, _, err = maquette("generate", image, *options)
    assert (code, message in err) == (2, True), err


def test_only_what_a_record_has_is_set(maquette, made) -> None:
    for setting, message in (("lora.3=x", "LoRAs are numbered from 1 to 2"), ("lora_weight=a", "not 'a'")):
        code, _, err = maquette("generate", "--again", made, "--set", setting)
        assert (code, message in err) == (2, True), err


@pytest.mark.parametrize("broken", [{"file": 5}, {"file": "x", "weight": "much"}, {"weight": 1}, 3])
def test_a_record_that_was_tampered_with_is_refused(made, broken) -> None:
    with Image.open(made) as image:
        values = {**json.loads(image.info[KEY]), "loras": [broken]}
    with pytest.raises((ValueError, TypeError)):
        Record.from_json(json.dumps(values))


def test_a_colon_in_a_name(tmp_path) -> None:
    (tmp_path / "a:0.5").write_bytes(b"")
    texts = (f"{tmp_path}/a:0.5", "C:\\loras\\b.safetensors", "c:-1", "d")
    assert [(one.file, one.weight) for one in map(LoraFile.read, texts)] == [
        (f"{tmp_path}/a:0.5", 1), ("C:\\loras\\b.safetensors", 1), ("c", -1), ("d", 1)
    ]  # fmt: skip


def test_the_hash_of_a_base_leaves_loras_out_and_nothing_else(tmp_path) -> None:
    base = tiny_base("diorama", "v_prediction")
    plain = base.hash()
    base.add_lora(write_lora(tmp_path / "a.safetensors", 1), 0.3)
    base.add_lora(write_lora(tmp_path / "b.safetensors", 2))
    assert base.hash() == plain
    base.backbone.network.to(memory_format=torch.channels_last)  # as when it moves to another device
    assert base.hash() == plain
    with torch.no_grad():
        for parameter in base.backbone.network.parameters():
            parameter.add_(0.01)
    assert base.hash() != plain


def test_an_index_of_shards_is_refused(tmp_path) -> None:
    (tmp_path / "lora.safetensors.index.json").write_text('{"weight_map": {}}')
    with pytest.raises(MaquetteError, match="A LoRA is one file"):
        tiny_base().add_lora(tmp_path / "lora.safetensors.index.json")
