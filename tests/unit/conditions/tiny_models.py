"""Networks of transformers on random weights, in folders as the Hub has them."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertTokenizer,
    BitConfig,
    BlipConfig,
    BlipForConditionalGeneration,
    CLIPTokenizer,
    ConvNextConfig,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    DetrConfig,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
    Mask2FormerConfig,
    MaskFormerConfig,
    OneFormerConfig,
    ResNetConfig,
    SwinConfig,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

from maquette.conditions.networks.masks import Mask2Former, MaskFormer, OneFormer

WIDE = 32  # the narrowest that groups of 32 channels allow
STAGES = ["stage1", "stage2", "stage3", "stage4"]
MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *(chr(97 + n) for n in range(26))]


def write_tiny(name: str, folder: Path) -> Path:
    """A folder of weights that a detector opens, by the detector's name or an architecture's."""
    write = {
        "depth": write_depth_anything,
        "normal": write_dpt_hybrid,
        "segmentation": write_upernet,
        "caption": write_blip,
        "depth_anything": write_depth_anything,
        "dpt": write_dpt,
        "dpt_hybrid": write_dpt_hybrid,
        "oneformer": write_oneformer,
        "mask2former": write_mask2former,
        "maskformer": write_maskformer,
        "upernet": write_upernet,
    }[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return write(folder)


def write_depth_anything(folder: Path, kind: str = "relative") -> Path:
    backbone = Dinov2Config(
        hidden_size=8,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        out_features=STAGES,
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=8,
        neck_hidden_sizes=[4, 4, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
        depth_estimation_type=kind,
        max_depth=20 if kind == "metric" else 1,
    )
    return _write(folder, DepthAnythingForDepthEstimation(config), 56, ensure_multiple_of=14, keep_aspect_ratio=True)


def write_dpt(folder: Path) -> Path:
    config = DPTConfig(
        hidden_size=8,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        image_size=64,
        patch_size=16,
        neck_hidden_sizes=[4, 4, 8, 8],
        fusion_hidden_size=8,
    )
    return _write(folder, DPTForDepthEstimation(config), 64, ensure_multiple_of=1, keep_aspect_ratio=False)


def write_dpt_hybrid(folder: Path) -> Path:
    backbone = BitConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 8],
        depths=[1, 1, 1],
        layer_type="bottleneck",
        global_padding="same",
        embedding_dynamic_padding=True,
        num_groups=2,
        out_features=["stage1", "stage2", "stage3"],
    )
    config = DPTConfig(
        is_hybrid=True,
        backbone_config=backbone,
        backbone_featmap_shape=[1, 8, 4, 4],
        readout_type="project",
        neck_ignore_stages=[0, 1],
        reassemble_factors=[1, 1, 1, 0.5],
        hidden_size=8,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        image_size=64,
        patch_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
    )
    return _write(folder, DPTForDepthEstimation(config), 64, ensure_multiple_of=1, keep_aspect_ratio=False)


def write_upernet(folder: Path, labels: int = 150) -> Path:
    backbone = ConvNextConfig(hidden_sizes=[4, 4, 8, 8], depths=[1, 1, 1, 1], out_features=STAGES)
    config = UperNetConfig(
        backbone_config=backbone, hidden_size=8, pool_scales=[1, 2], use_auxiliary_head=False, num_labels=labels
    )
    return _write(folder, UperNetForSemanticSegmentation(config), 64)


def write_mask2former(folder: Path) -> Path:
    config = Mask2FormerConfig(
        backbone_config=_swin(),
        **dict.fromkeys(("feature_size", "mask_feature_size", "hidden_dim"), WIDE),
        encoder_feedforward_dim=16,
        dim_feedforward=16,
        encoder_layers=1,
        decoder_layers=3,
        num_attention_heads=2,
        num_queries=10,
        num_labels=150,
    )
    return _write(folder, Mask2Former(config), 64, size_divisor=32)


def write_maskformer(folder: Path) -> Path:
    narrow = {"d_model": WIDE, "encoder_layers": 1, "decoder_layers": 2, "num_queries": 10}
    narrow |= dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 16)
    narrow |= dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2)
    config = MaskFormerConfig(
        backbone_config=ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=STAGES
        ),
        decoder_config=DetrConfig(use_timm_backbone=False, backbone_config=ResNetConfig(), **narrow),
        fpn_feature_size=WIDE,
        mask_feature_size=WIDE,
        num_labels=171,
    )
    return _write(folder, MaskFormer(config), {"shortest_edge": 64, "longest_edge": 256}, size_divisor=32)


def write_oneformer(folder: Path) -> Path:
    config = OneFormerConfig(
        backbone_config=_swin(),
        conv_dim=WIDE,
        mask_dim=WIDE,
        hidden_dim=WIDE,
        encoder_feedforward_dim=16,
        dim_feedforward=16,
        encoder_layers=1,
        decoder_layers=3,
        query_dec_layers=1,
        num_attention_heads=2,
        num_queries=10,
        task_seq_len=77,
        num_labels=133,
    )
    letters = [chr(number) for number in range(97, 123)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    CLIPTokenizer(vocab={word: n for n, word in enumerate(words)}, merges=[]).save_pretrained(folder)
    return _write(folder, OneFormer(config), {"shortest_edge": 64, "longest_edge": 256})


def write_blip(folder: Path) -> Path:
    text = {
        "vocab_size": len(WORDS),
        "hidden_size": 16,
        "encoder_hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "bos_token_id": WORDS.index("[DEC]"),
        "eos_token_id": WORDS.index("[SEP]"),
        "sep_token_id": WORDS.index("[SEP]"),
        "pad_token_id": WORDS.index("[PAD]"),
    }
    sight = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 16,
    }
    BertTokenizer(vocab={word: n for n, word in enumerate(WORDS)}, bos_token="[DEC]").save_pretrained(folder)
    return _write(folder, BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=sight)), 64)


def _swin() -> SwinConfig:
    return SwinConfig(embed_dim=4, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=2, out_features=STAGES)


def _write(folder: Path, model: Any, size: int | dict[str, int], **more: Any) -> Path:
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # the usual draws are near 0, where nothing that is seen shows
            loud = 5 if "class_" in name or "mask_embed" in name else 0.2  # several classes are to be found
            parameter.add_(loud * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    size = size if isinstance(size, dict) else {"height": size, "width": size}
    settings = {"size": size, "image_mean": MEAN, "image_std": DEVIATION, **more}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder
