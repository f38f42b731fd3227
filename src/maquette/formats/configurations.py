"""What the configurations of published parts may hold: diffusers' and transformers' JSON files, by their names.

Settings that are not listed are only held to what is reasonable (`foundation.reading.rules`).
"""

from typing import Literal

from maquette.foundation.reading.rules import Rule, either, listed, optional, table, typed

_TEXT, _FLAG, _NUMBER = typed(str), typed(bool), typed(float, -1e7, 1e7)
_WIDTH, _COUNT = typed(int, 1, 2**17), typed(int, 0, 1024)
_WIDTHS = listed(_WIDTH, 1, 64)
_BLOCKS = listed(_TEXT, 1, 64)
_COUNTS = either(_COUNT, listed(either(_COUNT, listed(_COUNT, 1, 64)), 1, 64))
_KERNEL = typed(int, 1, 15)
_SHARE = typed(float, 0, 1)

UNET: dict[str, Rule] = {
    "in_channels": _WIDTH,
    "out_channels": _WIDTH,
    "sample_size": optional(either(_WIDTH, listed(_WIDTH, 1, 2))),
    "block_out_channels": _WIDTHS,
    "down_block_types": _BLOCKS,
    "up_block_types": _BLOCKS,
    "mid_block_type": optional(_TEXT),
    "layers_per_block": _COUNTS,
    "transformer_layers_per_block": _COUNTS,
    "cross_attention_dim": optional(either(_WIDTH, _WIDTHS)),
    "attention_head_dim": optional(either(_WIDTH, _WIDTHS)),
    "num_attention_heads": optional(either(_WIDTH, _WIDTHS)),
    "only_cross_attention": either(_FLAG, listed(_FLAG, 1, 64)),
    "norm_num_groups": optional(_WIDTH),
    "norm_eps": _SHARE,
    "dropout": _SHARE,
    "act_fn": _TEXT,
    "flip_sin_to_cos": _FLAG,
    "freq_shift": _NUMBER,
    "downsample_padding": _COUNT,
    "mid_block_scale_factor": _NUMBER,
    "use_linear_projection": _FLAG,
    "upcast_attention": optional(_FLAG),
    "resnet_time_scale_shift": _TEXT,
    "conv_in_kernel": _KERNEL,
    "conv_out_kernel": _KERNEL,
    "addition_embed_type": optional(_TEXT),
    "addition_time_embed_dim": optional(_WIDTH),
    "projection_class_embeddings_input_dim": optional(_WIDTH),
}
"""Of a `UNet2DConditionModel`."""

VAE: dict[str, Rule] = {
    **{name: UNET[name] for name in ("in_channels", "out_channels", "sample_size", "block_out_channels", "act_fn")},
    **{name: UNET[name] for name in ("down_block_types", "up_block_types", "layers_per_block")},
    "norm_num_groups": _WIDTH,
    "latent_channels": _WIDTH,
    "scaling_factor": typed(float, 1e-6, 1e6),
    "shift_factor": optional(_NUMBER),
    "force_upcast": optional(_FLAG),
    "use_quant_conv": _FLAG,
    "use_post_quant_conv": _FLAG,
    "mid_block_add_attention": _FLAG,
}
"""Of an `AutoencoderKL`."""

TINY_DECODER: dict[str, Rule] = {
    **{name: VAE[name] for name in ("out_channels", "act_fn", "latent_channels", "scaling_factor", "shift_factor")},
    "decoder_block_out_channels": listed(typed(int, 1, 4096), 1, 8),
    "num_decoder_blocks": listed(typed(int, 0, 64), 1, 8),
    "upsample_fn": typed(Literal["nearest", "bilinear", "bicubic"]),
    "upsampling_scaling_factor": typed(int, 1, 8),
}
"""Of an `AutoencoderTiny`, as far as its decoder reads it."""

