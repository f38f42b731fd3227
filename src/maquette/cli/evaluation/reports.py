"""Evaluating ControlNets one after the other, and writing their reports."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maquette.cli.evaluation.subjects import held_out

if TYPE_CHECKING:
    from maquette.base import Base
    from maquette.cli.evaluation.subjects import Subject
    from maquette.controlnet.network import ControlNet
    from maquette.evaluation.controlnet import Examples, Uncontrolled
    from maquette.evaluation.judges import Judges
    from maquette.evaluation.protocol import Protocol
    from maquette.sampling.prompts import Captioner


@dataclass
class Evaluation:
    """Evaluates ControlNets on one base, one after the other, and writes their reports into a folder."""

    base: "Base"
    protocol: "Protocol"
    judges: "Judges"
    output: Path
    several: bool  # whether there are several ControlNets
    uncontrolled: "dict[Protocol, Uncontrolled]" = field(default_factory=dict)

    def of(self, subject: "Subject", net: "ControlNet", all_kinds: bool, captioner: str | None) -> None:
        """Evaluate on what a ControlNet is evaluated on.

        Args:
            all_kinds: on the user's own data, whether the kinds of prompt are all that the data allow.
        """
        from maquette.evaluation.controlnet import unseen_scenes

        if subject.data is not None:
            opened = subject.data.open(self.base.size, str(self.base.device), subject.contract, self.protocol.seed)
            has_captioner = captioner is not None or _has_captioner(self.base)
            kinds = opened.kinds(None if all_kinds else self.protocol.kinds, has_captioner)
            self.protocol = replace(self.protocol, kinds=kinds)
            self.of_examples(subject.name, net, opened.examples, opened.facts, captioner)
        elif subject.run is not None:
            self.of_examples(subject.name, net, held_out(subject.run, self.base), captioner=captioner)
        else:
            examples = unseen_scenes(subject.condition, self.protocol.scenes)
            self.of_examples(subject.name, net, examples, captioner=captioner)

    def of_examples(
        self,
        name: str,
        net: "ControlNet",
        examples: "Examples",
        facts: dict[str, Any] | None = None,
        captioner: str | None = None,
    ) -> None:
        """Evaluate on examples, write the reports and print the table."""
        from maquette.evaluation.controlnet import Uncontrolled, evaluate
        from maquette.evaluation.page import write_page
        from maquette.evaluation.protocol import AUTOMATIC
        from maquette.evaluation.provenance import provenance
        from maquette.foundation.files import atomic_write

        self.judges.names.check_count(len(examples.maps))
        uncontrolled = self.uncontrolled.setdefault(self.protocol, Uncontrolled(self.base, self.protocol, self.several))
        writer = _captioner(captioner, self.base) if AUTOMATIC in self.protocol.kinds else None
        file = self.output / name
        report = evaluate(net, examples, uncontrolled, file.with_name(f"{name}.png"), self.judges, writer)
        setup: dict[str, Any] = {"data": facts or {}, "judges": self.judges.facts()}
        setup |= provenance(self.base, net, report.protocol)
        setup["captioner"] = captioner or ("the base's own, or BLIP" if writer else None)
        report = replace(report, setup=setup)
        report.save(self.output / f"{name}.json")
        written = ["json", "csv", "png"]
        if examples.kind != "unseen scenes":
            write_page(report, self.output / f"{name}.html")
            with atomic_write(self.output / f"{name}.md") as path:
                path.write_text(report.markdown(), "utf-8")
            written += ["md", "html"]
        print(f"{name}: {report.table()}\n\n{', '.join(f'{file}.{kind}' for kind in written)}\n")


def _has_captioner(base: "Base") -> bool:
    """Whether the base's captioner works without a download."""
    from maquette.conditions.registry import detector_spec
    from maquette.conditions.weight_sources import is_cached
    from maquette.sampling.prompts import check_captioner

    spec = detector_spec(check_captioner(None, base.name))
    return spec.offline or is_cached(next(iter(spec.weights.values())))


def _captioner(name: str | None, base: "Base") -> "Captioner":
    """A captioner by name, or by the folder of BLIP's weights; by default the base's.

    Raises `MaquetteError` where it is unknown or has no weights.
    """
    from maquette.conditions.detect import Detector
    from maquette.sampling.prompts import check_captioner

    is_folder = name is not None and Path(name).is_dir()
    detector = Detector(
        "caption" if is_folder else check_captioner(name, base.name), name if is_folder else None, str(base.device)
    )
    return lambda images: [str(text) for text in detector(images)]
