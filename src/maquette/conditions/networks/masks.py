"""MaskFormer, Mask2Former and OneFormer without their losses, for which transformers' classes need SciPy.

Attributes are named as in `MaskFormerForInstanceSegmentation`, `Mask2FormerForUniversalSegmentation` and
`OneFormerForUniversalSegmentation`.
"""

from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers import (
    Mask2FormerModel,
    Mask2FormerPreTrainedModel,
    MaskFormerModel,
    OneFormerModel,
    OneFormerPreTrainedModel,
)
from transformers.models.maskformer.modeling_maskformer import MaskformerMLPPredictionHead, MaskFormerPreTrainedModel


class Queries(NamedTuple):
    """The predictions of Q queries."""

    classes: Tensor  # (B, Q, classes + 1) logits, the last for no object
    masks: Tensor  # (B, Q, h, w) logits


class MaskFormer(MaskFormerPreTrainedModel):  # type: ignore[misc]
    _keys_to_ignore_on_load_unexpected = (r"^criterion\.",)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model = MaskFormerModel(config)
        hidden_size = config.decoder_config.hidden_size
        self.class_predictor = nn.Linear(hidden_size, config.num_labels + 1)
        self.mask_embedder = MaskformerMLPPredictionHead(hidden_size, hidden_size, config.mask_feature_size)
        self.post_init()

    def forward(self, pixel_values: Tensor) -> Queries:
        """Normalised pixels (B, 3, H, W) to the queries of the last decoder layer."""
        output = self.model(pixel_values=pixel_values)
        queries, pixels = output.transformer_decoder_last_hidden_state, output.pixel_decoder_last_hidden_state
        masks = (self.mask_embedder(queries) @ pixels.flatten(2)).unflatten(2, pixels.shape[2:])
        return Queries(self.class_predictor(queries), masks)


class Mask2Former(Mask2FormerPreTrainedModel):  # type: ignore[misc]
    _keys_to_ignore_on_load_unexpected = (r"^criterion\.",)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model = Mask2FormerModel(config)
        self.class_predictor = nn.Linear(config.hidden_dim, config.num_labels + 1)
        self.post_init()

    def forward(self, pixel_values: Tensor) -> Queries:
        """Normalised pixels (B, 3, H, W) to the queries of the last decoder layer."""
        output = self.model(pixel_values=pixel_values, output_hidden_states=True)
        last = output.transformer_decoder_intermediate_states[-1].transpose(0, 1)  # layer-normed, unlike hidden states
        return Queries(self.class_predictor(last), output.masks_queries_logits[-1])


class OneFormer(OneFormerPreTrainedModel):  # type: ignore[misc]
    _keys_to_ignore_on_load_unexpected = (r"^criterion\.",)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model = OneFormerModel(config)
        self.post_init()

    def forward(self, pixel_values: Tensor, task_inputs: Tensor) -> Queries:
        """Normalised pixels (B, 3, H, W) and the task's token ids (B, L) to the queries of the last decoder layer."""
        output = self.model(pixel_values=pixel_values, task_inputs=task_inputs)
        return Queries(output.transformer_decoder_class_predictions, output.transformer_decoder_mask_predictions)
