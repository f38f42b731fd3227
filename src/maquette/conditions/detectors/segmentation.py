"""Segmentation by OneFormer, MaskFormer, Mask2Former and UperNet: a class for each pixel."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.conditions.drawing.class_maps import PALETTES, RECORD, Classes
from maquette.conditions.inference import batch_pixels, resize_batches, resized_back
from maquette.conditions.spec import DetectorSpec, Options, Predict, option
from maquette.conditions.weight_sources import WeightSource
from maquette.errors import MaquetteError

MEMORY_FACTOR = 2  # Swin-L's features need twice the memory that batches are sized for

_CLIP = {  # the tokenizer of OneFormer's task, in all of its repositories
    "vocab.json": "e089ad92ba36837a0d31433e555c8f45fe601ab5c221d4f607ded32d9f7a4349",
    "merges.txt": "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a",
    "special_tokens_map.json": "c4864a9376a8401918425bed71fc14fc0e81f9b59ec45c1cf96cccb2df508eac",
}
_ONEFORMER = ("config.json", "preprocessor_config.json", "tokenizer_config.json", *_CLIP, "pytorch_model.bin")

WEIGHTS = {
    "oneformer-ade20k": WeightSource(
        "shi-labs/oneformer_ade20k_swin_large",
        {
            "config.json": "27452b656a467dbdebdf879dc413d6f3facd2bfe3643824ae66c32c22884b4bd",
            "preprocessor_config.json": "49e2c8f207405d063cf7824f97c2814fa864f8f19ea9e02c9e20a9ff539c6d49",
            "tokenizer_config.json": "968a6126200b3c8f68fe955d61da20f3537e641a1deb538dc39fdad142248d72",
            **_CLIP,
            "pytorch_model.bin": "c0b2fe11dfecee6f2f1f315f466946e96f4e94813f3f6d660ff3747b83c28cc9",
        },
        881,
        "MIT",
        "4a5bac8e64f82681a12db2e151a4c2f4ce6092b2",
    ),
    "oneformer-ade20k-tiny": WeightSource(
        "shi-labs/oneformer_ade20k_swin_tiny",
        {
            "config.json": "091cbc7c980128ae63b2a15d882923f326f85926ef163adad00c24bd90228896",
            "preprocessor_config.json": "2c3c403d8414263e732996bb2ffeab80dd5ced0068ab11bfe5adf476ef75823c",
            "tokenizer_config.json": "64dd88e64d791e3be4d38be62d7e77e0a24df9e79205ac740af505aa2e94c367",
            **_CLIP,
            "pytorch_model.bin": "909b07dbf4129c2bbb8df4498e35dcd46f305e3ec45329d3ff6d4f0360de27f3",
        },
        205,
        "MIT",
        "05f2812b1eccf9909b3897777450f8d68148cafc",
    ),
    "oneformer-coco": WeightSource("shi-labs/oneformer_coco_swin_large", dict.fromkeys(_ONEFORMER), 880, "MIT"),
    "upernet": WeightSource(
        "openmmlab/upernet-convnext-small",
        {
            **dict.fromkeys(("config.json", "preprocessor_config.json")),
            "pytorch_model.bin": "76c163aa531ab7edfb3a77bbcc039e340645aa0ffe2b0ffcfc68755f550c76ea",
        },
        327,
        "MIT",
    ),
    "mask2former-ade20k": WeightSource(
        "facebook/mask2former-swin-large-ade-semantic",
        {
            **dict.fromkeys(("config.json", "preprocessor_config.json")),
            "model.safetensors": "b143c144341c15b4f20165cc6d2c9305fb1b66792f68a6e0e06d2b20dc063b14",
        },
        866,
        "other (see its page)",
        "aa25c92404a40599614215e76514c79b427c7527",
    ),
    "mask2former-coco": WeightSource(
        "facebook/mask2former-swin-large-coco-panoptic",
        dict.fromkeys(("config.json", "preprocessor_config.json", "model.safetensors")),
        866,
        "other (see its page)",
        "85b535928a783691eaf27467a573b26d543336ea",
    ),
    "maskformer-coco-stuff": WeightSource(
        "facebook/maskformer-resnet101-coco-stuff",
        dict.fromkeys(("config.json", "preprocessor_config.json", "model.safetensors")),
        242,
        "other (see its page)",
    ),
}
"""OneFormer on ADE20K is the default, as in the paper's reconstruction table and ControlNet 1.1."""


