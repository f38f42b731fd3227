"""Carry out a plan: load, generate, write, and go on where one of several images cannot be read."""

from collections.abc import Sequence
from pathlib import Path

from maquette.cli.generation.jobs import Jobs, open_captioner, open_detectors, sources_of
from maquette.cli.generation.plan import Plan
from maquette.cli.generation.sheet import write_sheet
from maquette.cli.generation.varied import Sweep, cells, nets_of, varied
from maquette.errors import MaquetteError
from maquette.foundation.files import numbered
from maquette.sampling.metadata import Record, save
from maquette.studio.networks import Studio


def carry_out(plan: Plan) -> None:
    """Generate and write all images of a plan, and print their paths.

    Raises `MaquetteError` at the end for images that could not be read, where there are several.
    """
    opened, captioner, model = open_detectors(plan), open_captioner(plan), plan.options.model
    nets = nets_of(plan.template, plan.sweeps)
    studio = Studio(plan.template, nets, model.device, model.low_memory)
    jobs, sources, failed = Jobs(plan, studio, opened), sources_of(plan), []
    for source, targets in zip(sources, plan.targets, strict=True):
        try:
            records = jobs.records(source)
        except MaquetteError as error:
            failed.append(str(error))
            continue
        if captioner is not None:
            records = studio.captioned(records, captioner)
        write(studio, records, plan.sweeps, targets, plan.options.output.keep_images)
    if failed:
        count = f"{len(failed)} of {len(sources)} images were passed over. " if len(sources) > 1 else ""
        raise MaquetteError(count + " ".join(dict.fromkeys(failed)))


def write(
    studio: Studio, records: Sequence[Record], sweeps: Sequence[Sweep], targets: Sequence[Path], keep: bool
) -> None:
    """Generate and write an image for each record, or a sheet.

    Args:
        keep: whether the images of a sheet are written too.
    """
    if not sweeps:
        for image, target in zip(studio.generate(records), targets, strict=True):
            save(image, target)
            print(target, flush=True)
        return
    for record, target in zip(records, targets, strict=True):
        images = []
        grid = [varied(record, settings) for row in cells(sweeps) for settings in row]
        for image, path in zip(studio.generate(grid), numbered(target), strict=False):
            images.append(image)
            if keep:
                save(image, path)
                print(path, flush=True)
        write_sheet(images, sweeps, target)
        print(target, flush=True)
