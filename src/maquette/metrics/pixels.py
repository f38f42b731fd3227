"""Pixel-wise metrics."""

from torch import Tensor


def psnr(result: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB (B,) of images (B, 3, H, W) in [-1, 1]; `result` is clipped to that range."""
    error = ((result.clamp(-1, 1) - target) / 2).square().mean(dim=(1, 2, 3))
    return -10 * error.log10()
