"""The command line of generate does what Python does, loses nothing that was typed, and overwrites nothing."""

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import maquette as mq
from maquette.sampling.metadata import Record
from maquette.sampling.prompts import automatic


def pixels(path: Path | str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), np.int16)


@pytest.fixture
def generate(maquette, base, net):
    """Run generate on the tiny base, in two steps of 64 pixels: the paths that it printed, and standard error."""

    def run(*arguments: object, code: int = 0, size: str = "64x64") -> tuple[list[str], str]:
        found, out, err = maquette("generate", *arguments, "--base", base, "--steps", 2, "--size", size)
        assert found == code, err
        return out.split("\n")[:-1], err

    return run


@pytest.fixture
def python(base):
    return mq.load_base(base, "cpu", "float32")


@pytest.fixture
def scene(tmp_path) -> Image.Image:
    image = mq.diorama.scene(7).image
    image.save(tmp_path / "scene.png")
    return image


def test_masks_painted_on_transparency(generate, net, scene) -> None:
    plain, layer = Image.new("L", (128, 128)), Image.new("RGBA", (128, 128), (255, 255, 255, 0))
    for mask, colour, name in ((plain, 255, "plain"), (layer, "white", "layer")):
        mask.paste(colour, (32, 32, 96, 96))
        mask.save(f"{name}.png")
        control = f"canny:scene.png,net={net},mask={name}.png"
        start = ("--image", "scene.png", "--mask", f"{name}.png", "--strength", 0.8)
        generate("--control", control, *start, "--prompt", "a", "-o", f"by-{name}.png")
    assert np.array_equal(pixels("by-plain.png"), pixels("by-layer.png"))


def test_several_controls(generate, python, net, scene, tmp_path) -> None:
    left = Image.new("RGB", (64, 64))
    left.paste("white", (0, 0, 32, 64))
    left.save(tmp_path / "left.png")
    generate(
        "--control", f"canny:scene.png,net={net},low=40,high=90,weight=0.8,end=0.5",
        "--control", f"depth:left.png,map=yes,net={net},mask=left.png,balance=control,curve=0:1|1:0.2",
        "--prompt", "a, b", "--negative-prompt", "c", "--guidance", 3, "-o", "out.png",
    )  # fmt: skip
    loaded = mq.load_controlnet(net, python)
    edges = mq.detect("canny", scene.resize((64, 64), Image.Resampling.LANCZOS), low=40, high=90)
    controls = [
        mq.Control(loaded, edges, weight=0.8, end=0.5),
        mq.Control(loaded, left, mask=left, balance="control", curve=[(0, 1), (1, 0.2)]),
    ]
    wanted = mq.generate(python, "a, b", controls, negative_prompt="c", guidance=3, steps=2)[0]
    assert np.array_equal(pixels("out.png"), np.asarray(wanted, np.int16))


def test_controls_share_the_image(generate, net, scene) -> None:
    generate(
        "scene.png", "--control", f"canny,net={net}", "--control", f"scribble,net={net},weight=0.5", "-o", "out.png"
    )
    first, second = Record.load(Path("out.png")).controls
    assert first.map != second.map
    assert (first.weight, second.weight) == (1.0, 0.5)


def test_weights_of_slots(generate, net, scene) -> None:
    weights = [round(0.1 * number, 1) for number in range(13)]
    generate("scene.png", "--control", f"canny,net={net},weight={'|'.join(map(str, weights))}", "-o", "out.png")
    assert Record.load(Path("out.png")).controls[0].weight == weights


def test_a_start_image(generate, python, scene) -> None:
    mask = Image.new("RGB", (64, 64))
    mask.paste("white", (0, 0, 32, 64))
    mask.save("mask.png")
    generate("--image", "scene.png", "--strength", 0.6, "--mask", "mask.png", "-o", "out.png")
    start = scene.resize((64, 64), Image.Resampling.LANCZOS)
    wanted = mq.generate(python, "", image=start, mask=mask, strength=0.6, steps=2)[0]
    assert np.array_equal(pixels("out.png"), np.asarray(wanted, np.int16))


def test_seeds(generate, tmp_path) -> None:
    paths, _ = generate("--seeds", "3,9,4", "-o", "many.png")
    assert paths == ["many-1.png", "many-2.png", "many-3.png"]
    generate("--seed", 9, "-o", "one.png")
    assert np.array_equal(pixels("many-2.png"), pixels("one.png"))
    _, err = generate("--seed", "random", "-o", "random.png")
    seed = Record.load(tmp_path / "random.png").settings["seed"]
    assert f"Seed: {seed}" in err
    _, other = generate("--seed", "random", "-o", "other.png")
    assert f"Seed: {seed}\n" not in other


def test_prompts_from_a_file(generate, tmp_path) -> None:
    (tmp_path / "prompts.txt").write_text("a b\n\nc\n")
    paths, _ = generate("--prompts", "prompts.txt", "--count", 2, "-o", "out.png")
    records = [Record.load(Path(path)) for path in paths]
    assert [(record.prompt, record.settings["seed"]) for record in records] == [
        ("a b", 0),
        ("a b", 1),
        ("c", 0),
        ("c", 1),
    ]


@pytest.mark.parametrize(("mode", "prompt"), [("none", ""), ("default", "a high-quality")])
def test_prompt_modes(generate, mode, prompt) -> None:
    generate("--prompt-mode", mode, "-o", "out.png")
    found = Record.load(Path("out.png")).prompt
    assert found.startswith(prompt)
    assert bool(found) == bool(prompt)


