"""Skeletons of the people in an image: what may be asked, whose weights there are, and what counts as found."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

from maquette.conditions.drawing.people import People, completeness, read_people, whole_body_completeness, write_people
from maquette.conditions.drawing.skeletons import people_map
from maquette.conditions.options import Options, option
from maquette.conditions.spec import DetectorSpec, Predict, Record
from maquette.conditions.weight_sources import Parts, WeightSource, locate, locate_parts, users_own
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
class PoseOptions(Options):
    person: float = option(0.5, "Score from which a box holds a person.", 0, 1)
    confidence: float = option(0.3, "From which a key point is found.", 0, 1)
    least: float = option(
        0, "Found share of a body's key points below which a person is left out; the paper's rule is 0.3.", 0, 1
    )
    hands: bool = option(False, "Whether to draw hands; DWPose then finds all points.")
    face: bool = option(False, "Whether to draw faces; DWPose then finds all points.")


def open_pose(weights: str | Path | None, device: str) -> Predict:
    """Networks by need: RT-DETR and ViTPose for bodies; YOLOX and DWPose for hands and faces, and where they are asked
    for by name.

    Args:
        weights: a folder of one's own holds boxes/ and points/ (each as `save_pretrained` writes it), or yolox_l.onnx
            and dw-ll_ucoco_384.onnx, or all of them.
    """
    own = users_own("pose", list(WEIGHTS), weights)
    whole_only = str(weights) in DWPOSE or (own is not None and not _has_parts(own))

    @cache
    def of_bodies() -> Finder:
        from maquette.conditions.networks.vitpose import VitPose

        return VitPose(**locate_parts("pose", VITPOSE, weights), device=device)

    @cache
    def of_whole_bodies() -> Finder:
        from maquette.conditions.networks.dwpose import DWPose

        return DWPose(locate("pose", DWPOSE, own), device)

    def predict(images: list[Image.Image], options: PoseOptions) -> list[People]:
        finder = of_whole_bodies() if whole_only or options.hands or options.face else of_bodies()
        return [_chosen(people, options) for people in finder(images, options.person)]

    return predict


def _has_parts(own: Path) -> bool:
    if (own / "boxes").is_dir() and (own / "points").is_dir():
        return True
    files = list(DWPOSE["dwpose"].files)
    if all((own / name).is_file() for name in files):
        return False
    raise MaquetteError(
        f"{str(own)!r} holds no weights of pose; give a folder with boxes/ and points/, or with {' and '.join(files)}."
    )


def _chosen(people: People, options: PoseOptions) -> People:
    settled = people.settled(options.confidence)
    asked = People(settled.size, settled.body, settled.hands * options.hands, settled.face * options.face)
    share = completeness(asked)
    return asked.only((share > 0) & (share >= options.least))


POSE = DetectorSpec(
    "pose",
    "skeletons of people in Openpose's colours",
    open_pose,
    PoseOptions,
    library="transformers, onnxruntime",
    weights=WEIGHTS,
    record=Record(".json", people_map, write_people, read_people),
    completeness=whole_body_completeness,
)
