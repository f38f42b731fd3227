"""Generate an image again from its record, as it was or with other settings."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from maquette.cli.generation.options import flags
from maquette.cli.generation.outputs import targets
from maquette.cli.generation.plan import Given, require_networks
from maquette.cli.generation.varied import check_cells, nets_of, varied
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.images import as_rgb, open_image
from maquette.foundation.memory import importing
from maquette.foundation.reading.pictures import opened_picture
from maquette.foundation.settings import check_device
from maquette.sampling.metadata import Record, image_hash

ALLOWED = {"again", "anyway", "varied", "sweep", "output", "overwrite", "keep_images", "device", "low_memory"}


@dataclass(frozen=True)
class Repeat:
    """A checked request to generate an image again."""

    given: Given
    source: Path
    record: Record
    is_varied: bool
    target: Path

    @staticmethod
    def of(given: Given, settings: dict[str, Any]) -> "Repeat":
        """Read the record and check what was typed.

        Args:
            settings: those that differ from the record.

        Raises `MaquetteError` for options that contradict the record, an incomplete record, and missing networks.
        """
        source = given.options.again.again
        assert source is not None, "only called with --again"
        others = sorted({*given.typed, *(["sources"] if given.sources else [])} - ALLOWED)
        if others:
            raise MaquetteError(
                f"--again takes all settings from the image's record; leave {flags(others)} out, vary one with --set "
                "NAME=VALUE, or generate without --again."
            )
        check_device(given.options.model.device)
        record = varied(Record.load(source), settings)
        check_cells(record, given.sweeps)
        _check_complete(record, source, given.options.again.anyway)
        try:
            require_networks(record.base, nets_of(record, given.sweeps))
            changed = [f"the LoRA {lora.file!r}" for lora in record.loras if lora.sha256 != lora.hashed().sha256]
        except MaquetteError as error:
            raise MaquetteError(
                f"{error} If it was moved, say where: --set base=..., --set controlnet=... or --set lora=..."
            ) from error
        _check_changes([f"{name} has changed since" for name in changed], source, given.options.again.anyway)
        default = source.with_stem(f"{source.stem}-again")
        (target,) = targets(given.output, default, 1, given.options.output.overwrite)
        return Repeat(given, source, record, bool(settings or given.sweeps), target)

    def carry_out(self) -> None:
        """Generate and write it, and print its path.

        Raises `MaquetteError` if the weights have changed since, unless they may.
        """
        with importing():
            from maquette.cli.generation.run import write
            from maquette.sampling.recording import versions
            from maquette.studio.networks import Studio

        options, record = self.given.options, self.record
        device = options.model.device if "device" in self.given.typed else record.device
        studio = Studio(record, nets_of(record, self.given.sweeps), device, options.model.low_memory)
        _check_changes(studio.changes(record), self.source, options.again.anyway)
        self._warn_of_versions(versions(), studio.base.device.type)
        fresh = [replace(record, device=studio.base.device.type)]
        write(studio, fresh, self.given.sweeps, [self.target], options.output.keep_images)
        if not self.is_varied:
            self._compare()

    def _warn_of_versions(self, here: dict[str, str], device: str) -> None:
        """Say what may change the last bits."""
        record, name = self.record, str(self.source)
        if not record.versions:
            _note(f"{name!r} was written by a version without hashes: its weights cannot be checked.")
        others = [
            f"{package} {old}, not {here[package]}"
            for package, old in record.versions.items()
            if old != here.get(package)
        ]
        if others:
            _note(f"{name!r} was generated with {', '.join(others)}: it may differ in the last bits.")
        if device != record.device:
            _note(f"{name!r} was generated on {record.device}; on {device} it is the same up to rounding.")

    def _compare(self) -> None:
        """Say how far the image is from the recorded one, if it is not the same bit for bit."""
        with opened_picture(self.target, str(self.target)) as made:
            same = self.record.pixels in (None, image_hash(made.convert("RGB")))
        if same or self.target.suffix.lower() != ".png":
            return
        before, now = as_rgb(open_image(self.source)), as_rgb(open_image(self.target))
        if self.source.suffix.lower() == ".png" and before.size == now.size:
            levels = int(np.abs(np.asarray(before, np.int16) - np.asarray(now, np.int16)).max())
            _note(f"{str(self.target)!r} differs from {str(self.source)!r} by up to {levels} of 255 levels.")
        else:
            _note(f"{str(self.target)!r} is not bit for bit the image that was recorded.")


def _check_complete(record: Record, source: Path, anyway: bool) -> None:
    if record.unrecorded and not anyway:
        raise MaquetteError(
            f"{str(source)!r} cannot be made again: its record lacks {', '.join(record.unrecorded)}. --anyway goes on "
            "without."
        )


def _check_changes(changes: list[str], source: Path, anyway: bool) -> None:
    if changes and not anyway:
        raise MaquetteError(
            f"{str(source)!r} cannot be made again: {'; '.join(changes)}. --anyway takes what is there now."
        )


def _note(text: str) -> None:
    warnings.warn(text, MaquetteWarning, stacklevel=3)
