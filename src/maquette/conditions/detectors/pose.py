"""Skeletons of the people in an image: options, published weights, and which people and points count."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from PIL import Image

from maquette.conditions.drawing.people import People, completeness, read_people, whole_body_completeness, write_people
from maquette.conditions.drawing.pifpaf import pifpaf_map
from maquette.conditions.drawing.skeletons import people_map
from maquette.conditions.spec import DetectorSpec, Options, Predict, Record, option
from maquette.conditions.weight_sources import Parts, WeightSource, local_weights, locate, locate_parts
from maquette.errors import MaquetteError

CONFIGURED = {"config.json": None, "preprocessor_config.json": None}

_POINTS = WeightSource(
    "usyd-community/vitpose-base-simple",
    {
        **CONFIGURED,
        "model.safetensors": "85375373893ddd3641f3912821073e53f5435f9e966e1dca59d004454bfe4fdf",
    },
    344,
    "Apache-2.0",
    "a93ac0c67e0b7e2c55287d21d4c460c8f3c54d45",
)

VITPOSE = {
    "vitpose-base": Parts(
        {
            "boxes": WeightSource(
                "PekingU/rtdetr_r50vd_coco_o365",
                {
                    **CONFIGURED,
                    "model.safetensors": "59abc0b00bea0cc8f7e9ce053c29189a348605bb337123609a7fe02e4ea830a0",
                },
                172,
                "Apache-2.0",
                "457857cec8ac28ddede40ecee9eed2beca321af8",
            ),
            "points": _POINTS,
        }
    ),
    "vitpose-base-r18": Parts(
        {
            "boxes": WeightSource(
                "PekingU/rtdetr_r18vd_coco_o365",
                {
                    **CONFIGURED,
                    "model.safetensors": "eadade7a507b87cabe5d6a75b935dbd9fc59b1b843f36f7e3b24eafc856c0774",
                },
                81,
                "Apache-2.0",
                "386c43855d01bcd966e548f3296fbd2cd2a2a40b",
            ),
            "points": _POINTS,
        }
    ),
}

DWPOSE = {
    "dwpose": WeightSource(
        "yzd-v/DWPose",
        {
            "yolox_l.onnx": "7860ae79de6c89a3c1eb72ae9a2756c0ccfbe04b7791bb5880afabd97855a411",
            "dw-ll_ucoco_384.onnx": "724f4ff2439ed61afb86fb8a1951ec39c6220682803b4a8bd4f598cd913b1843",
        },
        351,
        "Apache-2.0",
        "f7c16a3d45ad3783db41471848c80fbc281cabac",
    )
}

WEIGHTS: dict[str, Parts | WeightSource] = {**VITPOSE, **DWPOSE}

Finder = Callable[[Sequence[Image.Image], float], list[People]]


@dataclass(frozen=True)
class BodyOptions(Options):
    person: float = option(0.5, "Score from which a box counts as a person.", 0, 1)
    confidence: float = option(0.3, "Confidence from which a key point counts as found.", 0, 1)
    least: float = option(
        0, "Fraction of a body's key points that must be found, else the person is left out; the paper uses 0.3.", 0, 1
    )


@dataclass(frozen=True)
class PoseOptions(BodyOptions):
    hands: bool = option(False, "Draw hands; all points are then found by DWPose.")
    face: bool = option(False, "Draw faces; all points are then found by DWPose.")


def load_pose(weights: str | Path | None, device: str) -> Predict:
    """Load networks on demand: RT-DETR and ViTPose for bodies; YOLOX and DWPose for hands and faces, or by name.

    Args:
        weights: a local folder holds boxes/ and points/ (each as `save_pretrained` writes it), or yolox_l.onnx and
            dw-ll_ucoco_384.onnx, or all of them.

    Raises `MaquetteError` for weights that cannot be found or loaded.
    """
    local = local_weights("pose", list(WEIGHTS), weights)
    dwpose_only = str(weights) in DWPOSE or (local is not None and not _has_parts(local))

    @cache
    def body_finder() -> Finder:
        from maquette.conditions.networks.vitpose import VitPose

        return VitPose(**locate_parts("pose", VITPOSE, weights), device=device)

    @cache
    def whole_body_finder() -> Finder:
        from maquette.conditions.networks.dwpose import DWPose

        return DWPose(locate("pose", DWPOSE, local), device)

    def predict(images: list[Image.Image], options: PoseOptions) -> list[People]:
        finder = whole_body_finder() if dwpose_only or options.hands or options.face else body_finder()
        return [_selected(people, options) for people in finder(images, options.person)]

    return predict


def load_bodies(weights: str | Path | None, device: str) -> Predict:
    """As `load_pose`, for bodies alone. Raises `MaquetteError` for weights that cannot be found or loaded."""
    predict = load_pose(weights, device)
    return lambda images, options: predict(images, PoseOptions(**asdict(options)))


def _has_parts(folder: Path) -> bool:
    if (folder / "boxes").is_dir() and (folder / "points").is_dir():
        return True
    files = list(DWPOSE["dwpose"].files)
    if all((folder / name).is_file() for name in files):
        return False
    raise MaquetteError(
        f"{str(folder)!r} holds no weights of pose; give a folder with boxes/ and points/, "
        f"or with {' and '.join(files)}."
    )


def _selected(people: People, options: PoseOptions) -> People:
    found = people.thresholded(options.confidence)
    requested = People(found.size, found.body, found.hands * options.hands, found.face * options.face)
    complete = completeness(requested)
    return requested.only((complete > 0) & (complete >= options.least))


POSE = DetectorSpec(
    "pose",
    "skeletons of people in Openpose's colours",
    load_pose,
    PoseOptions,
    library="transformers, onnxruntime",
    weights=WEIGHTS,
    record=Record(".json", people_map, write_people, read_people),
    completeness=whole_body_completeness,
)

POSE_PIFPAF = replace(
    POSE,
    name="pose_pifpaf",
    draws="skeletons of people as Openpifpaf draws them, COCO's 17 key points",
    load=load_bodies,
    options=BodyOptions,
    record=Record(".json", pifpaf_map, write_people, read_people),
)
