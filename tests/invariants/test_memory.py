"""Where memory runs out, one sentence says what would fit; what is estimated is near what is measured."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.conftest import tiny_base
from tests.tiny_flux import tiny_flux
from tests.tiny_qwen import tiny_qwen
from tests.tiny_sd3 import tiny_sd3

from maquette.controlnet.control import Control
from maquette.controlnet.network import ControlNet
from maquette.sampling.denoiser import EncodedControl
from maquette.sampling.memory.need import ALWAYS, Request

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="of Linux's memory")

LIMITED = """
import resource, sys
from pathlib import Path
import maquette as mq
import torch._subclasses.fake_tensor  # what the estimate needs takes room too
from maquette.errors import MaquetteError

def limit(room):
    used = int(Path("/proc/self/status").read_text().partition("VmSize:")[2].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + room * 2**20, resource.RLIM_INFINITY))
"""

PYTHON = (
    LIMITED
    + """
base = mq.load_base("diorama", "cpu", "float32")

room, size, hook = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
settings = {"steps": 1, "record": False, "size": (size, size), hook: lambda *_: limit(room)}
try:
    (image,) = mq.generate(base, "a red cube", **settings)
    print(image.size)
except MaquetteError as error:
    print(error)
"""
)

COMMAND = (
    LIMITED
    + """
import maquette.cli.generation.run, maquette.cli.main
limit(int(sys.argv[1]))
sys.argv = ["maquette", *sys.argv[2:]]
maquette.cli.main.main()
"""
)


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize(("hook", "room"), [("callback", 150), ("progress", 40)])  # MiB
def test_an_allocation_that_fails_ends_in_a_sentence(hook, room) -> None:
    """The first is called before denoising, the second before decoding."""
    done = run(PYTHON, room, 768, hook)
    assert done.stdout.startswith("The memory of this machine is too little for 768×768 pixels: "), done
    found = re.search(r" free.*; .*size=\((\d+), \1\) \(--size \1x\1\) would fit\.$", done.stdout.strip())
    assert found is not None, done.stdout
    assert 128 <= int(found[1]) < 768


def test_what_cannot_fit_is_refused_before_the_system_ends_the_process(tmp_path) -> None:
    done = run(COMMAND, 450, "generate", "--size", "1024x1024", "--steps", "1", "-o", tmp_path / "out.png")
    assert done.returncode == 2, done.stderr
    *progress, sentence = done.stderr.splitlines()
    assert "Traceback" not in "".join(progress)
    assert sentence.startswith("maquette: The memory of this machine is too little for 1024×1024 pixels: ")
    assert "(--size " in sentence
    assert not (tmp_path / "out.png").exists()


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of the machine's, in whose limit files that are kept in memory give way."""
    roots = [
        root for root in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")) if (root / "cgroup.procs").exists()
    ]
    made = roots[-1] / f"maquette-{os.getpid()}" if roots else Path()
    try:
        made.mkdir()
    except OSError:
        pytest.skip("control groups may not be made here")
    yield made
    made.rmdir()


def run_in(group: Path, room: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command in a control group of so many MiB; beyond them the system kills it."""
    limit = next(name for name in ("memory.max", "memory.limit_in_bytes") if (group / name).exists())
    (group / limit).write_text(str(room * 2**20))
    return subprocess.run(
        [sys.executable, "-m", "maquette", *map(str, arguments)], capture_output=True, text=True, check=False,
        timeout=300, preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--low-memory",)], ids=["as it comes", "low memory"])
@pytest.mark.parametrize("room", [750, 1200])  # MiB, of which the program and its libraries take 560
def test_the_size_that_is_recommended_fits_a_container(room, more, group, tmp_path) -> None:
    """And is not far too small: at twice its side the command is refused again."""
    image = tmp_path / "out.png"
    settings = ("generate", "--steps", "1", "--overwrite", "-o", image, *more, "--size")
    refused = run_in(group, room, *settings, "2048x2048")
    assert refused.returncode == 2, refused
    size = int(re.findall(r"--size (\d+)x\d+\)", refused.stderr)[-1])
    taken = run_in(group, room, *settings, f"{size}x{size}")
    assert taken.returncode == 0, taken
    with Image.open(image) as made:
        assert made.size == (size, size)
    assert run_in(group, room, *settings, f"{2 * size}x{2 * size}").returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        "diorama:denoising:128:8",
        "diorama:denoising:256:4",
        "diorama:decoding:128:8",
        "diorama:decoding:256:4",
        "diorama:bands:512:1",
        "real:decoding:256:1",
    ],
)
def test_an_estimate_is_near_what_is_measured(case) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "memory.py"), "--case", case]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout)
    assert found["measured"] > 30
    assert 1 / 1.5 < found["ratio"] < 1.5, found


@pytest.mark.parametrize("family", ["sdxl", "sd3", "flux", "qwen"])
def test_every_family_has_an_estimate_that_grows_with_the_batch(family) -> None:
    makers = {"sd3": tiny_sd3, "flux": tiny_flux, "qwen": tiny_qwen}
    base = makers[family]() if family in makers else tiny_base(family)
    side = 8 * base.size_multiple
    control = Control(ControlNet.attach(base).eval(), torch.rand(1, 3, side, side))
    size = (side, side)
    text, encoded = base.encode_negative("", size), EncodedControl.of(base, control, size, 1)
    request = Request(base, [encoded], text, size, 1, 2, tiny=False, low_memory=False)
    alone, many = request.needs(), replace(request, batch=4).needs()
    without = replace(request, conditions=()).needs()
    for work in ("denoising", "decoding"):
        assert many[work] - ALWAYS == pytest.approx(4 * (alone[work] - ALWAYS), rel=0.1)
    assert without["denoising"] < alone["denoising"]
