"""maquette evaluate"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maquette.errors import MaquetteError

if TYPE_CHECKING:
    from maquette.base import Base
    from maquette.controlnet.contract import Contract
    from maquette.controlnet.network import ControlNet
    from maquette.evaluation.controlnet import Examples, Uncontrolled
    from maquette.evaluation.judges import Judges
    from maquette.evaluation.own_data import OwnData
    from maquette.evaluation.protocol import Protocol
    from maquette.foundation.settings import FilePrediction
    from maquette.sampling.prompts import Captioner
    from maquette.training.config import TrainingConfig

EXAMPLE = "maquette evaluate diorama/canny runs/mine --scenes 100"
SCENES = 500
OWN, JUDGES = "Your own data", "Judges"  # panels of the help


def run(
    nets: Annotated[
        list[str],
        typer.Argument(metavar="CONTROLNET...", help="Run folders, or bundled ones: diorama/canny; with --data any."),
    ],
    scenes: Annotated[
        int | None,
        typer.Option(
            help=f"Number of test scenes, by default {SCENES}; a run on your own pairs has those it held out."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps; default: the base's.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Classifier-free guidance; default: the base's.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images per batch.")] = 32,
    seed: Annotated[int, typer.Option(help="Seed of the first image, and of the choice of pairs.")] = 0,
    prompts: Annotated[
        str | None,
        typer.Option(
            help="Kinds of prompt, of true,default,none,conflicting,automatic; default: the first four, and with "
            "--data the last where its captioner is here."
        ),
    ] = None,
    captioner: Annotated[
        str | None, typer.Option(help="What writes automatic prompts: a captioner's name, or a folder of BLIP.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the reports.")] = Path("runs/evaluation"),
    base: Annotated[str | None, typer.Option(help="Base model; default: the one they were trained on.")] = None,
    prediction: Annotated[
        str | None,
        typer.Option(help="Of an SD 2.x base in one file: v_prediction or epsilon; default: as in their training."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, or auto.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16, or auto.")] = "float32",
    data: Annotated[
        str | None,
        typer.Option(help="Pairs as training reads them: a folder, shards, org/name.", rich_help_panel=OWN),
    ] = None,
    condition: Annotated[
        str | None, typer.Option(help="Their condition; default: the ControlNet's.", rich_help_panel=OWN)
    ] = None,
    detect: Annotated[
        bool, typer.Option("--detect", help="Detect the conditions in the images.", rich_help_panel=OWN)
    ] = False,
    count: Annotated[
        int | None, typer.Option(help=f"Number of pairs; default: all, up to {SCENES}.", rich_help_panel=OWN)
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT, or one number; default: the base's.", rich_help_panel=OWN)
    ] = None,
    palette: Annotated[
        str | None,
        typer.Option(help="Conditions hold class numbers: ade20k, coco-stuff, diorama.", rich_help_panel=OWN),
    ] = None,
    detector: Annotated[
        str | None, typer.Option(help="What scores the images; default: the condition's.", rich_help_panel=OWN)
    ] = None,
    detector_weights: Annotated[
        str | None, typer.Option(help="Its weights: a name, a file or a folder.", rich_help_panel=OWN)
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="An option of it, as NAME=VALUE.", rich_help_panel=OWN)
    ] = None,
    image_column: Annotated[str | None, typer.Option(help="Name of the column.", rich_help_panel=OWN)] = None,
    condition_column: Annotated[str | None, typer.Option(help="Name of the column.", rich_help_panel=OWN)] = None,
    text_column: Annotated[str | None, typer.Option(help="Name of the column.", rich_help_panel=OWN)] = None,
    inception: Annotated[
        str | None,
        typer.Option(help="Inception's weights, for FID and KID: a file, or org/name.", rich_help_panel=JUDGES),
    ] = None,
    inception_features: Annotated[
        int, typer.Option(help="64, 192, 768 or 2048: fewer for fewer images.", rich_help_panel=JUDGES)
    ] = 2048,
    clip: Annotated[
        str | None, typer.Option(help="A CLIP, for the CLIP score: a folder, or org/name.", rich_help_panel=JUDGES)
    ] = None,
    aesthetic: Annotated[
        str | None, typer.Option(help="The file of LAION's aesthetic head on that CLIP.", rich_help_panel=JUDGES)
    ] = None,
) -> None:
    """Measure ControlNets: fidelity to the condition with several kinds of prompt, and what further judges say.

    On scenes of the diorama, on the pairs that a run held out, or on your own (--data). For each, writes the means with
    95 % intervals (JSON), the score of each image (CSV), and a grid of images (PNG); on pairs also all tables (MD) and
    one page with pictures (HTML).
    """
    from maquette.checkpoints.names import local_base, local_controlnet
    from maquette.errors import MaquetteWarning
    from maquette.evaluation.judges import JudgeNames
    from maquette.evaluation.protocol import PROMPTS, Protocol, check_kinds
    from maquette.foundation.files import check_pngs
    from maquette.foundation.settings import check_device, check_dtype, check_prediction
    from maquette.sampling.config import Sampling

    kinds = tuple(kind.strip() for kind in prompts.split(",")) if prompts is not None else None
    check_kinds(kinds or tuple(PROMPTS))
    scene_count = SCENES if scenes is None else scenes
    protocol = Protocol(scene_count, steps, guidance, batch_size, seed, kinds or tuple(PROMPTS))
    Sampling.check(steps=steps, guidance=guidance, batch_size=batch_size, seed=seed)
    judges = JudgeNames(inception, inception_features, clip, aesthetic)
    judges.check()
    names = [name.strip("/").replace("/", "-") for name in nets]
    check_pngs([output / f"{name}.png" for name in names])
    check_device(device)
    check_dtype(dtype)
    check_prediction(prediction)
    if base is not None:
        local_base(base)
    for name in nets:
        local_controlnet(name)
    columns = {"image_column": image_column, "condition_column": condition_column, "text_column": text_column}
    given: dict[str, Any] = {"condition": condition, "detect": detect, "count": count, "size": size, **columns}
    given |= {"palette": palette, "detector": detector, "detector_weights": detector_weights, "option": option}
    contracts: list[Contract] = []
    requests = _requests(data, given, nets, contracts)
    own = [_own_pairs(name) if data is None else None for name in nets]
    if scenes is not None and (data is not None or all(own)):
        warnings.warn(
            "scenes has no effect: a run on your own pairs is evaluated on those it held out (held_out), and --data on "
            "its pairs (--count).",
            MaquetteWarning,
            stacklevel=2,
        )
    from maquette.checkpoints import load_base, load_controlnet
    from maquette.evaluation.controlnet import unseen_scenes

    contracts = contracts or [_contract(net) for net in nets]
    conditions = [
        _of_scenes(net, found) if data is None and not config else ""
        for net, found, config in zip(nets, contracts, own, strict=True)
    ]
    trained_on = _only([contract.base for contract in contracts]) if base is None else base
    predicts: Any = prediction if prediction or base else _prediction(nets)
    model = load_base(trained_on, device, dtype, prediction=predicts)
    loaded = [load_controlnet(net, model) for net in nets]
    evaluation = Evaluation(model, protocol, judges.open(device), output, len(names) > 1)
    for number, name in enumerate(names):
        config, request = own[number], requests[number] if requests else None
        if request is not None:
            evaluation.of_data(name, loaded[number], request, contracts[number], kinds, captioner)
        elif config is not None:
            evaluation.of_examples(name, loaded[number], _held_out(config, model), captioner=captioner)
        else:
            examples = unseen_scenes(conditions[number], protocol.scenes)
            evaluation.of_examples(name, loaded[number], examples, captioner=captioner)


@dataclass
class Evaluation:
    """Evaluates ControlNets on one base, one after the other, and writes their reports into a folder."""

    base: "Base"
    protocol: "Protocol"
    judges: "Judges"
    output: Path
    several: bool  # whether there are several ControlNets
    uncontrolled: "dict[Protocol, Uncontrolled]" = field(default_factory=dict)

    def of_data(
        self,
        name: str,
        net: "ControlNet",
        request: "OwnData",
        contract: "Contract",
        kinds: tuple[str, ...] | None,
        captioner: str | None,
    ) -> None:
        """Evaluate on the user's own data, with the kinds of prompt that were asked for or that it allows."""
        opened = request.open(self.base.size, str(self.base.device), contract, self.protocol.seed)
        has_captioner = captioner is not None or _has_captioner(self.base)
        self.protocol = replace(self.protocol, kinds=opened.kinds(kinds, has_captioner))
        self.of_examples(name, net, opened.examples, opened.facts, captioner)

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


