"""From a plan to records: condition maps are made, and what was left to the base is filled in."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from maquette.cli.generation.controls import ControlRequest, suggest_map
from maquette.cli.generation.plan import Plan
from maquette.conditions.detect import Detector
from maquette.conditions.registry import detectors
from maquette.foundation.images import as_mask, open_image
from maquette.sampling.metadata import ControlRecord, Record, pack
from maquette.sampling.prompts import Captioner, check_captioner
from maquette.sampling.size import check_size
from maquette.studio.frames import detected, padded, read_map, sized, sized_mask
from maquette.studio.networks import Studio

Opened = dict[str, Detector]


def open_detectors(plan: Plan) -> Opened:
    """The detectors of a plan by name: opened before the base is loaded, so that missing weights are told early.

    Raises `MaquetteError` for weights that are missing.
    """
    opened: Opened = {}
    for control in plan.controls:
        name = control.detector(plan.template.base)
        if name is not None and name not in opened:
            with suggest_map(control.condition):
                opened[name] = Detector(name, device=plan.options.model.device)
    return opened


def open_captioner(plan: Plan) -> Captioner | None:
    """What writes the prompts, if they are automatic. Raises `MaquetteError` for weights that are missing."""
    if plan.options.prompt.prompt_mode != "auto":
        return None
    detector = Detector(check_captioner(None, plan.template.base), device=plan.options.model.device)
    return lambda images: list(map(str, detector(images)))


class Jobs:
    """Makes the records of a plan, for one source after the other.

    Raises `MaquetteError` for a size that does not suit the base.
    """

    def __init__(self, plan: Plan, studio: Studio, opened: Opened) -> None:
        self._plan, self._studio, self._opened = plan, studio, opened
        base = studio.base
        self._size = plan.size or (base.size, base.size)
        check_size(base, self._size)
        for control in plan.controls:
            if (name := control.detector(plan.template.base)) is not None:
                studio.net(control.net_name(plan.template.base)).contract.check_detector(name, detectors)
        known = {name: value for name, value in plan.template.settings.items() if value is not None}
        self._template = replace(
            plan.template,
            dtype=str(base.dtype).removeprefix("torch."),
            device=base.device.type,
            settings={**known, "size": list(self._size)},
            image=self._start(plan.start),
            mask=self._mask(plan.mask),
        )
        self._kept = {number: self._map(control, None) for number, control in enumerate(plan.controls) if control.image}

    def records(self, source: Path | None) -> list[Record]:
        """One for every prompt and seed.

        Raises `MaquetteError` for a source that cannot be read.
        """
        template = replace(self._template, controls=self._controls(source))
        return [
            replace(template, prompt=prompt, settings={**template.settings, "seed": seed})
            for prompt in self._plan.prompts
            for seed in self._plan.seeds
        ]

    def _controls(self, source: Path | None) -> list[ControlRecord]:
        found = []
        for number, (control, record) in enumerate(zip(self._plan.controls, self._template.controls, strict=True)):
            map_ = self._kept[number] if number in self._kept else self._map(control, source)
            mask = None if control.mask is None else self._mask(open_image(control.mask, as_mask))
            union = self._studio.net(record.controlnet).control.types > 0
            kind = control.type or (control.condition if union else None)
            paint = None if control.paint is None else self._mask(open_image(control.paint, as_mask))
            picture = None if control.picture is None else self._start(open_image(control.picture))
            found.append(replace(record, map=map_, mask=mask, type=kind, paint=paint, picture=picture))
        return found

    def _map(self, control: ControlRequest, shared: Path | None) -> str:
        """The condition map at the images' size, packed. It is detected before bars are added."""
        path, base, how = control.image or shared, self._plan.template.base, self._plan.options.start.fit
        assert path is not None, "a control without an image was refused"
        contract = self._studio.net(control.net_name(base)).contract
        name = control.detector(base)
        if control.is_picture:
            found = sized(open_image(path), self._size, how)
        elif name is None:
            image, kind = read_map(path, str(path), control.condition, contract, control.palette)
            found = sized(image, self._size, how, kind)
        else:
            found = detected(self._opened[name], open_image(path), self._size, how, contract, **control.options)
        return pack(padded(found, self._size))

    def _start(self, image: Image.Image | None) -> str | None:
        if image is None:
            return None
        return pack(padded(sized(image, self._size, self._plan.options.start.fit), self._size))

    def _mask(self, mask: Image.Image | None) -> str | None:
        return None if mask is None else pack(sized_mask(mask, self._size, self._plan.options.start.fit))


def sources_of(plan: Plan) -> Sequence[Path | None]:
    """The images that a plan goes through; a single None where it needs none."""
    return plan.sources or [None]
