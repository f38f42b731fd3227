"""The paper's four kinds of prompt: none, the default, an automatic one, the user's own (v1 §4, v3 §4.1).

    mq.generate(base, "", controls)                         # none
    mq.generate(base, DEFAULT_PROMPT, controls)             # the default, which says nothing of the content
    mq.generate(base, automatic(base, controls), controls)  # a caption of what the default prompt generates
    mq.generate(base, "a red house in the snow", controls)  # the user's own

This module does not import torch.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from maquette.conditions.detect import Detector
from maquette.conditions.registry import detector_spec, detectors
from maquette.conditions.requirements import drawn_by
from maquette.diorama.captions import DEFAULT_PROMPT
from maquette.errors import MaquetteError

if TYPE_CHECKING:
    from PIL import Image

    from maquette.base import Base
    from maquette.controlnet.control import Control

PromptMode = Literal["user", "none", "default", "automatic"]
Captioner = Callable[[list["Image.Image"]], Sequence[str]]

__all__ = ["DEFAULT_PROMPT", "Captioner", "PromptMode", "automatic", "check_captioner"]


def automatic(
    base: "Base",
    controls: "Sequence[Control] | Control",
    captioner: str | Captioner | None = None,
    **settings: Any,
) -> list[str]:
    """Captions of the images that the default prompt generates, to be the prompts of a second generation.

    With the same controls and settings, image i of the second generation starts from the noise of the image whose
    caption is its prompt.

    Args:
        captioner: a detector that writes text, by name, or a function from images to captions. By default the base's
            own where it has one ("diorama/caption"), else "caption", which is BLIP as in the paper.
        settings: of `generate`, other than the prompt: seed, count, size and so on.

    Raises `MaquetteError` for a detector that writes no text or whose weights are missing, before anything is
    generated, and where `generate` does.
    """
    captions = _opened(captioner, base)
    from maquette.sampling.generate import generate

    settings.pop("returns", None)  # captions are read off images, in whatever form the second generation's are wanted
    return list(captions(generate(base, DEFAULT_PROMPT, controls, **settings)))


def check_captioner(name: str | None, base: str) -> str:
    """The name of the captioner for a base, without loading it.

    Raises `MaquetteError` for an unknown detector, and for one that draws maps.
    """
    found = name or drawn_by("caption", base)
    if not detector_spec(found).outputs_text:
        texts = ", ".join(other for other in detectors if detectors[other].outputs_text)
        raise MaquetteError(f"A captioner writes text, but {found} draws maps; give one of {texts}.")
    return found


def _opened(captioner: str | Captioner | None, base: "Base") -> Captioner:
    if captioner is not None and not isinstance(captioner, str):
        return captioner
    detector = Detector(check_captioner(captioner, base.name), device=str(base.device))
    return lambda images: [str(text) for text in detector(images)]