def _requests(
    data: str | None, given: dict[str, Any], nets: Sequence[str], contracts: "list[Contract]"
) -> "list[OwnData] | None":
    """What to evaluate each ControlNet on, if data are given; the contracts read on the way are appended.

    Raises `MaquetteError` for conditions that nothing can score, and for settings of data without any.
    """
    if data is None:
        unused = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
        if unused:
            raise MaquetteError(f"{', '.join(unused)} belong to your own data; give it with --data.")
        return None
    from maquette.conditions.labels import check_palette
    from maquette.data.sources.jsonl import Columns
    from maquette.evaluation.own_data import OwnData
    from maquette.foundation.settings import read_named, read_size

    if given["palette"]:
        check_palette(given["palette"])
    own = OwnData(
        data,
        given["condition"] or "",
        given["detect"],
        given["count"],
        read_size(given["size"], one_number=True) if given["size"] else None,
        given["palette"],
        Columns(given["image_column"], given["condition_column"], given["text_column"]),
        given["detector"],
        given["detector_weights"],
        read_named(given["option"] or [], "--option", "low=80"),
    )
    if own.condition:
        own.check()
    contracts += [_contract(net) for net in nets]
    found = [
        own if own.condition else replace(own, condition=_trained_on(net, contract))
        for net, contract in zip(nets, contracts, strict=True)
    ]
    for request in found:
        request.check()
    return found


