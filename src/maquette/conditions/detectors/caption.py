"""Captions by BLIP, as the paper captions images without any."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from maquette.conditions.inference import resize_batches
from maquette.conditions.spec import DetectorSpec, Options, Predict, option
from maquette.conditions.weight_sources import WeightSource
from maquette.errors import MaquetteError

BATCH_PIXELS = 8 * 384 * 384  # per batch, on a CPU too: most of the time goes into decoding text

WEIGHTS = {
    "blip-base": WeightSource(
        "Salesforce/blip-image-captioning-base",
        {
            "config.json": "f7846f82f4e2c4a2ccbab9ae8b0e44873540a271a76a1288effd078180c13a82",
            "preprocessor_config.json": "065c10ec97edc5081fbd9655b3d9d25e2647ea6d5dab873325e88eed12d80a7d",
            "special_tokens_map.json": "b6d346be366a7d1d48332dbc9fdf3bf8960b5d879522b7799ddba59e76237ee3",
            "tokenizer.json": "d241a60d5e8f04cc1b2b3e9ef7a4921b27bf526d9f6050ab90f9267a1f9e5c66",
            **dict.fromkeys(("tokenizer_config.json", "vocab.txt")),
            "pytorch_model.bin": "d6638651a5526cc2ede56f2b5104d6851b0755816d220e5e046870430180c767",
        },
        991,
        "BSD-3-Clause",
        "82a37760796d32b1411fe092ab5d4e227313294b",
    ),
}


@dataclass(frozen=True)
class CaptionOptions(Options):
    length: int = option(20, "Maximum length of the caption in tokens (words and parts of words).", 1, 100)
    beams: int = option(3, "Beams of the beam search; 1 for greedy decoding.", 1, 16)


def _load(weights: str | Path | None, device: str) -> Predict:
    import torch
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    from maquette.conditions.networks.pretrained import Pretrained, load_errors

    network = Pretrained("caption", WEIGHTS, weights, device, AutoModelForImageTextToText)
    with load_errors(network.folder, "tokenizer of caption"):
        tokenizer = AutoTokenizer.from_pretrained(network.folder, local_files_only=True)
    # without tokenizer files transformers builds an empty vocabulary
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise MaquetteError(
            f"{str(network.folder)!r} holds no vocabulary for caption; add tokenizer.json or vocab.txt."
        )

    def predict(images: list[Image.Image], options: CaptionOptions) -> list[str]:
        @torch.inference_mode()
        def predict_batch(batch: list[Image.Image]) -> list[str]:
            tokens = network.model.generate(
                pixel_values=network.pixels(batch),
                max_new_tokens=options.length,
                num_beams=options.beams,
                do_sample=False,
            )
            return [" ".join(text.split()) for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]

        return resize_batches(images, network.size_of, predict_batch, BATCH_PIXELS)

    return predict


CAPTION = DetectorSpec(
    "caption", "a caption", _load, CaptionOptions, library="transformers", weights=WEIGHTS, outputs_text=True
)
