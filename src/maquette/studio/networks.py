"""The networks of a command, each loaded once, and what is generated with them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from maquette.checkpoints import load_base, load_controlnet, load_tiny_decoder
from maquette.controlnet.control import Control
from maquette.controlnet.maps import Condition, to_paint
from maquette.controlnet.network import ControlNet
from maquette.formats.module_hash import module_hash
from maquette.foundation.progress import steps_bar
from maquette.sampling.generate import generate
from maquette.sampling.metadata import ControlRecord, Record, unpack
from maquette.sampling.prompts import Captioner, automatic
from maquette.sampling.recording import net_hash


class Studio:
    """A base with its LoRAs, and the ControlNets that are asked for.

    Args:
        template: a record that names the base and its LoRAs.
        nets: ControlNets to load before LoRAs are added: those that are stored as a difference are completed by the
            weights of the base that they were trained on.

    Raises `MaquetteError` where they cannot be loaded.
    """

    def __init__(self, template: Record, nets: Sequence[str], device: str, low_memory: bool) -> None:
        predicts: Any = template.prediction  # has been checked
        self.base = load_base(template.base, device, template.dtype, low_memory=low_memory, prediction=predicts)
        if template.tiny_decoder is not None:
            load_tiny_decoder(self.base, template.tiny_decoder)
        self._nets: dict[str, ControlNet] = {}
        for name in nets:
            self.net(name)
        for lora in template.loras:
            self.base.add_lora(lora.file, lora.weight)

    def net(self, name: str) -> ControlNet:
        """A ControlNet by name. Raises `MaquetteError` if it cannot be loaded."""
        net = self._nets.get(name) or load_controlnet(name, self.base)
        self._nets[name] = net
        return net

    def forget(self, name: str) -> None:
        """Load a ControlNet anew when it is next asked for."""
        self._nets.pop(name, None)

    def generate(self, records: Sequence[Record]) -> Iterator[Image.Image]:
        """The images that records describe, in their order; those that only differ in a row of seeds as one batch."""
        done = 0
        for batch in batches(records):
            numbers = f"{done + 1} to {done + len(batch)}" if len(batch) > 1 else f"{done + 1}"
            label = f"generating {numbers} of {len(records)}" if len(batch) < len(records) else "generating"
            done += len(batch)
            prompts = [record.prompt for record in batch]
            with steps_bar(label) as progress:
                settings = {**arguments(batch[0]), "progress": progress}
                images = generate(self.base, prompts, self.controls(batch[0]), **settings)
            yield from images

    def captioned(self, records: Sequence[Record], captioner: Captioner) -> list[Record]:
        """The records with captions as prompts: of the images that they make with the default prompt."""
        found = []
        for batch in batches(records):
            with steps_bar("generating with the default prompt") as progress:
                settings = {**arguments(batch[0]), "count": len(batch), "progress": progress}
                prompts = automatic(self.base, self.controls(batch[0]), captioner, **settings)
            found += [replace(record, prompt=prompt) for record, prompt in zip(batch, prompts, strict=True)]
        return found

    def controls(self, record: Record) -> list[Control]:
        """The controls of a record. Raises `MaquetteError` if a ControlNet cannot be loaded."""
        return [
            Control(
                self.net(control.controlnet),
                _condition(control),
                control.weight,
                control.start,
                control.end,
                mask=None if control.mask is None else unpack(control.mask),
                balance=control.balance,
                curve=None if control.curve is None else [(done, factor) for done, factor in control.curve],
                branch=control.branch,
                type=control.type,
            )
            for control in record.controls
        ]

    def changes(self, record: Record) -> list[str]:
        """What has other weights than when a record was written, in words; what it has no hash of is left out."""
        found = []
        if record.base_hash not in (None, self.base.hash()):
            found.append(f"the base {record.base!r} has changed since")
        tiny = self.base.tiny_decoder
        if record.decoder_hash is not None and (tiny is None or module_hash(tiny) != record.decoder_hash):
            found.append("the tiny decoder has changed since")
        for control in record.controls:
            if control.hash not in (None, net_hash(self.net(control.controlnet))):
                found.append(f"the ControlNet {control.controlnet!r} has changed since")
        return list(dict.fromkeys(found))


def _condition(control: ControlRecord) -> Condition:
    """Its map, or a picture and where to paint it in."""
    mask = control.to_paint()
    if mask is None:
        return control.image()
    return (
        to_paint(control.image(), mask)
        if control.picture is None
        else to_paint(unpack(control.picture), mask, control.image())
    )


def arguments(record: Record) -> dict[str, Any]:
    """Keyword arguments of `generate` for a record, other than the prompt and the controls."""
    settings = {**record.settings, "size": tuple(record.settings["size"])}
    for name, packed in (("image", record.image), ("mask", record.mask)):
        settings[name] = None if packed is None else unpack(packed)
    return settings


def batches(records: Sequence[Record]) -> Iterator[list[Record]]:
    """Runs of records that one call generates: equal but for their prompts, with seeds in a row."""
    batch: list[Record] = []
    for record in records:
        if batch and not _follows(record, batch):
            yield batch
            batch = []
        batch.append(record)
    if batch:
        yield batch


def _follows(record: Record, batch: Sequence[Record]) -> bool:
    first = batch[0]
    settings = {**record.settings, "seed": record.settings["seed"] - len(batch)}
    return replace(record, prompt=first.prompt, settings=settings) == first
