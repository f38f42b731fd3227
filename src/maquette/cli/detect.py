"""maquette detect"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from PIL import Image

    from maquette.conditions.spec import DetectorSpec

    Find = Callable[["Image.Image"], Any]

EXAMPLE = "maquette detect canny photo.jpg -o maps --option low=80 --option high=160"


def run(
    detector: Annotated[str | None, typer.Argument(help="The detector's name, as shown by --list.")] = None,
    images: Annotated[list[Path] | None, typer.Argument(help="Photographs, drawings, or records from --keep.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the maps.")] = Path("maps"),
    option: Annotated[list[str] | None, typer.Option(help="A detector option, as NAME=VALUE.")] = None,
    weights: Annotated[str | None, typer.Option(help="Weights: a name that --list shows, a file or a folder.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    keep: Annotated[bool, typer.Option("--keep", help="Also write the key points or class numbers.")] = False,
    size: Annotated[
        str | None,
        typer.Option(help="Resize images to WIDTHxHEIGHT first, as generate does; default: no resizing."),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show all detectors, or one with its options.")] = False,
) -> None:
    """Compute the condition maps of images."""
    from maquette.conditions.detect import Detector
    from maquette.conditions.registry import detector_spec, one_detector, table
    from maquette.foundation.settings import check_device, read_named, read_size

    if listed:
        print(one_detector(detector) if detector else table())
        return
    detector, images = _check_arguments(detector, images)
    options = read_named(option or [], "--option", "low=80")
    targets = _targets(detector, images, output)
    spec, frame = detector_spec(detector), read_size(size) if size is not None else None
    spec.options.given(detector, options)  # before weights are downloaded
    spec.check_weights(weights)
    check_device(device)
    opened = cache(lambda: Detector(detector, weights, device))  # lazily: records alone need none

    def find(image: "Image.Image") -> Any:
        return opened().find([image], **options)[0]

    _convert_all(partial(_convert, spec, find, frame=frame, keep=keep), images, targets)


def _check_arguments(detector: str | None, images: list[Path] | None) -> tuple[str, list[Path]]:
    from maquette.errors import MaquetteError

    if not detector or not images:
        raise MaquetteError("Give a detector and images: maquette detect canny photo.jpg; --list shows them all.")
    return detector, images


def _convert_all(convert: Callable[[Path, Path], None], images: list[Path], targets: list[Path]) -> None:
    """Convert all images, then raise one error for those that failed."""
    from maquette.errors import MaquetteError

    failed = []
    for path, target in zip(images, targets, strict=True):
        try:
            convert(path, target)
        except (MaquetteError, OSError) as error:
            failed.append(str(error))
            continue
        print(target)
    if failed:
        count = f"{len(failed)} of {len(images)} images have no map. " if len(images) > 1 else ""
        raise MaquetteError(count + " ".join(dict.fromkeys(failed)))


def _targets(detector: str, images: list[Path], output: Path) -> list[Path]:
    from maquette.conditions.registry import detector_spec
    from maquette.foundation.files import check_results

    ending = ".txt" if detector_spec(detector).outputs_text else ".png"
    targets = [output / f"{path.stem}-{detector.replace('/', '-')}{ending}" for path in images]
    check_results(targets)
    return targets


def _convert(
    spec: "DetectorSpec", find: "Find", path: Path, target: Path, frame: tuple[int, int] | None, keep: bool
) -> None:
    """Write the map of an image or of a record, and with `keep` the record."""
    from maquette.cli.crop import framed
    from maquette.errors import MaquetteError
    from maquette.foundation.files import atomic_write
    from maquette.foundation.images import open_image

    record = spec.record
    if keep and record is None:
        raise MaquetteError(f"{spec.name} has no record to keep, only a map; leave --keep out.")
    if record is not None and path.name.endswith(record.ending):
        found = record.read(path)
    else:
        image = open_image(path)
        found = find(image if frame is None else framed(image, frame))
    _write(found if record is None else record.draw(found), target)
    if keep and record is not None:
        kept = target.with_name(f"{target.stem}-record{record.ending}")
        with atomic_write(kept) as temporary:
            record.write(found, temporary)
        print(kept)


def _write(answer: "Image.Image | str", target: Path) -> None:
    from maquette.foundation.files import atomic_write
    from maquette.foundation.images import as_rgb

    with atomic_write(target) as temporary:
        if isinstance(answer, str):
            temporary.write_text(answer + "\n", "utf-8")
        else:
            as_rgb(answer).save(temporary, "PNG")
