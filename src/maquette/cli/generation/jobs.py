"""From a plan to records: condition maps are made, and what was left to the base is filled in."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from maquette.cli.generation.controls import ControlRequest, suggest_map
from maquette.cli.generation.images import padded, sized
from maquette.cli.generation.plan import Plan
from maquette.cli.generation.studio import Studio
from maquette.conditions.detect import Detector
from maquette.conditions.registry import detectors
from maquette.conditions.requirements import is_categorical, resampling
from maquette.foundation.images import open_image
from maquette.sampling.metadata import ControlRecord, Record, pack
from maquette.sampling.size import check_size

AREA = Image.Resampling.BOX
"""Masks are scaled by area, as in `sampling`: other filters ring, and lighten black beside an edge."""

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


class Jobs:
    """Makes the records of a plan, for one source after the other.

    Raises `MaquetteError` for a size that does not suit the base.
    """

    def __init__(self, plan: Plan, studio: Studio, opened: Opened) -> None:
        self._plan, self._opened = plan, opened
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
            settings={**vars(base.defaults), **known, "size": list(self._size)},
            image=self._packed(plan.start),
            mask=self._packed(plan.mask, AREA),
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
        image = open_image(source) if source is not None else None
        found = []
        for number, (control, record) in enumerate(zip(self._plan.controls, self._template.controls, strict=True)):
            map_ = self._kept[number] if number in self._kept else self._map(control, image)
            mask = None if control.mask is None else self._packed(open_image(control.mask), AREA)
            found.append(replace(record, map=map_, mask=mask))
        return found

    def _map(self, control: ControlRequest, shared: Image.Image | None) -> str:
        """The condition map at the images' size, packed. It is detected before bars are added."""
        image = shared if control.image is None else open_image(control.image)
        assert image is not None, "a control without an image was refused"
        method = resampling(control.is_map and is_categorical(control.condition))
        found = sized(image, self._size, self._plan.options.start.fit, method)
        name = control.detector(self._plan.template.base)
        if name is not None:
            found = self._opened[name](found, **control.options)
        return pack(padded(found, self._size))

    def _packed(self, image: Image.Image | None, method: Image.Resampling = Image.Resampling.LANCZOS) -> str | None:
        """An image at the images' size, packed."""
        if image is None:
            return None
        return pack(padded(sized(image, self._size, self._plan.options.start.fit, method), self._size))


def sources_of(plan: Plan) -> Sequence[Path | None]:
    """The images that a plan goes through; a single None where it needs none."""
    return plan.sources or [None]
