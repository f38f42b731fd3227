"""maquette data"""

from pathlib import Path
from typing import Annotated

import typer

from maquette.cli import annotate

EXAMPLE = "maquette data check my-pairs --size 512 -o check.png"
EXAMPLE_OF_CACHE = "maquette data cache my-pairs --base sd15.safetensors --size 512"

Source = Annotated[str, typer.Argument(help="A folder, tar shards, Parquet files, or org/name on the Hub.")]
Size = Annotated[str, typer.Option(help="WIDTHxHEIGHT that the model is to see, or one number.")]
Buckets = Annotated[bool, typer.Option("--buckets", help="Frames of several shapes and about that area.")]
ImageColumn = Annotated[str | None, typer.Option(help="What the images' column or ending is called.")]
ConditionColumn = Annotated[str | None, typer.Option(help="The same of the conditions.")]
TextColumn = Annotated[str | None, typer.Option(help="The same of the texts.")]
NoConditions = Annotated[bool, typer.Option("--no-conditions", help="A detector will draw them.")]

app = typer.Typer(no_args_is_help=True)


@app.callback(epilog=f"Example: {EXAMPLE}")
def run() -> None:
    """Look after pairs of your own before you train on them."""


app.command("annotate", epilog=f"Example: {annotate.EXAMPLE}")(annotate.run)


@app.command(epilog=f"Example: {EXAMPLE}")
def check(
    source: Source,
    size: Size = "512",
    buckets: Buckets = False,
    categorical: Annotated[bool, typer.Option("--categorical", help="Conditions are class maps.")] = False,
    image_column: ImageColumn = None,
    condition_column: ConditionColumn = None,
    text_column: TextColumn = None,
    no_conditions: NoConditions = False,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the grid goes.")] = Path("check.png"),
) -> None:
    """Read every row, name what is broken or odd, and draw the first pairs as a model would see them.

    Ends with exit code 1 when a row cannot be used.
    """
    from maquette.data.crop import ResizeCrop
    from maquette.data.sources.jsonl import Columns
    from maquette.data.sources.open import find_reader
    from maquette.foundation.files import atomic_write
    from maquette.foundation.output_checks import check_pngs
    from maquette.foundation.settings import read_size

    check_pngs([output])
    framing = ResizeCrop(read_size(size, one_number=True), buckets, categorical=categorical)
    columns = Columns(image_column, condition_column, text_column, not no_conditions)
    rows = find_reader(source, columns)()
    from maquette.data.check import check as examine

    report = examine(rows, framing)
    print(report)
    if report.grid is not None:
        with atomic_write(output) as path:
            report.grid.save(path, "PNG")
        print(output)
    if report.faults:
        raise typer.Exit(1)


@app.command(epilog=f"Example: {EXAMPLE_OF_CACHE}")
def cache(
    source: Source,
    base: Annotated[str, typer.Option(help="The base that will be trained on.")] = "diorama",
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT, or one number; as the base's images.")] = None,
    buckets: Buckets = False,
    flip: Annotated[bool, typer.Option("--flip", help="Pairs will be mirrored too.")] = False,
    image_column: ImageColumn = None,
    condition_column: ConditionColumn = None,
    text_column: TextColumn = None,
    no_conditions: NoConditions = False,
    folder: Annotated[Path, typer.Option(help="Where it is kept.")] = Path("runs/cache"),
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Compute latents and text features now, which training would compute at its start.

    What is there already is left as it is; several processes share the work (torchrun -m maquette data cache ...).
    """
    from maquette.checkpoints.names import local_base
    from maquette.data.crop import ResizeCrop
    from maquette.data.sources.jsonl import Columns
    from maquette.data.sources.open import find_reader
    from maquette.foundation.settings import check_device, read_size

    check_device(device)
    local_base(base)
    columns = Columns(image_column, condition_column, text_column, not no_conditions)
    asked = read_size(size, one_number=True) if size else None
    mirrored = 0.5 if flip else 0.0
    framing = ResizeCrop(asked, buckets, flip=mirrored) if asked else None
    reader = find_reader(source, columns)
    from maquette.checkpoints import load_base
    from maquette.data.pairs import SourcePairs
    from maquette.training.data.latent_cache import precompute
    from maquette.training.distributed.world import World

    world = World(device)
    model = load_base(base, str(world.device))
    framing = framing or ResizeCrop((model.size, model.size), buckets, flip=mirrored)
    pairs = SourcePairs.open("", reader(), framing)
    filled = precompute(model, pairs, folder, world)
    print(f"{len(filled.images)} views of {len(pairs)} rows are kept in {filled.store.path}.")