@dataclass(frozen=True)
class SegmentationOptions(Options):
    resolution: int | None = option(
        None, "Short side of the network's input, in pixels; by default the size it was trained at.", 64, 2048
    )


TASK = "the task is semantic"  # OneFormer's text input


def _load(weights: str | Path | None, device: str) -> Predict:
    import torch
    from transformers import AutoModelForSemanticSegmentation

    from maquette.conditions.networks.masks import Mask2Former, MaskFormer, OneFormer
    from maquette.conditions.networks.pretrained import Pretrained

    mask_classifiers = {"maskformer": MaskFormer, "mask2former": Mask2Former, "oneformer": OneFormer}
    network = Pretrained("segmentation", WEIGHTS, weights, device, AutoModelForSemanticSegmentation, mask_classifiers)
    palette = _palette(network.config.num_labels)
    task = _task(network) if network.config.model_type == "oneformer" else {}

    @torch.inference_mode()
    def predict_batch(batch: list[Image.Image]) -> list[NDArray[np.integer]]:
        pixels = network.pixels(batch)
        inputs = {name: value.expand(len(batch), -1) for name, value in task.items()}
        scores = _scores(network.model(pixel_values=pixels, **inputs), pixels.shape[2:])
        return list(scores.argmax(dim=1).to(torch.uint8).cpu().numpy())

    def predict(images: list[Image.Image], options: SegmentationOptions) -> list[Classes]:
        class_maps = resize_batches(
            images,
            lambda size: network.size_of(size, options.resolution),
            predict_batch,
            batch_pixels(network.model) // MEMORY_FACTOR,
        )
        return [
            Classes(resized_back(numbers, image.size, categorical=True), palette)
            for numbers, image in zip(class_maps, images, strict=True)
        ]

    return predict


def _palette(count: int) -> str:
    """The palette for a network with `count` classes; networks never number COCO-Stuff's classes from 1."""
    known_sizes = {name: len(colours) for name, colours in PALETTES.items() if name != "coco-stuff"}
    matching = [name for name, size in known_sizes.items() if size == count]
    if not matching:
        known = ", ".join(f"{name} of {size}" for name, size in known_sizes.items())
        raise MaquetteError(
            f"These weights have {count} classes, for which there is no palette; use weights for {known}."
        )
    return matching[0]


def _task(network: Any) -> dict[str, Any]:
    """OneFormer's text input: the token ids (1, L) of its task, 0 at padding."""
    from transformers import AutoTokenizer

    from maquette.conditions.networks.pretrained import load_errors

    with load_errors(network.folder, "tokenizer of OneFormer"):
        tokenizer = AutoTokenizer.from_pretrained(network.folder, local_files_only=True)
    length = network.config.task_seq_len
    tokens = tokenizer(TASK, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return {"task_inputs": (tokens["input_ids"] * tokens["attention_mask"]).to(network.model.device)}


def _scores(output: Any, size: Sequence[int]) -> Any:
    """Class scores (B, classes, h, w) at `size`; of queries, their class probabilities spread over their masks."""
    from torch.nn.functional import interpolate

    from maquette.conditions.networks.masks import Queries

    if not isinstance(output, Queries):
        return interpolate(output.logits, size=size, mode="bilinear", align_corners=False)
    classes = output.classes.softmax(dim=-1)[..., :-1]
    masks = interpolate(output.masks, size=size, mode="bilinear", align_corners=False).sigmoid()
    return (classes.mT @ masks.flatten(2)).unflatten(2, size)


SEGMENTATION = DetectorSpec(
    "segmentation",
    "a class for each pixel, in its data set's palette",
    _load,
    SegmentationOptions,
    library="transformers",
    weights=WEIGHTS,
    categorical=True,
    record=RECORD,
)
