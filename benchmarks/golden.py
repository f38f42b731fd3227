"""Hashes of everything that a refactor must not change: pixels, trained weights, shards, conversions.

    python benchmarks/golden.py record runs/golden.json   # on the code before
    python benchmarks/golden.py compare runs/golden.json  # on the code after: same, DIFFERENT or ERROR, by name

SHA-256 of 24 generations with the diorama base, of the weights after 20 steps of small trainings, of annotated shards
and of one ControlNet in every format. Only public names are used, so that the script runs before and after a refactor.

Hashes are specific to a machine: another CPU or another version of torch rounds differently. Record and compare on the
same one. Everything runs on one thread (OMP_NUM_THREADS=1) without network access, in about two minutes.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")  # before torch is imported, and for the commands below

import torch
from maquette_diorama import WEIGHTS
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file

import maquette as mq

# Command lines. Rename flags here when they are renamed in maquette; the first five are stable.
TRAIN = (
    *("--max-steps", "20", "--batch-size", "4", "--seed", "3", "--checkpoint-every", "20"),
    *("--evaluate-every", "0"),
)  # fmt: skip
SCENES = ("--scenes", "32")
UNCACHED = ("--set", "cache=false")
FLOAT32 = ("--set", "precision=float32")
ANNOTATE = ("--condition", "canny", "--size", "original", "--shard-size", "4", "--workers", "1")

TRAININGS: dict[str, tuple[str, ...]] = {
    "cached": ("diorama/canny", *SCENES),
    "uncached": ("diorama/canny", *SCENES, *UNCACHED),
    "cached float32": ("diorama/canny", *SCENES, *FLOAT32),
    "uncached float32": ("diorama/canny", *SCENES, *UNCACHED, *FLOAT32),
    "annotated shards": ("pairs", "--condition", "canny"),
}
"""Data and flags of each training, besides `TRAIN`."""

DETECTORS = {
    "canny": "canny",
    "depth": "diorama/depth",
    "normal": "diorama/normal",
    "pose": "diorama/pose",
    "scribble": "scribble",
    "segmentation": "diorama/segmentation",
}
"""Bundled ControlNets, and detectors for them that need no download."""

SCENE = 6  # seed of the scene whose maps are the conditions: a person and a house
USUAL: dict[str, Any] = {"steps": 6, "guidance": 4.0, "sampler": "ddim", "condition_in": "both", "seed": 5, "count": 2}

Controls = Mapping[str, Mapping[str, float]]
"""ControlNets by condition, with keyword arguments of `mq.Control`."""


def only(*conditions: str) -> Controls:
    return {condition: {} for condition in conditions}


GENERATIONS: dict[str, tuple[Controls, dict[str, Any]]] = {
    "canny ddim": (only("canny"), {}),
    "depth euler": (only("depth"), {"sampler": "euler"}),
    "normal ddpm": (only("normal"), {"sampler": "ddpm"}),
    "pose heun": (only("pose"), {"sampler": "heun"}),
    "scribble dpm++-karras": (only("scribble"), {"sampler": "dpm++-karras"}),
    "segmentation unipc": (only("segmentation"), {"sampler": "unipc"}),
    "no control, negative prompt": ({}, {"negative_prompt": "night", "guidance": 7.0}),
    "no guidance": (only("canny"), {"guidance": 1.0}),
    "not square": (only("depth"), {"size": (192, 128)}),
    "conditional": (only("canny"), {"condition_in": "conditional"}),
    "weighted": (only("depth"), {"condition_in": "weighted"}),
    "two, both": (only("canny", "depth"), {}),
    "two, conditional": ({"pose": {"weight": 0.6}, "segmentation": {"weight": 1.2}}, {"condition_in": "conditional"}),
    "two, weighted": (only("normal", "scribble"), {"condition_in": "weighted", "sampler": "dpm++"}),
    "first half": ({"canny": {"end": 0.5}}, {}),
    "from 0.3 to 0.8": ({"depth": {"start": 0.3, "end": 0.8}}, {"sampler": "euler-ancestral"}),
    "one after the other": ({"canny": {"end": 0.5}, "depth": {"start": 0.5}}, {}),
    "start image": (only("canny"), {"image": True, "strength": 0.6}),
    "mask": (only("pose"), {"image": True, "mask": True, "strength": 1.0}),
    "mask, strength 0.7": (only("depth"), {"image": True, "mask": True, "strength": 0.7, "sampler": "euler-ancestral"}),
    "canny ddim bfloat16": (only("canny"), {"dtype": "bfloat16"}),
    "two, weighted bfloat16": (only("depth", "segmentation"), {"condition_in": "weighted", "dtype": "bfloat16"}),
    "conditional heun bfloat16": (
        only("scribble"),
        {"condition_in": "conditional", "sampler": "heun", "dtype": "bfloat16"},
    ),
    "mask bfloat16": (only("normal"), {"image": True, "mask": True, "strength": 0.7, "dtype": "bfloat16"}),
}
"""How each differs from `USUAL`; image and mask stand for `start_image` and `example_mask`."""

CONVERSIONS: dict[str, tuple[str, ...]] = {
    "original.safetensors": ("convert", "net", "original.safetensors", "--to", "original"),
    "original.pth": ("convert", "net", "original.pth", "--to", "original"),
    "difference.safetensors": ("convert", "net", "difference.safetensors", "--to", "difference", "--base", "diorama"),
    "from-original": ("convert", "original.safetensors", "from-original", "--to", "diffusers"),
    "original-again.safetensors": ("convert", "from-original", "original-again.safetensors", "--to", "original"),
    "from-difference": (
        *("convert", "difference.safetensors", "from-difference", "--to", "diffusers", "--base", "diorama"),
    ),
    "transferred": ("transfer", "net", "--from", "diorama", "--to", "other-base", "-o", "transferred"),
    "and-back": ("transfer", "transferred", "--from", "other-base", "--to", "diorama", "-o", "and-back"),
}  # fmt: skip
"""Outputs in order, and the command that writes each; "net" is a copy of the bundled diorama/canny.

