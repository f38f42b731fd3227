"""Tiny networks of random weights in the places of RT-DETR and ViTPose, and of YOLOX and DWPose."""

from pathlib import Path

import torch
from transformers import (
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrImageProcessorPil,
    RTDetrResNetConfig,
    VitPoseBackboneConfig,
    VitPoseConfig,
    VitPoseForPoseEstimation,
    VitPoseImageProcessorPil,
)

SEEN = {"height": 64, "width": 48}  # by the tiny ViTPose


def write_tiny(name: str, folder: Path) -> Path:
    """A folder with boxes/ and points/, as detectors of poses take them; it sees people nearly everywhere."""
    assert name in ("pose", "pose_pifpaf")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        boxes, points = _boxes(), _points()
    boxes.save_pretrained(folder / "boxes")
    RTDetrImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder / "boxes")
    points.save_pretrained(folder / "points")
    VitPoseImageProcessorPil(size=SEEN).save_pretrained(folder / "points")
    return folder


def _boxes() -> RTDetrForObjectDetection:
    backbone = RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = RTDetrConfig(
        backbone_config=backbone, encoder_hidden_dim=16, encoder_in_channels=[8, 16, 16], encoder_ffn_dim=16,
        encoder_attention_heads=2, encoder_layers=1, d_model=16, num_queries=12, decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=16, decoder_layers=2, decoder_attention_heads=2, num_denoising=0,
        id2label={0: "dog", 1: "person"}, label2id={"dog": 0, "person": 1},
    )  # fmt: skip
    network = RTDetrForObjectDetection(config)
    for name, value in network.named_parameters():
        if "class_embed" in name or "enc_score_head" in name:
            torch.nn.init.normal_(value, std=2.0 if value.ndim > 1 else 0.5)
    for head in network.model.decoder.bbox_embed:
        torch.nn.init.normal_(head.layers[-1].weight, std=0.3)
        head.layers[-1].bias.data[2:] = 2  # anchors are small
    return network.eval()


def _points() -> VitPoseForPoseEstimation:
    backbone = VitPoseBackboneConfig(
        image_size=list(SEEN.values()), patch_size=[16, 16], hidden_size=16, num_hidden_layers=1,
        num_attention_heads=2, mlp_ratio=1, out_indices=[1],
    )  # fmt: skip
    network = VitPoseForPoseEstimation(VitPoseConfig(backbone_config=backbone, num_labels=17))
    torch.nn.init.normal_(network.head.conv.weight, std=0.15)
    return network.eval()
