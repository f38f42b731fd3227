"""Every command, as a user runs it: with a tiny base in a folder, in a separate process where that matters."""

import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image, PngImagePlugin

from maquette.checkpoints import load_base, load_controlnet
from maquette.cli.main import VERBS, app
from maquette.conditions.detect import Detector
from maquette.conditions.labels import colour_labels
from maquette.controlnet.contract import Contract
from maquette.diorama import scene
from maquette.foundation.images import fit, open_image
from maquette.sampling.metadata import Record


@pytest.mark.parametrize("verb", VERBS)
def test_every_help_has_an_example(verb, maquette) -> None:
    code, out, _ = maquette(verb, "--help")
    assert code == 0
    assert "Example: maquette" in " ".join(out.split())


def test_help_is_fast() -> None:
    """Under half a second on an idle machine, since no heavy library is imported."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "maquette", "--help"], check=True, capture_output=True)
    assert time.perf_counter() - started < 3
    code = (
        "import sys, maquette, maquette.cli.main; print([m for m in ('torch', 'diffusers', 'cv2') if m in sys.modules])"
    )
    imported = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert imported.strip() == "[]"


def commands(group, *names: str) -> dict[str, Any]:
    """Every command by the words that call it, those of `data` too."""
    found = {}
    for name, command in group.commands.items():
        inner = isinstance(command, typer.core.TyperGroup)
        found |= commands(command, *names, name) if inner else {" ".join([*names, name]): command}
    return found


COMMANDS = commands(typer.main.get_command(app))


@pytest.mark.parametrize("words", COMMANDS)
def test_no_value_is_lost_where_an_option_is_given_twice(words, maquette) -> None:
    options = [parameter for parameter in COMMANDS[words].params if parameter.param_type_name == "option"]
    assert {"data check", "data annotate", "data cache"} < set(COMMANDS)
    for option in options:
        if option.multiple or "--help" in option.opts:
            continue
        name, value = max([*option.opts, *option.secondary_opts], key=len), [] if option.is_flag else ["1"]
        code, _, err = maquette(*words.split(), name, *value, name, *value)
        assert (code, f"{name} is given twice" in err) == (2, True), err


MISTAKES = {
    "generate missing.png": "There is no image at 'missing.png'",
    "generate house.png --condition nonsense": "no detector 'nonsense'. Known: canny, scribble",
    "generate house.png --condition caption": "caption writes text, which is not a condition map",
    "generate house.png --option lo=3": "did you mean 'low'? Known: low, high, seed. Or give a canny map with --map",
    "generate house.png --controlnet nonsense": "There is no ControlNet 'nonsense'. Known: diorama/canny",
    "generate house.png --map --condition nonsense": "There is no ControlNet 'diorama/nonsense'",
    "generate house.png --weight -1": "A control's weight is a number from 0 to 10",
    "generate house.png --start 3": "with 0 ≤ start ≤ end ≤ 1, not start=3.0",
    "generate --base nowhere": "There is no base 'nowhere': it is not bundled (diorama, diorama-mmdit)",
    "generate --base .": "the path is a folder without a model_index.json",
    "generate --steps 0": "steps is a whole number from 1 to 1000, not 0.",
    "generate --guidance 99": "guidance lies between 0 and 50, not 99.0.",
    "generate --sampler nonsense": "There is no sampler 'nonsense'. Known: ddim, ddpm",
    "generate --condition-in nonsense": "There is no condition_in 'nonsense'. Known: both, conditional, weighted.",
    "generate --size large": "--size is WIDTHxHEIGHT in pixels, such as 128x128, not 'large'.",
    "generate --dtype int8": "There is no dtype 'int8'. Known: auto, float32, bfloat16, float16.",
    "generate --device cdua": "There is no device 'cdua' here",
    "generate --device cuda:x": "There is no device 'cuda:x' here",
    "generate --again missing.png": "There is no image at 'missing.png'.",
    "generate house.png --controlnet runs/absent": "neither a folder here nor in the Hub's cache",
    "generate --base runs/absent": "neither a folder here nor in the Hub's cache",
    "generate house.png --weight 1 --weight 2": "--weight is given twice, and only one value can count",
    "generate house.png --option low=1 --option low=2": "--option gives low twice; give it once.",
    "generate --control canny": "The control 'canny' has no image; give one, as in --control canny:house.png.",
    "generate --control canny:missing.png": "There is no image at 'missing.png'",
    "generate --control canny:house.png,wieght=2": "no setting of --control 'wieght'; did you mean 'weight'?",
    "generate --control canny:house.png,weight=1,weight=2": "gives weight twice; give it once.",
    "generate --control canny:house.png,weight=much": "weight is a number, or one for each slot",
    "generate --control canny:house.png,curve=1": "curve is points FRACTION:FACTOR such as 0:1|1:0.2, not '1'.",
    "generate --control canny:house.png,balance=net": "There is no balance 'net'. Known: balanced, prompt, control.",
    "generate --control canny:house.png,mask=missing.png": "There is no image at 'missing.png'",
    "generate --control canny:house.png --weight 1": "put --weight into it, as in --control canny:house.png,weight=0.8",
    "generate house.png --control canny:house.png": "No control uses the image 'house.png'",
    "generate --image missing.png": "There is no image at 'missing.png'",
    "generate --mask house.png": "--mask has no effect without --image; give it too.",
    "generate --strength 0.5": "--strength has no effect without --image; give it too.",
    "generate --image house.png --strength 0": "strength is above 0",
    "generate --feather 3": "--feather has no effect without --mask; give it too.",
    "generate --seed later": "A seed is a whole number of 0 or more, or random, not 'later'.",
    "generate --seeds 1,x": "A seed is a whole number of 0 or more, or random, not 'x'.",
    "generate --seeds 1,2 --count 3": "--seeds lists the seed of every image; leave --count out.",
    "generate --prompts missing.txt": "The prompts in 'missing.txt' cannot be read",
    "generate --prompts house.png": "The prompts in 'house.png' cannot be read",
    "generate --prompts x --prompt y": "--prompts lists every prompt; leave --prompt out.",
    "generate --prompt-mode none --prompt y": "--prompt-mode none makes the prompt; leave --prompt out.",
    "generate --prompt-mode some": "prompt_mode cannot be 'some'. Known: user, none, default, auto",
    "generate house.png --fit crop": "fit cannot be 'crop'. Known: cut, pad, stretch",
    "generate house.png --sweep weight=1": "--sweep is NAME=VALUE,VALUE,..., such as weight=0,0.5,1",
    "generate house.png --sweep wieght=0,1": "There is no setting to vary 'wieght'; did you mean 'weight'?",
    "generate house.png --sweep weight=0,-1": "A control's weight is a number from 0 to 10",
    "generate house.png --sweep weight.2=0,1": "Controls are numbered from 1 to 1; there is no weight.2.",
    "generate --sweep weight=0,1": "There is no control whose weight could be set.",
    "generate --sweep steps=0,1": "steps is a whole number from 1 to 1000, not 0.",
    "generate --sweep prompt=a,b": "several prompts are given with --prompts FILE.",
    "generate --set seed=7": "--set and --anyway belong to --again IMAGE",
    "generate -o house.png": "'house.png' exists already; give another --output, or --overwrite.",
    "generate -o /proc/out.png": "Nothing can be written to the folder '/proc'",
    "generate -o out.gif": "Results are .png, .jpg, .jpeg, .webp files, by the name's ending; 'out.gif' is none.",
    "generate house.png house.png -o out.png": "The results of several images go to a folder; give --output FOLDER",
    "generate house.png house.png": "Two results would be written to 'generated/house.png'; rename one of the images.",
    "detect nonsense house.png": "There is no detector 'nonsense'. Known: canny, scribble",
    "detect depth missing.png": "There is no image at 'missing.png'",
    "detect depth house.png --weights nowhere": "nor is there a file or folder of that name.",
    "detect canny house.png --weights nowhere": "canny takes no weights; leave them out.",
    "detect depth house.png --device cdua": "There is no device 'cdua' here",
    "train nonsense --output run": "A recipe is diorama/CONDITION",
    "train diorama/cany --output run": "condition cannot be 'cany' on the diorama; did you mean 'canny'?",
    "train diorama/canny --output run --batch-size 0": "--batch-size is a whole number of 1 or more, not 0.",
    "train diorama/canny --output run --variant nonsense": "--variant cannot be 'nonsense'. Known: zero, gaussian",
    "train diorama/canny --output run --base nowhere": "There is no base 'nowhere'",
    "train diorama/canny --output run --start-from nowhere": "There is no ControlNet 'nowhere'",
    "train diorama/canny --output run --device cdua": "There is no device 'cdua' here",
    "train diorama/canny --output run --resume": "There is no training in 'run': it has no training.json.",
    "train house.png --condition canny --output run": "'house.png' has no format that pairs are read from.",
    "evaluate missing": "There is no ControlNet 'missing'.",
    "evaluate diorama/canny --base nowhere": "There is no base 'nowhere'",
    "evaluate diorama/canny --steps 0": "steps is a whole number from 1 to 1000, not 0.",
    "evaluate diorama/canny --scenes 0": "An evaluation takes 2 scenes or more",
    "evaluate diorama/canny --dtype int8": "There is no dtype 'int8'.",
    "evaluate diorama/canny --prompts true,some": "There is no kind of prompt 'some'. Known: true, default, none",
    "evaluate diorama/canny --prompts none,none": "kinds of prompt are each given once",
    "evaluate diorama/canny --count 9 --detect": "--detect, --count belong to your own data; give it with --data.",
    "evaluate diorama/canny --inception absent.pth": "FID needs weights, and there is no 'absent.pth'",
    "evaluate diorama/canny --clip absent": "The CLIP score needs weights, and there is no 'absent'",
    "evaluate diorama/canny --aesthetic head.pth": "name that CLIP too (--clip)",
    "evaluate diorama/canny --inception-features 99": "Inception has 64, 192, 768, 2048 features, not 99.",
    "evaluate diorama/canny --data missing --condition spirals": "No detector is called 'spirals'",
    "evaluate diorama/canny --data . --palette ade": "There is no palette 'ade'",
    "evaluate diorama/canny --data . --condition canny --option lo=3": "did you mean 'low'?",
    "info missing": "There is no base 'missing'",
    "info house.png": "'house.png' holds no weights: it begins neither as .safetensors nor as a file of torch",
    "convert missing out --to diffusers": "There is no ControlNet 'missing'.",
    "convert missing out --to nonsense": "There is no format to convert to 'nonsense'. Known: diffusers, original",
    "convert missing out --to diffusers --base nowhere": "There is no base 'nowhere'",
    "transfer missing --from diorama --to diorama -o out": "There is no ControlNet 'missing'.",
    "transfer diorama/canny --from nowhere --to diorama -o out": "There is no base 'nowhere'",
    "transfer diorama/canny --from diorama --to nowhere -o out": "There is no base 'nowhere'",
    "demo missing.png": "There is no image at 'missing.png'",
    "demo -o out.jpg": "Results are PNG files",
    "data check missing": "There is no data set 'missing'.",
    "data check .": "'.' holds no metadata.jsonl, no prompt.json",
    "data check . --size large": "--size is WIDTHxHEIGHT in pixels or one number, such as 512 or 768x512, not 'large'.",
    "data check . --size 100": "A frame's sides are multiples of 64 pixels, not 100×100.",
    "data cache missing": "There is no data set 'missing'.",
    "data cache . --base nowhere": "There is no base 'nowhere'",
    "data cache . --device cdua": "There is no device 'cdua' here",
    "data annotate missing out --condition canny": "There is no data set 'missing'.",
    "data annotate . out --condition nonsense": "There is no detector 'nonsense'.",
    "data annotate . out --condition depth --weights nowhere": "nor is there a file or folder of that name.",
    "data annotate . out --condition depth --device cdua": "There is no device 'cdua' here",
    "data annotate . out --condition canny --size 100": "A frame's sides are multiples of 64 pixels, not 100×100.",
    "data annotate . out --condition canny --size original --buckets": "give a size, or leave --buckets out",
    "study make house.png -o out": "A ranking compares 2 to 9 methods, not 1; give a folder of images",
    "study make a b -o out": "There is no folder 'a'; give one with the images of a method.",
    "study make a x/a -o out": "Two methods are called 'a'; name one of them otherwise: NAME=x/a.",
    "study make a b -o house.png": "'house.png' exists already, and a study is never overwritten",
    "study make a b -o out --design rank": "There is no design 'rank'; did you mean 'ranking'?",
    "study make a b -o out --by size": "There is no way to match images 'size'. Known: name, number.",
    "study make a b -o out --size 12": "--size is WIDTHxHEIGHT in pixels, such as 128x128, not '12'.",
    "study make a b c -o out --design difference": "A test of the difference compares 2 methods, not 3",
    "study make a b -o out --raters anna,anna": "Every rater has a name of their own; 'anna' is not one.",
    "study serve .": "'.' holds no study (study.sqlite); `maquette study make` makes one.",
    "study report missing": "'missing' holds no study (study.sqlite)",
    "data check . --palette ade20": "There is no palette 'ade20'; did you mean 'ade20k'",
    "generate house.png --map --condition segmentation --option palette=ade": "There is no palette 'ade'",
}
"""Command lines with a mistake, and the message; none needs a network library."""


def test_mistakes_are_reported_before_any_network_library_is_imported(image, tmp_path) -> None:
    program = """
