"""What a command line asks for, checked before anything heavy is imported."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from maquette.checkpoints.names import local_base, local_controlnet
from maquette.cli.generation.controls import ControlRequest, read_control
from maquette.cli.generation.options import CONTROL, Options, StartOptions, flags
from maquette.cli.generation.outputs import targets, targets_in
from maquette.cli.generation.prompts import read_prompts
from maquette.cli.generation.seeds import read_seeds
from maquette.cli.generation.sources import images_in
from maquette.cli.generation.varied import Sweep, check_cells, nets_of
from maquette.errors import MaquetteError
from maquette.formats.lora_file import LoraFile
from maquette.foundation.hub import require_repository
from maquette.foundation.images import as_mask, open_image
from maquette.foundation.settings import check_device, check_dtype, read_named, read_size
from maquette.sampling.metadata import ControlRecord, Record
from maquette.sampling.speed import read_interval


@dataclass(frozen=True)
class Given:
    """What was typed."""

    options: Options
    typed: list[str]  # names of the options that were
    sources: list[Path] = field(default_factory=list)
    controls: list[str] = field(default_factory=list)
    detector_options: list[str] = field(default_factory=list)
    loras: list[str] = field(default_factory=list)
    sweeps: list[Sweep] = field(default_factory=list)
    output: Path | None = None


@dataclass(frozen=True)
class Plan:
    """A checked command line: images of every source, with every prompt and seed."""

    options: Options
    template: Record  # without condition maps; None for what the base decides
    controls: list[ControlRequest]
    sources: list[Path]
    prompts: list[str]
    seeds: list[int]
    sweeps: list[Sweep]
    size: tuple[int, int] | None  # None: the base's
    start: Image.Image | None
    mask: Image.Image | None
    targets: list[list[Path]]  # of each source; where there is none, one list

    @staticmethod
    def of(given: Given) -> "Plan":
        """Read and check what was typed.

        Raises `MaquetteError` for what cannot be done, as far as that can be told without loading a network.
        """
        options = given.options
        sources, controls = images_in(given.sources), _controls(given)
        _check_images(sources, controls)
        prompts, seeds = read_prompts(options.prompt, given.typed), _seeds(given)
        template = _template(options, controls, _loras(given.loras))
        check_cells(template, given.sweeps)
        size = read_size(options.sampling.size) if options.sampling.size is not None else None
        check_device(options.model.device)
        check_dtype(options.model.dtype)
        start, mask = _start(options.start, given.typed)
        local_base(template.base)
        for control in controls:
            control.detector(template.base)
        require_networks(template.base, nets_of(template, given.sweeps))
        written = _targets(given, sources, len(prompts) * len(seeds))
        return Plan(options, template, controls, sources, prompts, seeds, given.sweeps, size, start, mask, written)


def require_networks(base: str, controlnets: Iterable[str]) -> None:
    """Raises `MaquetteError` for a network that is neither here nor on the Hub."""
    if local_base(base) is None:
        require_repository(base)
    for name in dict.fromkeys(controlnets):
        if local_controlnet(name) is None:
            require_repository(name)


def _controls(given: Given) -> list[ControlRequest]:
    """Those of --control, or the only one."""
    single = [*(name for name in given.typed if name in CONTROL), *(["option"] if given.detector_options else [])]
    if given.controls:
        if single:
            raise MaquetteError(
                f"With --control every control has its own settings; put {flags(single)} into it, as in --control "
                "canny:house.png,weight=0.8."
            )
        return [read_control(text) for text in given.controls]
    if not given.sources:
        if single:
            raise MaquetteError(f"Without an image there is no control for {flags(single)} to act on; give the image.")
        return []
    only = given.options.control
    options = read_named(given.detector_options, "--option", "low=80")
    weight, start, end = only.weight, only.start, only.end
    shared = (only.condition, None, only.is_map, only.controlnet, weight, start, end)
    return [ControlRequest(*shared, paint=only.paint, options=options)]


def _check_images(sources: Sequence[Path], controls: Sequence[ControlRequest]) -> None:
    """Every control has an image, and every image a control; the images that all need can be read."""
    shared = [control for control in controls if control.image is None]
    if shared and not sources:
        raise MaquetteError(
            f"The control {shared[0].condition!r} has no image; give one, as in --control "
            f"{shared[0].condition}:house.png."
        )
    if sources and not shared:
        raise MaquetteError(
            f"No control uses the image {str(sources[0])!r}; leave it out, or leave a control's own out."
        )
    for path in [
        *(sources if len(sources) == 1 else []),
        *(path for c in controls for path in (c.image, c.mask, c.paint, c.picture) if path),
    ]:
        open_image(path)


def _seeds(given: Given) -> list[int]:
    sampling = given.options.sampling
    others = [name for name in ("seed", "count") if name in given.typed]
    if sampling.seeds is not None and others:
        raise MaquetteError(f"--seeds lists the seed of every image; leave {flags(others)} out.")
    return read_seeds(sampling.seed, sampling.seeds, sampling.count)


def _loras(texts: Sequence[str]) -> list[LoraFile]:
    """The files that are there and hold weights."""
    loras = [LoraFile.read(text) for text in texts]
    for lora in loras:
        lora.check()
    return loras


def _template(options: Options, controls: Sequence[ControlRequest], loras: list[LoraFile]) -> Record:
    sampling = options.sampling
    settings = {
        "negative_prompt": options.prompt.negative_prompt,
        "steps": sampling.steps,
        "guidance": sampling.guidance,
        "distilled_guidance": sampling.distilled_guidance,
        "condition_in": sampling.condition_in,
        "resolution_weights": sampling.resolution_weights,
        "sampler": sampling.sampler,
        "speed": sampling.speed,
        "guidance_interval": sampling.guidance_interval and read_interval(sampling.guidance_interval),
        "reuse": sampling.reuse,
        "decoder": sampling.decoder,
        "strength": options.start.strength,
        "feather": options.start.feather,
        "seed": 0,
        "count": 1,
    }
    base = options.model.base
    records = [
        ControlRecord(c.net_name(base), "", c.weight, c.start, c.end, None, c.balance, c.curve, c.branch)
        for c in controls
    ]
    model = options.model
    tiny = None if model.tiny_decoder is None else str(model.tiny_decoder)
    return Record(base, "", model.dtype, settings, records, prediction=model.prediction, loras=loras, tiny_decoder=tiny)


def _start(options: StartOptions, typed: Sequence[str]) -> tuple[Image.Image | None, Image.Image | None]:
    """The start image and its mask."""
    for name, needed in (("mask", "image"), ("strength", "image"), ("feather", "mask")):
        if name in typed and needed not in typed:
            raise MaquetteError(f"--{name} has no effect without --{needed}; give it too.")
    start = None if options.image is None else open_image(options.image)
    return start, None if options.mask is None else open_image(options.mask, as_mask)


def _targets(given: Given, sources: Sequence[Path], count: int) -> list[list[Path]]:
    overwrite = given.options.output.overwrite
    if len(sources) > 1:
        return targets_in(given.output, sources, count, overwrite)
    return [targets(given.output, Path("out.png"), count, overwrite)]
