"""maquette data annotate"""

import os
from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "maquette data annotate photos pairs --condition canny --option low=80 --caption blip"

CAPTIONERS = {"blip": "caption"}  # a network's name: its detector's


def run(
    source: Annotated[str, typer.Argument(help="Images: a folder, tar shards, Parquet files, or org/name on the Hub.")],
    target: Annotated[Path, typer.Argument(help="Folder for tar shards, or, if named *.parquet, for Parquet files.")],
    condition: Annotated[str, typer.Option(help="The detector, as listed by maquette detect --list.")],
    option: Annotated[list[str] | None, typer.Option(help="A detector option, as NAME=VALUE.")] = None,
    weights: Annotated[str | None, typer.Option(help="The detector's weights: a name, a file or a folder.")] = None,
    caption: Annotated[str | None, typer.Option(help="Captioner to use instead of SOURCE's texts: blip.")] = None,
    no_texts: Annotated[bool, typer.Option("--no-texts", help="SOURCE has no texts: leave them empty.")] = False,
    size: Annotated[
        str,
        typer.Option(
            help="The training size, to which images are cropped before detection: WIDTHxHEIGHT in pixels, or one "
            "number; or original: each image's own."
        ),
    ] = "512",
    buckets: Annotated[
        bool, typer.Option("--buckets", help="Use frames of several aspect ratios, of about that area.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Seed for detectors with random parameters.")] = None,
    smallest: Annotated[int, typer.Option(help="Leave out images with fewer pixels on a side.")] = 32,
    largest: Annotated[int | None, typer.Option(help="Keep only this many images, those with the most pixels.")] = None,
    found: Annotated[
        float | None,
        typer.Option(help="Leave out images where a smaller fraction is found; for poses, the paper uses 0.3."),
    ] = None,
    shard_size: Annotated[int, typer.Option(help="Rows of SOURCE per shard.")] = 1000,
    workers: Annotated[int | None, typer.Option(help="Number of processes; default: one per core.")] = None,
    batch_size: Annotated[int, typer.Option(help="Batch size of networks.")] = 16,
    device: Annotated[str, typer.Option(help="Device of networks: auto, cpu, cuda or mps.")] = "auto",
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster; auto; or local, to start one with WORKERS processes.")
    ] = None,
    image_column: Annotated[str | None, typer.Option(help="Name of SOURCE's image column or ending.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Name of its text column or ending.")] = None,
    outside: Annotated[
        bool, typer.Option("--outside", help="Read also images outside of SOURCE, where its rows name such.")
    ] = False,
) -> None:
    """Compute the condition map of every image of a data set, and write shards that maquette train reads.

    An interrupted run resumes. Images that cannot be used are left out and listed in TARGET/faults.jsonl.
    """
    from maquette.annotation.annotate import Job, annotate
    from maquette.annotation.annotation import Annotation
    from maquette.annotation.cluster import OnCluster
    from maquette.annotation.output import Target
    from maquette.data.sources.jsonl import Columns
    from maquette.data.sources.open import is_local
    from maquette.foundation.settings import check_device, read_named, read_size

    annotation = Annotation(
        source=str(Path(source).absolute()) if is_local(source) else source,
        condition=condition,
        options=read_named(option or [], "--option", "low=80"),
        weights=str(Path(weights).absolute()) if weights and Path(weights).exists() else weights,
        caption=CAPTIONERS.get(caption or "", caption),
        columns=Columns(image_column, None, text_column, False, not no_texts, outside),
        size=None if size == "original" else read_size(size, one_number=True),
        buckets=buckets,
        seed=seed,
        smallest=smallest,
        largest=largest,
        found=found,
        shard_size=shard_size,
    )
    check_device(device)
    annotation.spec.check_weights(annotation.weights)
    job = Job(annotation, Target(target.absolute()), device, workers or os.cpu_count() or 1, batch_size)
    print(annotate(job, OnCluster(ray) if ray else None))
    print(target)