CLIP: dict[str, Rule] = {
    "vocab_size": typed(int, 1, 10**7),
    "hidden_size": _WIDTH,
    "intermediate_size": _WIDTH,
    "projection_dim": _WIDTH,
    "num_hidden_layers": _COUNT,
    "num_attention_heads": _WIDTH,
    "max_position_embeddings": _WIDTH,
    "hidden_act": _TEXT,
    "layer_norm_eps": _SHARE,
    "attention_dropout": _SHARE,
    "bos_token_id": optional(typed(int, 0, 10**7)),
    "eos_token_id": optional(typed(int, 0, 10**7)),
    "pad_token_id": optional(typed(int, 0, 10**7)),
}
"""Of a text encoder of CLIP."""

T5: dict[str, Rule] = {
    "vocab_size": typed(int, 1, 10**7),
    "d_model": _WIDTH,
    "d_ff": _WIDTH,
    "d_kv": _WIDTH,
    "num_layers": _COUNT,
    "num_heads": _WIDTH,
    "relative_attention_num_buckets": _WIDTH,
    "relative_attention_max_distance": _WIDTH,
    "layer_norm_epsilon": _SHARE,
    "dropout_rate": _SHARE,
    "feed_forward_proj": _TEXT,
}
"""Of T5's text encoder."""

MMDIT: dict[str, Rule] = {
    "sample_size": _WIDTH,
    "patch_size": typed(int, 1, 64),
    "in_channels": _WIDTH,
    "out_channels": optional(_WIDTH),
    "num_layers": typed(int, 1, 1024),
    "num_attention_heads": _WIDTH,
    "attention_head_dim": _WIDTH,
    "joint_attention_dim": _WIDTH,
    "caption_projection_dim": _WIDTH,
    "pooled_projection_dim": _WIDTH,
    "pos_embed_max_size": typed(int, 1, 4096),
    "dual_attention_layers": listed(_COUNT, 0, 1024),
    "qk_norm": optional(_TEXT),
}
"""Of an `SD3Transformer2DModel`."""

FLUX: dict[str, Rule] = {
    "patch_size": typed(int, 1, 1),
    "in_channels": _WIDTH,
    "out_channels": optional(_WIDTH),
    "num_layers": typed(int, 0, 1024),
    "num_single_layers": typed(int, 0, 1024),
    "num_attention_heads": _WIDTH,
    "attention_head_dim": _WIDTH,
    "joint_attention_dim": _WIDTH,
    "pooled_projection_dim": _WIDTH,
    "guidance_embeds": _FLAG,
    "axes_dims_rope": listed(_WIDTH, 3, 3),
}
"""Of a `FluxTransformer2DModel`."""

QWEN: dict[str, Rule] = {
    "patch_size": typed(int, 2, 2),
    "in_channels": _WIDTH,
    "out_channels": optional(_WIDTH),
    "num_layers": typed(int, 1, 1024),
    "num_attention_heads": _WIDTH,
    "attention_head_dim": _WIDTH,
    "joint_attention_dim": _WIDTH,
    "axes_dims_rope": listed(_WIDTH, 3, 3),
    **dict.fromkeys(("guidance_embeds", "zero_cond_t", "use_additional_t_cond", "use_layer3d_rope"), _FLAG),
}
"""Of a `QwenImageTransformer2DModel`."""

ZIMAGE: dict[str, Rule] = {
    "all_patch_size": listed(typed(int, 1, 64), 1, 8),
    "all_f_patch_size": listed(typed(int, 1, 64), 1, 8),
    **dict.fromkeys(("in_channels", "dim", "n_heads", "n_kv_heads", "cap_feat_dim"), _WIDTH),
    **dict.fromkeys(("n_layers", "n_refiner_layers"), typed(int, 1, 1024)),
    "siglip_feat_dim": optional(_WIDTH),
    "norm_eps": _SHARE,
    "qk_norm": _FLAG,
    "rope_theta": typed(float, 1, 1e9),
    "t_scale": typed(float, 1e-3, 1e6),
    "axes_dims": listed(_WIDTH, 3, 3),
    "axes_lens": listed(typed(int, 1, 2**16), 3, 3),
}
"""Of a `ZImageTransformer2DModel`."""

