"""maquette data"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maquette.cli import annotate
from maquette.cli.command import Command

if TYPE_CHECKING:
    from maquette.data.check import Report

EXAMPLE = "maquette data check my-pairs --size 512 -o check.png"
EXAMPLE_OF_CACHE = "maquette data cache my-pairs --base sd15.safetensors --size 512"

Source = Annotated[str, typer.Argument(help="A folder, tar shards, Parquet files, or org/name on the Hub.")]
Size = Annotated[str, typer.Option(help="Training size: WIDTHxHEIGHT in pixels, or one number for squares.")]
Buckets = Annotated[bool, typer.Option("--buckets", help="Use frames of several aspect ratios, of about that area.")]
ImageColumn = Annotated[str | None, typer.Option(help="Name of the image column or ending.")]
ConditionColumn = Annotated[str | None, typer.Option(help="Name of the condition column or ending.")]
TextColumn = Annotated[str | None, typer.Option(help="Name of the text column or ending.")]
NoConditions = Annotated[bool, typer.Option("--no-conditions", help="A detector will compute the conditions.")]
Outside = Annotated[
    bool, typer.Option("--outside", help="Read also images outside of the data set's folder, where rows name such.")
]

app = typer.Typer(no_args_is_help=True)


@app.callback(epilog=f"Example: {EXAMPLE}")
def run() -> None:
    """Check, annotate and cache your training pairs."""


app.command("annotate", cls=Command, epilog=f"Example: {annotate.EXAMPLE}")(annotate.run)


@app.command(cls=Command, epilog=f"Example: {EXAMPLE}")
def check(
    source: Source,
    size: Size = "512",
    buckets: Buckets = False,
    condition: Annotated[str, typer.Option(help="Name of the condition, which tells how its maps are resized.")] = "",
    categorical: Annotated[bool, typer.Option("--categorical", help="Conditions are class maps.")] = False,
    palette: Annotated[
        str | None,
        typer.Option(help="Conditions are class numbers of this palette: ade20k, coco-stuff or diorama."),
    ] = None,
    image_column: ImageColumn = None,
    condition_column: ConditionColumn = None,
    text_column: TextColumn = None,
    no_conditions: NoConditions = False,
    outside: Outside = False,
    output: Annotated[Path, typer.Option("-o", "--output", help="PNG file for the grid.")] = Path("check.png"),
) -> None:
    """Read every row, report what is broken or unusual, and show the first pairs as the model sees them.

    The exit code is 1 if a row cannot be used.
    """
    from maquette.conditions.labels import check_palette
    from maquette.conditions.requirements import kind_of
    from maquette.data.crop import ResizeCrop
    from maquette.data.sources.jsonl import Columns
    from maquette.data.sources.open import find_reader
    from maquette.foundation.files import check_pngs
    from maquette.foundation.settings import read_size

    check_pngs([output])
    if palette is not None:
        check_palette(palette)
    kind = kind_of(condition, categorical or palette is not None)
    framing = ResizeCrop(read_size(size, one_number=True), buckets, kind=kind)
    columns = Columns(image_column, condition_column, text_column, not no_conditions, outside=outside)
    rows = find_reader(source, columns)()
    from maquette.data.check import check as check_rows

    _finish(check_rows(rows, framing, palette), output)


def _finish(report: "Report", output: Path) -> None:
    """Print the report, save its grid, and exit with code 1 if it has faults."""
    from maquette.foundation.files import atomic_write

    print(report)
    if report.grid is not None:
        with atomic_write(output) as path:
            report.grid.save(path, "PNG")
        print(output)
    if report.faults:
        raise typer.Exit(1)


@app.command(cls=Command, epilog=f"Example: {EXAMPLE_OF_CACHE}")
def cache(
    source: Source,
    base: Annotated[str, typer.Option(help="The base to train on.")] = "diorama",
    prediction: Annotated[
        str | None, typer.Option(help="Of an SD 2.x base in one file: v_prediction or epsilon.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT in pixels, or one number; default: the base's size.")
    ] = None,
    buckets: Buckets = False,
    flip: Annotated[bool, typer.Option("--flip", help="Cache mirrored pairs too.")] = False,
    image_column: ImageColumn = None,
    condition_column: ConditionColumn = None,
    text_column: TextColumn = None,
    no_conditions: NoConditions = False,
    outside: Outside = False,
    folder: Annotated[Path, typer.Option(help="The cache's folder.")] = Path("runs/cache"),
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Compute the latents and text features that training would otherwise compute at its start.

    Existing entries are kept. Several processes share the work (torchrun -m maquette data cache ...).
    """
    from maquette.checkpoints.names import local_base
    from maquette.data.crop import ResizeCrop
    from maquette.data.sources.jsonl import Columns
    from maquette.data.sources.open import find_reader
    from maquette.foundation.settings import check_device, check_prediction, read_size

    check_device(device)
    check_prediction(prediction)
    local_base(base)
    columns = Columns(image_column, condition_column, text_column, not no_conditions, outside=outside)
    frame = read_size(size, one_number=True) if size else None
    flip_share = 0.5 if flip else 0.0
    framing = ResizeCrop(frame, buckets, flip=flip_share) if frame else None
    reader = find_reader(source, columns)
    from maquette.checkpoints import load_base
    from maquette.data.pairs import SourcePairs
    from maquette.training.data.latent_cache import precompute
    from maquette.training.data.tensor_store import SizeStore
    from maquette.training.distributed.world import World

    world = World(device)
    model = load_base(base, str(world.device), "float32", prediction=prediction)  # type: ignore[arg-type]
    framing = framing or ResizeCrop((model.size, model.size), buckets, flip=flip_share)
    pairs = SourcePairs.open("", reader(), framing, kept=SizeStore.at(folder))
    latents = precompute(model, pairs, folder, world)
    print(f"{latents.count} views of {len(pairs)} rows are cached in {latents.store.path}.")
