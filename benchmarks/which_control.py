"""Three ways to control the diorama's transformer: what each costs, and how runs of each learned.

    python benchmarks/which_control.py cost
    python benchmarks/which_control.py plot runs/which/residual runs/which/channels runs/which/context
    python benchmarks/which_control.py weights runs/which/context
    python benchmarks/which_control.py sheet runs/which/evaluation/*residual.png runs/which/evaluation/*channels.png ...

`cost` prints seconds of processor time, which other work on the machine changes little: of a training step of 16 pairs
in bfloat16, cached but for the condition's latents, and of a picture of 20 steps with guidance; the least of a few.
`plot` draws fidelity over pairs seen, from the folders of runs, to docs/which-control/curves.png; `sheet` puts the rows
without a prompt of the grids of `maquette evaluate` below one another, in docs/which-control/pictures.png. `weights`
prints how far the gates of a control in context have opened, and how large its low-rank changes are.
"""

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import maquette as mq
from maquette.backbones.transformers.sd3_context import OPENING
from maquette.base import Base
from maquette.controlnet.network import ControlNet
from maquette.training.distributed.world import World
from maquette.training.hardware import faster_attention
from maquette.training.loss import loss
from maquette.training.stages import stage_of
from maquette.training.state import State

WAYS: dict[str, dict[str, Any]] = {
    "residual": {"blocks": 2},
    "channels": {"variant": "channels"},
    "context": {"variant": "context"},
}
PAIRS, STEPS, PICTURES = 16, 4, 3
ROWS = 6  # of a grid of `maquette evaluate`
DOCS = Path(__file__).parent.parent / "docs" / "which-control"


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1] in VERBS:
        VERBS[sys.argv[1]]([Path(name) for name in sys.argv[2:]])
    else:
        cost()


def cost() -> None:
    trained, drawing = (mq.load_base("diorama-mmdit", "cpu", dtype) for dtype in ("float32", "bfloat16"))
    nets = {way: ControlNet.attach(trained, **options).train() for way, options in WAYS.items()}
    trained.backbone.network.bfloat16()  # as in training, which leaves the rest in float32
    print(f"no control: a picture {least(lambda: picture(drawing, None), PICTURES):.2f} s", flush=True)
    for way, options in WAYS.items():
        count = sum(parameter.numel() for parameter in nets[way].parameters())
        seconds = least(step_of(trained, nets[way]), STEPS)
        drawn = ControlNet.attach(drawing, **options).eval()
        print(
            f"{way}: {count / 1e6:.2f} M parameters, a step {seconds:.2f} s, a picture "
            f"{least(lambda net=drawn: picture(drawing, net), PICTURES):.2f} s",
            flush=True,
        )


def step_of(base: Base, net: ControlNet) -> Callable[[], None]:
    """A step of training on random numbers."""
    config = mq.TrainingConfig(condition="canny", output="unused", learning_rate=1e-3, optimizer_name="muon")
    state = State.make(config, base, net, World("cpu"))
    state.enter(stage_of(config.model, 0, None))
    text = base.encode_text(["a red house in the snow"] * PAIRS)
    maps = torch.rand(PAIRS, 3, base.size, base.size)
    latents = torch.randn(PAIRS, base.backbone.latent_channels, *[base.size // base.backbone.downscale] * 2)

    def step() -> None:
        state.optimizer.zero_grad()
        timesteps = torch.randint(1000, (PAIRS,))
        condition = net.condition_input(maps, base.encode_maps)
        with faster_attention(base.device, *state.networks):
            with torch.autocast("cpu", torch.bfloat16):
                value = loss(state.model, base.noise, latents, text, condition, timesteps, torch.randn_like(latents))
            state.backward(value)
        state.step()

    return step


def picture(base: Base, net: ControlNet | None) -> None:
    controls = [] if net is None else [mq.Control(net, torch.rand(1, 3, base.size, base.size))]
    mq.generate(base, "a red house in the snow", controls, steps=20, seed=1, record=False)


def least(run: Callable[[], None], times: int) -> float:
    """The least processor time of a few runs, after one that does not count."""
    run()
    found = []
    for _ in range(times):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return min(found)


def plot(folders: list[Path]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for folder in folders:
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        pairs = json.loads((folder / "training.json").read_text())["data"]["batch_size"]
        measured = [line for line in lines if "fidelity" in line]
        seen, scores = zip(*[(pairs * line["step"], line["fidelity"]) for line in measured], strict=True)
        axes.plot(seen, scores, marker="o", label=folder.name)
    axes.set(xlabel="pairs seen", ylabel="edge F1, no prompt", ylim=(0.2, 0.8), title="Eight held-out scenes")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(DOCS / "curves.png", dpi=110)


def sheet(grids: list[Path]) -> None:
    """Maps, scenes and what each net drew without a prompt, from grids of 8 by 6 pictures of 128 pixels."""
    maps, scenes, none = 0, 1, 4  # rows
    first = Image.open(grids[0])
    rows = [row_of(first, maps), row_of(first, scenes), *(row_of(Image.open(grid), none) for grid in grids)]
    whole = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)))
    for number, row in enumerate(rows):
        whole.paste(row, (0, number * row.height))
    whole.quantize(256).save(DOCS / "pictures.png", optimize=True)


def row_of(grid: Image.Image, number: int) -> Image.Image:
    """One row of a grid, without its label."""
    height, labels = grid.height // ROWS, grid.width - 8 * (grid.height // ROWS)
    return grid.convert("RGB").crop((labels, number * height, grid.width, (number + 1) * height))


def weights(folders: list[Path]) -> None:
    """How far the gates of runs in context have opened, and how large low-rank changes are beside the base's layers."""
    base = mq.load_base("diorama-mmdit", "cpu", "float32").backbone.network.state_dict()
    layers = [value for name, value in base.items() if re.search(r"attn\.to_(q|k|v|out\.0)\.weight", name)]
    print(f"the base's layers: median norm {norms(layers).median():.1f}")
    for folder in folders:
        trained = load_file(folder / "diffusion_pytorch_model.safetensors")
        gates = OPENING * torch.stack([value for name, value in trained.items() if name.endswith("gate")]).abs()
        up = {name: value for name, value in trained.items() if "lora_B" in name}
        changes = [value @ trained[name.replace("lora_B", "lora_A")] for name, value in up.items()]
        print(
            f"{folder}: gates {gates.median():.2f} (median) to {gates.max():.2f}, changes of a median norm "
            f"{norms(changes).median():.1f}"
        )


def norms(matrices: list[Tensor]) -> Tensor:
    """The largest singular value of each (m, n), (count,)."""
    return torch.stack([torch.linalg.matrix_norm(matrix, 2) for matrix in matrices])


VERBS = {"plot": plot, "sheet": sheet, "weights": weights}


if __name__ == "__main__":
    main()