def _trained_on(name: str, contract: "Contract") -> str:
    """The detector of a ControlNet's maps, for photographs where it has one.

    Raises `MaquetteError` if the ControlNet does not tell.
    """
    from maquette.conditions.registry import detectors

    detector = contract.detector
    if not detector:
        raise MaquetteError(f"{name!r} does not tell what condition it was trained on; give --condition.")
    return detector if detector in detectors else detector.rsplit("/")[-1]


def _own_pairs(name: str) -> "TrainingConfig | None":
    """The settings of a run that trained on the user's own pairs; None for others, and for ControlNets without a run.

    Raises `MaquetteError` if the run held out none.
    """
    from maquette.training.config import CONFIG, TrainingConfig

    path = Path(name) / CONFIG
    config = TrainingConfig.load(path) if path.is_file() else None
    if config is None or config.data.source is None:
        return None
    if not config.monitor.evaluate_every:
        raise MaquetteError(
            f"The run {name!r} held out no pairs to evaluate on (evaluate_every = 0); train with another."
        )
    return config


def _held_out(config: "TrainingConfig", base: "Base") -> "Examples":
    """The pairs that a run held out. Raises `MaquetteError` where nothing can score them."""
    from maquette.evaluation.controlnet import Examples
    from maquette.training.data.split import open_data
    from maquette.training.distributed.world import World
    from maquette.training.setup import scorer_of

    data = open_data(config, base, World(str(base.device)))
    scorer = scorer_of(config, data.evaluated, str(base.device))
    return Examples.of(data.evaluated, data.held_out, scorer, "held-out pairs")


def _contract(name: str) -> "Contract":
    """The contract of a ControlNet: what it was trained on."""
    from maquette.checkpoints import controlnets

    path = controlnets.find_controlnet(name)
    config, weights = controlnets.opened(path)
    return controlnets.read_contract(path, config or {}, weights.metadata)


def _of_scenes(name: str, contract: "Contract") -> str:
    """The condition of the diorama that a ControlNet was trained on.

    Raises `MaquetteError` if it was trained on others, and its folder has no run.
    """
    from maquette.data.diorama import condition_named

    world, _, condition = (contract.detector or "").partition("/")
    if world != "diorama":
        raise MaquetteError(
            f"{name!r} was trained on {contract.detector or 'unknown maps'}, but the test scenes have the diorama's; "
            "evaluate the folder of its run, which has its own pairs, or one that `maquette train diorama/CONDITION` "
            "trained."
        )
    condition_named(condition)
    return condition


def _prediction(names: Sequence[str]) -> "FilePrediction | None":
    """What the base of runs predicts, where their settings say so. Raises `MaquetteError` for settings that are bad."""
    from maquette.training.config import CONFIG, TrainingConfig

    configs = [TrainingConfig.load(path) for name in names if (path := Path(name) / CONFIG).is_file()]
    return next((config.prediction for config in configs if config.prediction), None)


def _only(bases: Sequence[str | None]) -> str:
    names = sorted({base or "diorama" for base in bases})
    if len(names) > 1:
        raise MaquetteError(f"These ControlNets steer different bases ({', '.join(names)}); evaluate them one by one.")
    return names[0]
