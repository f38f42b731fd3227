"""The networks that judge sets of images: Inception (FID, KID), CLIP, and LAION's aesthetic head on CLIP.

This module does not import torch.
"""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.reading.files import file_hash
from maquette.metrics.weights import check_judge

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from maquette.metrics.clip import Aesthetic, Clip
    from maquette.metrics.inception import Inception
    from maquette.metrics.intervals import Interval

STAGES = (64, 192, 768, 2048)  # features of Inception's stages
DRAWS = {64: 200, 192: 200, 768: 50, 2048: 20}  # bootstrap draws of a Fréchet distance, which take up to seconds each


@dataclass(frozen=True)
class JudgeNames:
    """Which judges are asked, by the names of their weights: files, folders, or repositories on the Hub.

    Raises `MaquetteError` for an aesthetic head without the CLIP that it reads, and an unknown number of features.
    """

    inception: str | None = None
    features: int = 2048
    clip: str | None = None
    aesthetic: str | None = None

    def __post_init__(self) -> None:
        if self.aesthetic and not self.clip:
            raise MaquetteError("The aesthetic score reads CLIP's vectors of images; name that CLIP too (--clip).")
        if self.features not in STAGES:
            raise MaquetteError(f"Inception has {', '.join(map(str, STAGES))} features, not {self.features}.")

    def check(self) -> None:
        """Raises `MaquetteError` where weights are neither here nor on the Hub. Nothing is loaded."""
        named = {"FID": self.inception, "The CLIP score": self.clip, "The aesthetic score": self.aesthetic}
        for what, name in named.items():
            if name is not None:
                check_judge(name, what)

    def check_count(self, count: int) -> None:
        """Check that a set has enough images for the Fréchet distance: half as many as features, warned of below all.

        Raises `MaquetteError` for fewer.
        """
        if self.inception is None:
            return
        if 2 * count < self.features:
            enough = [stage for stage in STAGES if 2 * count >= stage]
            fewer = f"--inception-features {enough[-1]}, or " if enough else ""
            raise MaquetteError(
                f"FID fits a normal distribution of {self.features} dimensions, which {count} images say nothing of: "
                f"give {self.features // 2} or more, {fewer}leave --inception out."
            )
        if count <= self.features:
            warnings.warn(
                f"{count} images leave a covariance of {self.features} features singular, so that FID is too high by "
                "an amount that depends on the count: compare it only with others of as many images, and read KID.",
                MaquetteWarning,
                stacklevel=2,
            )

    def open(self, device: str) -> "Judges":
        """Load the networks. Raises `MaquetteError` for weights that are missing, broken or of others."""
        from maquette.metrics.clip import Aesthetic, Clip
        from maquette.metrics.inception import Inception

        inception = Inception(self.inception, device) if self.inception else None
        clip = Clip(self.clip, device) if self.clip else None
        aesthetic = Aesthetic(self.aesthetic, clip.width) if self.aesthetic and clip else None
        return Judges(self, inception, clip, aesthetic)


@dataclass(frozen=True)
class Judges:
    """Loaded judges; without any, nothing is judged."""

    names: JudgeNames = JudgeNames()
    inception: "Inception | None" = None
    clip: "Clip | None" = None
    aesthetic: "Aesthetic | None" = None

    def features(self, images: "Sequence[Image.Image]") -> "NDArray[np.float32] | None":
        """Inception's features (N, D) of images, if it is asked."""
        return self.inception.features(images, self.names.features) if self.inception else None

    def each(self, images: "Sequence[Image.Image]", prompts: Sequence[str]) -> dict[str, list[float]]:
        """The scores of each image by measure; an empty prompt has no CLIP score (NaN)."""
        if self.clip is None:
            return {}
        from maquette.metrics.clip import clip_scores

        vectors = self.clip.images(images)
        cosines = clip_scores(vectors, self.clip.texts(prompts))
        pairs = zip(cosines, prompts, strict=True)
        scores = {"CLIP score": [cosine if prompt.strip() else float("nan") for cosine, prompt in pairs]}
        return {**scores, "aesthetic score": self.aesthetic(vectors)} if self.aesthetic else scores

    def sets(self, images: "Sequence[Image.Image]", real: "NDArray[np.float32] | None") -> "dict[str, Interval]":
        """Distances of a set of images from the real ones, whose features (N, D) are given."""
        features = self.features(images)
        if features is None or real is None:
            return {}
        from maquette.metrics.frechet import frechet_interval
        from maquette.metrics.kernel import kernel_interval

        suffix = "" if self.names.features == STAGES[-1] else f" ({self.names.features} features)"
        return {
            f"FID{suffix}": frechet_interval(features, real, DRAWS[self.names.features]),
            f"KID{suffix}": kernel_interval(features, real),
        }

    def facts(self) -> dict[str, Any]:
        """What is asked, and the hashes of the weights."""
        from maquette.formats.module_hash import module_hash
        from maquette.metrics.weights import judge_file

        facts: dict[str, Any] = {key: value for key, value in asdict(self.names).items() if value is not None}
        if self.inception is None:
            facts.pop("features")
        else:
            path = judge_file(str(self.names.inception), "FID")
            facts |= {"inception SHA-256": file_hash(path), "inception input": "299 × 299, bilinear, not antialiased"}
        if self.clip is not None:
            facts |= {"clip hash": module_hash(self.clip.network), "clip input": f"{self.clip.side} px, PIL's bicubic"}
        if self.aesthetic is not None:
            facts["aesthetic SHA-256"] = file_hash(self.aesthetic.path)
        return facts