def test_automatic_prompts(maquette, scene, tmp_path) -> None:
    """On the bundled model, whose captioner needs no download: with the same noise as in Python."""
    options = ("--prompt-mode", "auto", "--steps", 2, "--seed", 3, "--option", "low=50", "--option", "high=120")
    code, _, err = maquette("generate", "scene.png", *options, "-o", "out.png")
    assert code == 0, err
    base = mq.load_base("diorama")
    control = mq.Control(mq.load_controlnet("diorama/canny", base), mq.detect("canny", scene, low=50, high=120))
    prompts = automatic(base, control, steps=2, seed=3)
    assert [Record.load(tmp_path / "out.png").prompt] == prompts
    wanted = mq.generate(base, prompts, control, steps=2, seed=3)[0]
    assert np.array_equal(pixels("out.png"), np.asarray(wanted, np.int16))


def test_a_folder_of_images(generate, net, scene, tmp_path) -> None:
    """The networks are loaded once; a broken image is passed over and named."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b.png", "a.jpg"):
        scene.save(folder / name)
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("not an image")
    paths, err = generate(folder, "--controlnet", net, "-o", "made", code=2)
    assert paths == ["made/a.png", "made/b.png"]
    assert "1 of 3 images were passed over" in err
    assert "broken.png" in err
    generate("scene.png", "--controlnet", net, "-o", "one.png")
    assert np.array_equal(pixels("made/b.png"), pixels("one.png"))


def test_a_sweep_is_a_sheet(generate, net, scene) -> None:
    options = ("scene.png", "--controlnet", net, "-o", "sheet.png", "--keep-images")
    paths, _ = generate(*options, "--sweep", "weight=0,0.5,1", "--sweep", "end=0.5,1")
    assert paths == [*(f"sheet-{number}.png" for number in range(1, 7)), "sheet.png"]
    controls = [Record.load(Path(path)).controls[0] for path in paths[:-1]]
    assert [(c.weight, c.end) for c in controls] == [(0, 0.5), (0.5, 0.5), (1, 0.5), (0, 1), (0.5, 1), (1, 1)]
    sheet = pixels("sheet.png")
    found = sum(_contains(sheet, pixels(path)) for path in paths[:-1])
    assert found == 6
    assert sheet.shape[1] > 3 * 64 and sheet.shape[0] > 2 * 64


def _contains(sheet: np.ndarray, image: np.ndarray) -> bool:
    height, width, _ = image.shape
    rows, columns = sheet.shape[0] - height + 1, sheet.shape[1] - width + 1
    starts = np.argwhere((sheet[:rows, :columns] == image[0, 0]).all(axis=2))
    return any(np.array_equal(sheet[r : r + height, c : c + width], image) for r, c in starts)


def test_nothing_is_overwritten(generate, tmp_path) -> None:
    """A default name gets the next number, a typed one is refused."""
    assert [generate()[0] for _ in range(3)] == [["out.png"], ["out-2.png"], ["out-3.png"]]
    before = pixels("out.png")
    _, err = generate("-o", "out.png", "--seed", 5, code=2)
    assert "'out.png' exists already; give another --output, or --overwrite." in err
    assert np.array_equal(before, pixels("out.png"))
    assert generate("-o", "out.png", "--seed", 5, "--overwrite")[0] == ["out.png"]
    assert not np.array_equal(before, pixels("out.png"))
    assert generate("--count", 2)[0] == ["out-4.png", "out-5.png"]


@pytest.mark.parametrize("how", ["cut", "pad", "stretch"])
def test_an_image_of_another_shape(generate, net, tmp_path, how) -> None:
    """160 × 80 pixels with a white square: cut it touches the sides, padded it is small, stretched it is narrow."""
    image = Image.new("RGB", (160, 80))
    image.paste("white", (40, 0, 120, 80))
    image.save("wide.png")
    _, err = generate("wide.png", "--map", "--controlnet", net, "--fit", how, "-o", "out.png")
    white = np.asarray(Record.load(Path("out.png")).controls[0].image())[..., 0] > 127
    rows, columns = (int(white.any(axis=axis).sum()) for axis in (1, 0))
    assert (rows, columns) == {"cut": (64, 64), "pad": (32, 32), "stretch": (64, 32)}[how]
    assert ("160×80 is cut at its centre" in err) == (how == "cut")


def test_bars_have_no_edges(generate, net, tmp_path) -> None:
    """A map is detected before bars are added, which would otherwise count as edges."""
    Image.new("RGB", (160, 80), "white").save("wide.png")
    generate("wide.png", "--controlnet", net, "--fit", "pad", "-o", "out.png")
    assert not np.asarray(Record.load(Path("out.png")).controls[0].image()).any()


def test_defaults_are_those_of_python(maquette, python, base, net, scene, tmp_path) -> None:
    maquette("generate", "scene.png", "--base", base, "--controlnet", net, "--steps", 1, "-o", "out.png")
    edges = mq.detect("canny", scene)
    mq.save(mq.generate(python, "", mq.Control(mq.load_controlnet(net, python), edges), steps=1)[0], "python.png")
    assert Record.load(tmp_path / "out.png") == Record.load(tmp_path / "python.png")


@pytest.mark.parametrize("option", ["--controlnet", "--base"])
def test_a_missing_network_is_told_at_once(maquette, image, option) -> None:
    started = time.perf_counter()
    code, _, err = maquette("generate", image, option, "runs/absent")
    assert (code, "'runs/absent' is neither a folder here nor in the Hub's cache" in err) == (2, True)
    assert time.perf_counter() - started < 2