The conversion back from original.pth is left out: torch's format has no metadata, and for this narrow base the number
of heads cannot be inferred from the shapes."""

Case = Callable[[], dict[str, str]]
"""Produces something, and returns the hashes of its parts."""


def cases(folder: Path) -> dict[str, Case]:
    """All cases by name, in the order in which they run in an empty folder."""
    return {
        **{f"detect {name}": partial(detected, name) for name in DETECTORS},
        **{f"generate {name}": partial(generated, name) for name in GENERATIONS},
        "annotate": partial(annotated, folder),
        **{f"train {name}": partial(trained, folder, name) for name in TRAININGS},
        **{f"convert {name}": partial(converted, folder, name) for name in CONVERSIONS},
    }


@cache
def scene() -> Any:
    return mq.diorama.scene(SCENE)


@cache
def base(dtype: str) -> Any:
    return mq.load_base("diorama", dtype=dtype)


@cache
def condition_map(name: str) -> Image.Image:
    return mq.detect(DETECTORS[name], scene().image)


def start_image() -> Image.Image:
    return mq.diorama.scene(SCENE + 1).image


def example_mask() -> Image.Image:
    """White, where the image may change: the right half and a circle."""
    mask = Image.new("L", (128, 128))
    painter = ImageDraw.Draw(mask)
    painter.rectangle((64, 0, 127, 127), fill=255)
    painter.ellipse((20, 40, 50, 70), fill=255)
    return mask


def detected(name: str) -> dict[str, str]:
    return {"pixels": of_images([condition_map(name)])}


def generated(name: str) -> dict[str, str]:
    """The images of one of `GENERATIONS`."""
    conditions, changes = GENERATIONS[name]
    settings = {**USUAL, **changes}
    locked = base(settings.pop("dtype", "float32"))
    if settings.get("image"):
        settings["image"] = start_image()
    if settings.get("mask"):
        settings["mask"] = example_mask()
    controls = [
        mq.Control(mq.load_controlnet(f"diorama/{condition}", locked), condition_map(condition), **how)
        for condition, how in conditions.items()
    ]
    return {"pixels": of_images(mq.generate(locked, "a red house in the snow", controls, **settings))}


def annotated(folder: Path) -> dict[str, str]:
    """Two shards of canny maps of eight scenes: the files' bytes."""
    images = folder / "images"
    images.mkdir()
    lines = []
    for seed in range(8):
        example = mq.diorama.scene(seed)
        example.image.save(images / f"{seed}.png")
        lines.append(json.dumps({"file_name": f"{seed}.png", "text": example.caption}))
    (images / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    command(folder, "data", "annotate", "images", "pairs", *ANNOTATE)
    shards = sorted((folder / "pairs").glob("*.tar"))
    assert len(shards) == 2, f"expected two shards, not {len(shards)}"
    return {f"shard {number}": of_bytes(path) for number, path in enumerate(shards)}


def trained(folder: Path, name: str) -> dict[str, str]:
    """Weights of a finished run: tensors only, since the metadata hold the version that trained it."""
    source, *more = TRAININGS[name]
    output = Path("runs") / name.replace(" ", "-")
    command(folder, "train", source, "--output", str(output), *TRAIN, *more)
    return {"tensors": of_tensors(folder / output)}


def converted(folder: Path, name: str) -> dict[str, str]:
    """Tensors, and whole files except in torch's format, which contains a random name."""
    if not (folder / "net").exists():
        prepare_conversions(folder)
    command(folder, *CONVERSIONS[name])
    target = folder / name
    written = sorted(target.iterdir()) if target.is_dir() else [target]
    readers = {".safetensors": of_safetensors, ".json": of_bytes}
    files = {path.name: readers[path.suffix](path) for path in written if path.suffix in readers}
    return {"tensors": of_tensors(target), **files}


def prepare_conversions(folder: Path) -> None:
    """The ControlNet to convert, and a second base to transfer it to: the diorama's with noise on its U-Net."""
    weights = WEIGHTS
    shutil.copytree(weights / "base", folder / "other-base")
    unet = folder / "other-base" / "unet" / "diffusion_pytorch_model.safetensors"
    generator = torch.Generator().manual_seed(0)
    tensors = load_file(unet)
    noisy = {
        name: tensors[name] + 0.01 * torch.randn(tensors[name].shape, generator=generator).to(tensors[name].dtype)
        for name in sorted(tensors)
    }
    save_file(noisy, unet, {"format": "pt"})
    shutil.copytree(weights / "controlnets" / "canny", folder / "net")


def command(folder: Path, *arguments: str) -> None:
    """Run a command of maquette in a folder, with the package imported here."""
    environment = {**os.environ, "PYTHONPATH": str(Path(mq.__file__).parent.parent)}
    line = [sys.executable, "-m", "maquette", *arguments]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        message = done.stderr.strip().splitlines() or ["no message"]
        raise RuntimeError(f"maquette {' '.join(arguments)} exited with {done.returncode}: {message[-1]}")


def of_images(images: list[Image.Image]) -> str:
    """SHA-256 of sizes and pixels."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.mode} {image.size}".encode() + image.tobytes())
    return digest.hexdigest()


def of_tensors(path: Path) -> str:
    """SHA-256 of all tensors in a file or a diffusers folder, by name: dtype, shape and values."""
    file = path / "diffusion_pytorch_model.safetensors" if path.is_dir() else path
    pickled = file.suffix == ".pth"
    tensors = torch.load(file, map_location="cpu", weights_only=True) if pickled else load_file(file)
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def of_safetensors(path: Path) -> str:
    """SHA-256 of a file with its header's entries sorted: the library writes metadata in random order.

    Format: the header's length (8 bytes, little-endian), the header (JSON), the tensors' bytes.
    """
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:start]), sort_keys=True)
    return hashlib.sha256(header.encode() + content[start:]).hexdigest()


def of_bytes(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_all() -> tuple[dict[str, str], dict[str, str]]:
    """Every hash by name ("case: part"), and the errors of failed cases by name."""
    torch.set_num_threads(1)
    hashes: dict[str, str] = {}
    errors: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, make in cases(Path(folder)).items():
            started = time.perf_counter()
            try:
                hashes |= {f"{name}: {part}": value for part, value in make().items()}
            except Exception as error:  # the other cases are still useful
                errors[name] = f"{type(error).__name__}: {error}"
            print(f"{time.perf_counter() - started:6.1f} s  {name}", file=sys.stderr)
    return hashes, errors


def machine() -> dict[str, str]:
    """What hashes depend on besides the code."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    cpu = models[0] if models else platform.processor() or platform.machine()
    return {"cpu": cpu, "torch": torch.__version__, "capability": torch.backends.cpu.get_cpu_capability()}


def record(path: Path) -> int:
    """Write the hashes of this code; returns 1 if a case failed."""
    hashes, errors = make_all()
    path.write_text(json.dumps({"machine": machine(), "hashes": hashes}, indent=2) + "\n")
    for name, reason in errors.items():
        print(f"ERROR      {name}: {reason}")
    print(f"{len(hashes)} hashes are in {path}.")
    return 1 if errors else 0


def compare(path: Path) -> int:
    """Print each recorded name with its result; returns 1 if anything differs."""
    recorded = json.loads(path.read_text())
    if recorded["machine"] != machine():
        print(
            f"Recorded on another machine ({recorded['machine']}, not {machine()}): differences may be due to rounding."
        )
    hashes, errors = make_all()
    known: dict[str, str] = recorded["hashes"]
    failed = 0
    for name in [*known, *(name for name in hashes if name not in known)]:
        if name not in known:
            result = "NEW"
        elif name not in hashes:
            result = "ERROR"
            name += f" ({errors.get(name.partition(': ')[0], 'no longer produced')})"
        else:
            result = "same" if hashes[name] == known[name] else "DIFFERENT"
        failed += result != "same"
        print(f"{result:10} {name}")
    print(f"{len(known)} recorded; {failed} differ.")
    return 1 if failed else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("record", "compare"), help="write FILE, or compare this code with it")
    parser.add_argument("file", type=Path, metavar="FILE", help="JSON with the hashes by name")
    arguments = parser.parse_args()
    sys.exit({"record": record, "compare": compare}[arguments.action](arguments.file))


if __name__ == "__main__":
    main()
