"""maquette data annotate"""

import os
from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "maquette data annotate photos pairs --condition canny --option low=80 --caption blip"

NAMED = {"blip": "caption"}  # a network's name for its detector's


def run(
    source: Annotated[str, typer.Argument(help="Images: a folder, tar shards, Parquet files, or org/name.")],
    target: Annotated[Path, typer.Argument(help="Folder for tar shards; named *.parquet, for Parquet files.")],
    condition: Annotated[str, typer.Option(help="The detector that draws, as maquette detect --list has it.")],
    option: Annotated[list[str] | None, typer.Option(help="An option of the detector, as NAME=VALUE.")] = None,
    weights: Annotated[str | None, typer.Option(help="Its weights: a name, a file or folder.")] = None,
    caption: Annotated[str | None, typer.Option(help="What writes the texts, instead of SOURCE's: blip.")] = None,
    no_texts: Annotated[bool, typer.Option("--no-texts", help="SOURCE has no texts: they are empty.")] = False,
    seed: Annotated[int | None, typer.Option(help="For detectors with chance: a seed each row follows from.")] = None,
    smallest: Annotated[int, typer.Option(help="Leave out images of fewer pixels a side.")] = 32,
    largest: Annotated[int | None, typer.Option(help="Only so many images, those of the most pixels.")] = None,
    found: Annotated[
        float | None, typer.Option(help="Leave out where a smaller share is found: of a pose, 0.3 in the paper.")
    ] = None,
    shard_size: Annotated[int, typer.Option(help="Rows of SOURCE in a shard.")] = 1000,
    workers: Annotated[int | None, typer.Option(help="Processes; without, one a core.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images that a network sees at once.")] = 16,
    device: Annotated[str, typer.Option(help="Of networks: auto, cpu, cuda or mps.")] = "auto",
    ray: Annotated[
        str | None, typer.Option(help="The address of a Ray cluster, auto, or local for one of WORKERS processes.")
    ] = None,
    image_column: Annotated[str | None, typer.Option(help="What SOURCE calls the images.")] = None,
    text_column: Annotated[str | None, typer.Option(help="What it calls the texts.")] = None,
) -> None:
    """Draw the condition of every image of a data set, into shards that maquette train takes.

    Goes on where it was stopped. Images that cannot be used are left out, and named in TARGET/faults.jsonl.
    """
    from maquette.annotation.annotate import Job, annotate
    from maquette.annotation.annotation import Annotation
    from maquette.annotation.cluster import OnCluster
    from maquette.annotation.output import Target
    from maquette.data.sources.jsonl import Columns
    from maquette.data.sources.open import is_local
    from maquette.foundation.settings import check_device, read_named

    asked = Annotation(
        source=str(Path(source).absolute()) if is_local(source) else source,
        condition=condition,
        options=read_named(option or [], "--option", "low=80"),
        weights=str(Path(weights).absolute()) if weights and Path(weights).exists() else weights,
        caption=NAMED.get(caption or "", caption),
        columns=Columns(image_column, None, text_column, False, not no_texts),
        seed=seed,
        smallest=smallest,
        largest=largest,
        found=found,
        shard_size=shard_size,
    )
    check_device(device)
    asked.spec.check_weights(asked.weights)
    job = Job(asked, Target(target.absolute()), device, workers or os.cpu_count() or 1, batch_size)
    print(annotate(job, OnCluster(ray) if ray else None))
    print(target)
