"""A vector-quantised autoencoder (van den Oord et al. 2017, arXiv:1711.00937): images as numbers of codes."""

import torch
from diffusers import VQModel
from torch import Tensor, nn

REVIVED_EVERY, REVIVED_UNTIL = 20, 1000  # steps


class Codes(nn.Module):
    """Images to codes, one for each cell, and back.

    Args:
        channels: of images; as many are decoded.
        widths: of the levels, each half the size of the one before.
        count: of codes.
        width: of a code.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], count: int, width: int) -> None:
        super().__init__()
        self.count = count
        self.model = VQModel(
            in_channels=channels,
            out_channels=channels,
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            up_block_types=("UpDecoderBlock2D",) * len(widths),
            block_out_channels=widths,
            latent_channels=width,
            num_vq_embeddings=count,
            norm_num_groups=1,
            mid_block_add_attention=False,
        )
        self.model.quantize.legacy = False  # β on the commitment, as published, not on the codebook's term

    def cells(self, images: Tensor) -> Tensor:
        """What is quantised, (B, D, h, w), of images (B, channels, H, W)."""
        cells: Tensor = self.model.quant_conv(self.model.encoder(images))
        return cells.float()

    def quantised(self, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The nearest codes of cells, both (B, D, h, w), the scalar loss, and the codes' numbers (B, h w).

        The gradient of the codes goes straight through to the cells; the loss draws codes to cells, and cells, by a
        quarter of that, to codes.
        """
        with torch.autocast(cells.device.type, enabled=False):
            nearest, loss, (_, _, numbers) = self.model.quantize(cells)
        return nearest, loss, numbers.view(len(cells), -1)

    def decoded_cells(self, cells: Tensor) -> Tensor:
        """Images (B, channels, H, W) from quantised cells (B, D, h, w)."""
        images: Tensor = self.model.decoder(self.model.post_quant_conv(cells))
        return images

    def encode(self, images: Tensor) -> Tensor:
        """Numbers (B, h w) of images (B, channels, H, W), row by row of the cells."""
        return self.quantised(self.cells(images))[2]

    def decode(self, numbers: Tensor) -> Tensor:
        """Images (B, channels, H, W) from numbers (B, h w) of square ones."""
        side = round(numbers.shape[1] ** 0.5)
        shape = (len(numbers), side, side, self.model.quantize.vq_embed_dim)
        return self.decoded_cells(self.model.quantize.get_codebook_entry(numbers.flatten(), shape))

    @torch.no_grad()
    def revive(self, cells: Tensor, numbers: Tensor, step: int, source: torch.Generator) -> None:
        """Put codes that no cell of a batch uses onto random cells, now and then while the codebook forms.

        Otherwise most codes of a random codebook are never the nearest to anything, and never learn.

        Args:
            cells: (B, D, h, w), with their numbers (B, h w).
        """
        if step % REVIVED_EVERY or step > REVIVED_UNTIL:
            return
        unused = torch.bincount(numbers.flatten(), minlength=self.count) == 0
        of_batch = cells.permute(0, 2, 3, 1).flatten(0, 2)
        chosen = torch.randint(len(of_batch), (int(unused.sum()),), generator=source)
        self.model.quantize.embedding.weight[unused] = of_batch[chosen.to(cells.device)]
