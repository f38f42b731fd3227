"""How far bfloat16 is from float32 in final latents, with attention in blocks and by the fused kernel, on the diorama.

python benchmarks/rounding.py
"""

import torch
import torch.nn.functional as F

import maquette as mq
from maquette.arithmetic import attention
from maquette.diorama.dataset import TEST

IMAGES = 8


def latents(dtype: str) -> torch.Tensor:
    """(IMAGES, C, h, w) of unseen scenes by their edges and captions."""
    base = mq.load_base("diorama", device="cpu", dtype=dtype)
    scenes = [mq.diorama.scene(TEST + number) for number in range(IMAGES)]
    control = mq.Control(mq.load_controlnet("diorama/canny", base), [mq.detect("canny", one.image) for one in scenes])
    return mq.generate(base, [one.caption for one in scenes], control, returns="latents")


def main() -> None:
    blocks = attention.attend
    exact, in_blocks = latents("float32"), latents("bfloat16")
    attention.attend = F.scaled_dot_product_attention
    fused = latents("bfloat16")
    attention.attend = blocks
    for name, found in (("in blocks", in_blocks), ("fused kernel", fused)):
        print(f"{name}: {(found - exact).std() / exact.std():.2%} of the latents' deviation")


if __name__ == "__main__":
    main()