FRAMES: dict[str, Rule] = {
    "base_dim": _WIDTH,
    "z_dim": _WIDTH,
    "dim_mult": listed(typed(int, 1, 64), 1, 16),
    "num_res_blocks": _COUNT,
    "attn_scales": listed(_NUMBER, 0, 16),
    "temperal_downsample": listed(_FLAG, 1, 16),
    "dropout": _SHARE,
    "input_channels": _WIDTH,
    "latents_mean": listed(_NUMBER, 1, 4096),
    "latents_std": listed(typed(float, 1e-6, 1e6), 1, 4096),
}
"""Of an `AutoencoderKLQwenImage`."""

_LANGUAGE: dict[str, Rule] = {
    "model_type": _TEXT,
    "vocab_size": typed(int, 1, 10**7),
    **dict.fromkeys(("hidden_size", "intermediate_size", "num_attention_heads"), _WIDTH),
    "num_key_value_heads": optional(_WIDTH),
    "num_hidden_layers": typed(int, 1, 1024),
    "max_position_embeddings": typed(int, 1, 10**8),
    "rms_norm_eps": _SHARE,
    "hidden_act": _TEXT,
}
LANGUAGE: dict[str, Rule] = {**_LANGUAGE, "text_config": optional(table(_LANGUAGE))}
"""Of a `Qwen2_5_VLForConditionalGeneration`, as far as its language model reads it: apart, or among the others."""

SCHEDULE: dict[str, Rule] = {
    "_class_name": _TEXT,
    "num_train_timesteps": typed(int, 1, 100_000),
    "beta_start": _SHARE,
    "beta_end": _SHARE,
    "beta_schedule": _TEXT,
    "trained_betas": optional(listed(_SHARE, 1, 100_000)),
    "prediction_type": _TEXT,
    "timestep_spacing": _TEXT,
    "steps_offset": _COUNT,
    "rescale_betas_zero_snr": _FLAG,
    "clip_sample": _FLAG,
    "thresholding": _FLAG,
    "set_alpha_to_one": _FLAG,
    "shift": typed(float, 1e-3, 1e3),
    "use_dynamic_shifting": _FLAG,
    "base_image_seq_len": _WIDTH,
    "max_image_seq_len": _WIDTH,
    "base_shift": _NUMBER,
    "max_shift": _NUMBER,
    "shift_terminal": optional(_SHARE),
    "time_shift_type": _TEXT,
}
"""Of a noise schedule: any scheduler of diffusers."""

INDEX: dict[str, Rule] = {"_class_name": either(_TEXT, listed(_TEXT, 1, 2)), "force_zeros_for_empty_prompt": _FLAG}
"""Of model_index.json."""

DEFAULTS: dict[str, Rule] = {"steps": typed(int, 1, 1000), "guidance": typed(float, 0, 50), "sampler": _TEXT}
"""Of maquette.json, the recommended settings beside a base."""

_DESIGN: dict[str, Rule] = {name: typed(str) for name in ("encoder", "connect", "variant", "kind")}
CONTROLNET: dict[str, Rule] = {
    **{name: optional(rule) for name, rule in UNET.items()},
    "conditioning_channels": typed(int, 1, 16),
    "conditioning_embedding_out_channels": _WIDTHS,
    "global_pool_conditions": optional(_FLAG),
    "controlnet_conditioning_channel_order": typed(Literal["rgb", "bgr"]),
    "_class_name": optional(_TEXT),
    "rank": typed(int, 1, 4096),
    **{f"num_{name}": typed(int, 1, 64) for name in ("control_type", "trans_head", "trans_layer")},
    **{f"num_{name}_channel": _WIDTH for name in ("trans", "proj")},
    **{f"control_{part}_places": optional(listed(_COUNT, 0, 1024)) for part in ("layers", "refiner_layers")},
    "control_in_dim": optional(_WIDTH),
    "add_control_noise_refiner": optional(_TEXT),
}
"""Of a ControlNet's config.json; its family reads more of it."""

DESIGN: dict[str, Rule] = {**_DESIGN, "contract": lambda value: None}
"""Of our part of it; `controlnet.contract` checks the contract."""
