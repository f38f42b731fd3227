"""Mask2Former and OneFormer without their losses, for which transformers' own classes would need SciPy.

Names within are those of `Mask2FormerForUniversalSegmentation` and `OneFormerForUniversalSegmentation`.
"""

from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers import Mask2FormerModel, Mask2FormerPreTrainedModel, OneFormerModel, OneFormerPreTrainedModel


class Queries(NamedTuple):
    classes: Tensor  # (B, Q, classes + 1) logits, the last one of nothing
    masks: Tensor  # (B, Q, h, w) logits


class Mask2Former(Mask2FormerPreTrainedModel):  # type: ignore[misc]
    _keys_to_ignore_on_load_unexpected = (r"^criterion\.",)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model = Mask2FormerModel(config)
        self.class_predictor = nn.Linear(config.hidden_dim, config.num_labels + 1)
        self.post_init()

    def forward(self, pixel_values: Tensor) -> Queries:
        found = self.model(pixel_values=pixel_values, output_hidden_states=True)  # the last layer's alone are normed
        last = found.transformer_decoder_intermediate_states[-1].transpose(0, 1)
        return Queries(self.class_predictor(last), found.masks_queries_logits[-1])


class OneFormer(OneFormerPreTrainedModel):  # type: ignore[misc]
    _keys_to_ignore_on_load_unexpected = (r"^criterion\.",)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model = OneFormerModel(config)
        self.post_init()

    def forward(self, pixel_values: Tensor, task_inputs: Tensor) -> Queries:
        found = self.model(pixel_values=pixel_values, task_inputs=task_inputs)
        return Queries(found.transformer_decoder_class_predictions, found.transformer_decoder_mask_predictions)
