"""maquette evaluate"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maquette.cli.evaluation.reports import Evaluation
from maquette.cli.evaluation.subjects import only_base, prediction_of, subjects_of
from maquette.errors import MaquetteWarning
from maquette.foundation.memory import importing

if TYPE_CHECKING:
    from maquette.evaluation.protocol import Protocol

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
    speed: Annotated[str, typer.Option(help="exact; or approximate: balanced or draft.")] = "exact",
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
    from maquette.evaluation.judges import JudgeNames

    protocol = _protocol(scenes, steps, guidance, batch_size, seed, prompts, speed)
    judges = JudgeNames(inception, inception_features, clip, aesthetic)
    judges.check()
    _check_names(nets, base, prediction, device, dtype, output)
    columns = {"image_column": image_column, "condition_column": condition_column, "text_column": text_column}
    given: dict[str, Any] = {"condition": condition, "detect": detect, "count": count, "size": size, **columns}
    given |= {"palette": palette, "detector": detector, "detector_weights": detector_weights, "option": option}
    subjects = subjects_of(nets, data, given)
    if scenes is not None and not any(subject.condition for subject in subjects):
        message = (
            "scenes has no effect: a run on your own pairs is evaluated on those it held out (held_out), and --data on "
            "its pairs (--count)."
        )
        warnings.warn(message, MaquetteWarning, stacklevel=2)
    with importing():
        from maquette.checkpoints import load_base, load_controlnet

    predicts: Any = prediction if prediction or base else prediction_of(nets)
    model = load_base(base or only_base(subjects), device, dtype, prediction=predicts)
    loaded = [load_controlnet(net, model) for net in nets]
    evaluation = Evaluation(model, protocol, judges.open(device), output, len(nets) > 1)
    for subject, net in zip(subjects, loaded, strict=True):
        evaluation.of(subject, net, all_kinds=prompts is None, captioner=captioner)


def _protocol(
    scenes: int | None,
    steps: int | None,
    guidance: float | None,
    batch_size: int,
    seed: int,
    prompts: str | None,
    speed: Any,
) -> "Protocol":
    """Raises `MaquetteError` for unknown kinds of prompt, and for numbers out of range."""
    from maquette.evaluation.protocol import PROMPTS, Protocol, check_kinds
    from maquette.sampling.config import Sampling

    kinds = tuple(PROMPTS) if prompts is None else tuple(kind.strip() for kind in prompts.split(","))
    check_kinds(kinds)
    protocol = Protocol(SCENES if scenes is None else scenes, steps, guidance, batch_size, seed, kinds, speed)
    Sampling.check(steps=steps, guidance=guidance, batch_size=batch_size, seed=seed)
    return protocol


def _check_names(
    nets: Sequence[str], base: str | None, prediction: str | None, device: str, dtype: str, output: Path
) -> None:
    """Raises `MaquetteError` for what is not there, and for an output that cannot be written."""
    from maquette.checkpoints.names import local_base, local_controlnet
    from maquette.cli.evaluation.subjects import file_name
    from maquette.foundation.files import check_pngs
    from maquette.foundation.settings import check_device, check_dtype, check_prediction

    check_pngs([output / f"{file_name(net)}.png" for net in nets])
    check_device(device)
    check_dtype(dtype)
    check_prediction(prediction)
    if base is not None:
        local_base(base)
    for net in nets:
        local_controlnet(net)