import contextlib, io, json, sys
from maquette.cli.main import main

for line in json.load(sys.stdin):
    sys.argv = ["maquette", *line.split()]
    message = io.StringIO()
    with contextlib.redirect_stderr(message):
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code
    heavy = sorted({"torch", "diffusers", "transformers"} & set(sys.modules))
    print(json.dumps([line, code, message.getvalue(), heavy]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(list(MISTAKES)),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line for line, *_ in answers] == list(MISTAKES)
    for line, code, message, heavy in answers:
        assert code == 2, line
        assert MISTAKES[line] in message, message
        assert heavy == [], line
    assert list(tmp_path.iterdir()) == [image]


def test_a_damaged_record_is_reported(maquette, base, net, image, tmp_path) -> None:
    maquette("generate", image, "--base", base, "--controlnet", net, "--steps", 1, "--size", "64x64", "-o", "made.png")
    with Image.open(tmp_path / "made.png") as made:
        values = json.loads(made.info["maquette"])
    broken = [
        {**values, "surplus": 1},
        {**values, "number": 7},
        {**values, "settings": {}},
        {**values, "controls": [{**values["controls"][0], "map": "%"}]},
        {key: value for key, value in values.items() if key != "prompt"},
        [],
    ]
    for record in broken:
        info = PngImagePlugin.PngInfo()
        info.add_text("maquette", json.dumps(record))
        Image.new("RGB", (8, 8)).save(tmp_path / "broken.png", pnginfo=info)
        code, _, err = maquette("generate", "--again", "broken.png")
        assert (code, "does not say how it was made" in err) == (2, True), record


@pytest.mark.parametrize("condition", ["canny", "hough", "softedge"])
def test_detect_writes_the_map_that_generate_uses(maquette, base, net, tmp_path, condition: str) -> None:
    scene(7).image.resize((150, 90)).save(tmp_path / "scene.png")
    options = ("--base", base, "--controlnet", net, "--steps", 1, "--size", "64x64", "-o", "made.png")
    assert maquette("generate", "scene.png", "--condition", condition, *options)[0] == 0
    assert maquette("detect", condition, "scene.png", "-o", ".", "--size", "64x64")[0] == 0
    fed = Record.load(tmp_path / "made.png").controls[0].image()
    assert fed == Image.open(tmp_path / f"scene-{condition}.png").convert("RGB")
    assert np.asarray(fed).any()


def test_options_go_to_the_detector(maquette, base, net, image, tmp_path) -> None:
    options = ("--base", base, "--controlnet", net, "--steps", 1, "--size", "64x64", "-o", "made.png", "--overwrite")
    code, _, err = maquette("generate", image, "--option", "low=2040", "--option", "high=2040", *options)
    assert code == 0, err
    assert not np.asarray(Record.load(tmp_path / "made.png").controls[0].image()).any()
    code, _, err = maquette("generate", image, "--option", "lo=3", *options)
    assert (code, "did you mean 'low'" in err) == (2, True)
    code, _, err = maquette("generate", image, "--map", "--option", "low=3", *options)
    assert (code, "no effect" in err) == (0, True)
    code, _, err = maquette("generate", image, "--condition", "caption", *options)
    assert code == 2


def test_a_class_map_is_resized_without_mixing_classes(maquette, base, net, tmp_path) -> None:
    classes = Image.new("RGB", (90, 130), (255, 0, 0))
    classes.paste((0, 0, 255), (20, 20, 61, 77))
    classes.save(tmp_path / "classes.png")
    options = ("--base", base, "--controlnet", net, "--steps", 1, "--size", "64x64", "-o", "made.png")
    assert maquette("generate", "classes.png", "--map", "--condition", "segmentation", *options)[0] == 0
    fed = np.asarray(Record.load(tmp_path / "made.png").controls[0].image()).reshape(-1, 3)
    assert {tuple(colour) for colour in fed.tolist()} == {(255, 0, 0), (0, 0, 255)}


@pytest.mark.parametrize("order", ["frame, then detect", "detect, then resize"])
def test_a_controlnet_is_served_in_the_order_it_was_trained_in(maquette, base, net, image, tmp_path, order) -> None:
    trained = load_controlnet(net, load_base(base))
    trained.contract = Contract(stated=True, detector="canny", order=order, lines=True)
    trained.save(tmp_path / "trained")
    options = ("--base", base, "--controlnet", "trained", "--steps", 1, "--size", "64x64", "-o", "made.png")
    assert maquette("generate", image, "--option", "low=50", *options)[0] == 0
    fed = np.asarray(Record.load(tmp_path / "made.png").controls[0].image())
    photo = open_image(image)
    first, other = (
        np.asarray(Detector("canny").in_frame(photo, (64, 64), way, low=50))
        for way in (order, {"frame, then detect": "detect, then resize"}.get(order, "frame, then detect"))
    )
    assert (fed == first).all() and (fed != other).any() and set(np.unique(fed)) == {0, 255}


def test_a_map_of_class_numbers_is_coloured(maquette, base, net, tmp_path) -> None:
    numbers = np.random.default_rng(0).integers(0, 151, (130, 90))
    Image.fromarray(numbers.astype(np.uint8)).save(tmp_path / "labels.png")
    options = ("--base", base, "--controlnet", net, "--steps", 1, "--size", "64x64", "-o", "made.png", "--overwrite")
    command = ("generate", "labels.png", "--map", "--condition", "segmentation", *options)
    code, _, err = maquette(*command, "--option", "palette=ade20k")
    assert code == 0, err
    assert "no effect" not in err and "class numbers" not in err
    fed = np.asarray(Record.load(tmp_path / "made.png").controls[0].image())
    assert (fed == np.asarray(fit(colour_labels(numbers, "ade20k"), (64, 64), "classes"))).all()
    assert "If they are numbers, give their palette: ade20k" in maquette(*command)[2]
    code, _, err = maquette(*command, "--option", "palette=diorama")
    assert (code, "Class numbers of diorama are 0 to 9" in err) == (2, True), err
    code, _, err = maquette(*command, "--option", "palette=ade")
    assert (code, "no palette 'ade'" in err) == (2, True)


def test_generate_from_a_map(maquette, base, net, image) -> None:
    code, _, err = maquette(
        "generate", image, "--map", "--condition", "depth", "--base", base, "--controlnet", net, "--steps", 1
    )
    assert code == 0, err
    code, _, err = maquette("generate", image, "--condition", "depth", "--base", base, "--controlnet", net)
    assert code == 2
    assert "depth needs" in err
    assert "--map" in err


def test_another_condition_than_the_trained_one_is_a_note(maquette, image) -> None:
    command = ("generate", image, "--controlnet", "diorama/canny", "--steps", 1)
    assert "was trained on" not in maquette(*command, "--condition", "canny")[2]
    code, _, err = maquette(*command, "--condition", "scribble")
    assert code == 0
    assert "was trained on maps of 'diorama/canny' and is given 'scribble'" in " ".join(err.split())


def test_detect(maquette, image, tmp_path) -> None:
    code, out, err = maquette("detect", "canny", image, "-o", "maps", "--option", "low=80", "--option", "high=160")
    assert code == 0, err
    assert out.strip() == "maps/house-canny.png"
    with Image.open(tmp_path / "maps/house-canny.png") as written:
        assert written.size == (160, 130)


def test_detect_says_what_it_keeps(maquette, image, tmp_path) -> None:
    code, out, err = maquette("detect", "diorama/pose", image, "--keep")
    assert code == 0, err
    assert sorted(out.split()) == ["maps/house-diorama-pose-record.json", "maps/house-diorama-pose.png"]
    assert all((tmp_path / path).is_file() for path in out.split())


@pytest.mark.parametrize("detector", ["canny", "hough", "lsd", "scribble", "softedge", "xdog"])
def test_detectors_without_weights_import_no_network_library(detector: str, image, tmp_path) -> None:
    argv = f"['maquette', 'detect', '{detector}', '{image}', '-o', '{tmp_path}']"
    program = f"""
import sys
sys.argv = {argv}
from maquette.cli.main import app
app(standalone_mode=False)
assert not {{"torch", "transformers", "diffusers", "huggingface_hub"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_broken_image_does_not_stop_the_others(maquette, image, tmp_path) -> None:
    code, out, err = maquette("detect", "canny", "absent.png", image, "-o", "maps")
    assert code == 2
    assert out.strip() == "maps/house-canny.png"
    assert "1 of 2 images have no map. There is no image at 'absent.png'" in err


def test_too_little_memory_is_reported(maquette, base, monkeypatch) -> None:
    from maquette.sampling import generate as module

    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 90 GiB")

    monkeypatch.setattr(module, "_sample", fail)
    code, _, err = maquette("generate", "--base", base)
    assert code == 2
    assert "The memory of this machine is too little for 128×128 pixels" in err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("generate", "absent.png"), "There is no image at 'absent.png'"),
        (("generate", "--base", "nowhere"), "There is no base 'nowhere'"),
        (("generate", "--base", "BASE", "--steps", "0"), "steps is a whole number from 1 to 1000, not 0"),
        (("generate", "--base", "BASE", "--guidance", "99"), "guidance lies between 0 and 50, not 99"),
        (("generate", "--base", "BASE", "--size", "large"), "--size is WIDTHxHEIGHT"),
        (("generate", "--base", "BASE", "--size", "100x64"), "multiples of 64 pixels"),
        (("generate", "--base", "BASE", "--dtype", "int8"), "no dtype 'int8'"),
        (("generate", "--base", "BASE", "IMAGE", "--controlnet", "diorama/cany"), "There is no ControlNet"),
        (("generate", "--base", "BASE", "--map"), "no control for --map to act on; give the image"),
        (("generate", "--base", "BASE", "--controlnet", "x"), "give the image"),
        (("generate", "--base", "BASE", "--weight", "0.5", "--end", "0.5"), "no control for --weight, --end to act on"),
        (("generate", "--again", "IMAGE", "--steps", "3", "--prompt", "a"), "leave --prompt, --steps out"),
        (("generate", "IMAGE", "--base", "BASE", "--size", "0x64"), "--size is WIDTHxHEIGHT in pixels"),
        (("generate", "--base", "BASE", "--device", "cdua"), "There is no device 'cdua'"),
        (("generate", "--base", "BASE", "--count", "0"), "count is a whole number"),
        (("generate", "--base", "BASE", "-o", "."), "Results are .png, .jpg, .jpeg, .webp files"),
        (("detect", "canny", "IMAGE", "IMAGE", "-o", "maps"), "Two results would be written"),
        (("generate", "--again", "IMAGE"), "does not say how it was made"),
        (("detect", "cany", "IMAGE", "-o", "maps"), "did you mean 'canny'"),
        (("detect", "canny", "IMAGE", "-o", "maps", "--option", "low"), "--option is NAME=VALUE"),
        (("detect", "canny", "IMAGE", "-o", "maps", "--option", "lo=3"), "did you mean 'low'"),
        (("train", "canny", "--output", "run"), "A recipe is diorama/CONDITION"),
        (("train", "diorama/cany", "--output", "run"), "did you mean 'canny'"),
        (
            ("train", "diorama/canny", "--output", "run", "--batch-size", "0"),
            "--batch-size is a whole number of 1 or more",
        ),
        (("train", "diorama/canny", "--output", "run", "--resume"), "There is no training in 'run'"),
        (("evaluate", "runs/absent", "--base", "BASE"), "neither a folder here nor in the Hub's cache"),
        (("evaluate", "diorama/canny", "diorama/canny"), "Two results would be written"),
        (("evaluate", "diorama/canny", "-o", "IMAGE"), "is a file"),
        (("demo", "-o", "demo.jpg"), "Results are PNG files"),
    ],
)
def test_bad_input_prints_a_message_and_writes_nothing(maquette, base, image, tmp_path, command, message) -> None:
    before = sorted(tmp_path.iterdir())
    code, _, err = maquette(*({"BASE": base, "IMAGE": image}.get(word, word) for word in command))
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


def test_a_long_prompt_is_a_note(maquette, base, tmp_path) -> None:
    code, _, err = maquette("generate", "--base", base, "--steps", 1, "--prompt", "word " * 60)
    assert code == 0
    assert "Note: The prompt has" in err
    assert "cut off: " in err


def test_a_very_long_prompt_is_not_repeated_whole(maquette, base) -> None:
    _, _, err = maquette("generate", "--base", base, "--steps", 1, "--prompt", "word " * 500)
    (note,) = [line for line in err.splitlines() if "cut off: " in line]
    assert len(note) < 400


def test_images_are_written_atomically(maquette, base, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Image.Image, "save", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("disk is full")))
    code, _, err = maquette("generate", "--base", base, "--steps", 1)
    assert code == 2
    assert "disk is full" in err
    assert list(tmp_path.iterdir()) == []


def test_the_record_is_json_in_the_png(maquette, base, tmp_path) -> None:
    maquette("generate", "--base", base, "--steps", 1, "-o", "one.png")
    with Image.open(tmp_path / "one.png") as image:
        values = json.loads(image.info["maquette"])
    assert values["settings"]["steps"] == 1
