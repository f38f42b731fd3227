"""Class maps: class numbers, the palettes that colour them, and their files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from maquette.conditions.spec import Record
from maquette.errors import MaquetteError
from maquette.foundation.reading.pictures import opened_picture
from maquette.foundation.registry import unknown


def _table(colours: str) -> NDArray[np.uint8]:
    """Hexadecimal colours as RGB bytes (K, 3)."""
    return np.frombuffer(bytes.fromhex(colours), np.uint8).reshape(-1, 3)


ADE20K = _table(
    "787878 b47878 06e6e6 503232 04c803 787850 8c8c8c cc05ff e6e6e6 04fa07 e005ff ebff07 96053d 787846 08ff33 "
    "ff0652 8fff8c ccff04 ff3307 cc4603 0066c8 3de6fa ff0633 0b66ff ff0747 ff09e0 0907e6 dcdcdc ff095c 7009ff "
    "08ffd6 07ffe0 ffb806 0aff47 ff290a 07ffff e0ff08 6608ff ff3d06 ffc207 ff7a08 00ff14 ff0829 ff0599 0633ff "
    "eb0cff a09614 00a3ff 8c8c8c fa0a0f 14ff00 1fff00 ff1f00 ffe000 99ff00 0000ff ff4700 00ebff 00adff 1f00ff "
    "0bc8c8 ff5200 00fff5 003dff 00ff70 00ff85 ff0000 ffa300 ff6600 c2ff00 008fff 33ff00 0052ff 00ff29 00ffad "
    "0a00ff adff00 00ff99 ff5c00 ff00ff ff00f5 ff0066 ffad00 ff0014 ffb8b8 001fff 00ff3d 0047ff ff00cc 00ffc2 "
    "00ff52 000aff 0070ff 3300ff 00c2ff 007aff 00ffa3 ff9900 00ff0a ff7000 8fff00 5200ff a3ff00 ffeb00 08b8aa "
    "8500ff 00ff5c b800ff ff001f 00b8ff 00d6ff ff0070 5cff00 00e0ff 70e0ff 46b8a0 a300ff 9900ff 47ff00 ff00a3 "
    "ffcc00 ff008f 00ffeb 85ff00 ff00eb f500ff ff007a fff500 0abed4 d6ff00 00ccff 1400ff ffff00 0099ff 0029ff "
    "00ffcc 2900ff 29ff00 ad00ff 00f5ff 4700ff 7a00ff 00ffb8 005cff b8ff00 0085ff ffd600 19c2c2 66ff00 5c00ff "
)
"""The 150 classes of ADE20K scene parsing, as in ControlNet 1.0 (UniFormer, as in mmsegmentation) and 1.1 (OneFormer,
as in Mask2Former). Roads (6) and skyscrapers (48) share a colour."""

COCO = _table(
    "dc143c 770b20 00008e 0000e6 6a00e4 003c64 005064 000046 0000c0 faaa1e 64aa1e dcdc00 af74af fa001e a52a2a "
    "ff4dff 00e2fc b6b6ff 005200 78a69d 6e4c00 ae39ff c76400 480076 ffb3f0 007d5c d10097 bcd0b6 00dcb0 ff63a4 "
    "5c0049 8581ff 4eb4ff 00e400 aefff3 2d59ff 868667 9194ae ffd0ba c5e2ff ab8601 6d3f36 cf8aff 97005f 09503d "
    "546933 4a4169 a6c466 d0c3d2 ff6d41 008f95 b300c2 d1636a 057900 e3ffcd 93bad0 994501 035fa1 a3ff00 7700aa "
    "00b6c7 00a578 b78258 5f2000 827287 6e8185 a64a76 db8eb9 4fd272 b25a3e 41460f 7fa773 3b696a 8e6c2d c4ac00 "
    "5f3650 804cff c93901 f6007a bfa2d0 ffff80 93d3cb 966464 a8abac 9270c6 d2aa64 5c8859 da58b8 f18100 d911ff "
    "7c4ab5 464646 ffe4ff 9ad000 c1005c 4c5b71 ffb4c3 6a9ab0 e6968c 3c8fff 804080 5c5237 fed47c 494dae ffa062 "
    "ffffff 68546d a9a483 e1c7ff 89364a 879edf 07f6e7 6bffc8 3a2995 b7798e ff4961 6b8e23 be9999 928b8d 4682b4 "
    "86c79c d1e28c 60246c 606060 40aa40 98fb98 d0e5e4 cebaab 98a140 747000 00728f 66669c fa8dff "
)
"""The 133 classes of COCO's panoptic task, in the order of panoptic_coco_categories.json (cocodataset/panopticapi), as
in ControlNet 1.1 (OneFormer, with detectron2's table), although its page says 182."""

COCO_STUFF = _table(
    "000000 ff5900 0000f4 59ffa6 fff400 00c8ff 0000c8 de0000 00e9ff ff2100 ff8500 f4ff0b 21ffde ff0b00 900000 "
    "43ffbc 006fff ff9b00 0000bc 0000b1 00deff 0021ff 002cff a6ff59 ffff00 ff6400 00a6ff 0016ff 6fff90 ffd300 "
    "ffb100 0059ff 007aff 0037ff 16ffe9 d30000 85ff7a c80000 ffe900 e90000 ffbc00 ff1600 0085ff 000085 ffde00 "
    "004eff 37ffc8 0090ff 9b0000 4effb1 00b1ff 90ff6f 0043ff ffa600 9bff64 00bcff deff21 0000a6 0000de 00d3ff "
    "0064ff f40000 b10000 7aff85 2cffd3 ff4300 0000e9 ff3700 bc0000 00009b ff2c00 ff6f00 bcff43 009bff ff9000 "
    "0bfff4 ff4e00 ffc800 000bff ff0000 0000d3 a60000 d3ff2c 64ff9b e9ff16 c8ff37 00f4ff 000090 00ffff b1ff4e "
    "0000ff ff7a00 802c00 00007a 2c8053 807a00 006480 000064 6f0000 007480 801100 804300 7a8006 11806f 800600 "
    "480000 21805e 003780 804e00 00005e 000059 006f80 001180 001680 53802c 808000 803200 005380 000b80 378048 "
    "806900 805900 002c80 003d80 001c80 0b8074 690000 43803d 640000 807400 740000 805e00 800b00 004380 000043 "
    "806f00 002780 1c8064 004880 4e0000 278059 005980 488037 002180 805300 4e8032 005e80 6f8011 000053 00006f "
    "006980 003280 7a0000 590000 3d8043 168069 802100 000074 801c00 5e0000 00004e 801600 803700 5e8021 004e80 "
    "804800 06807a 802700 806400 000680 800000 000069 530000 698016 32804e 74800b 64801c 007a80 000048 008080 "
    "598027 000080 803d00 "
)
"""COCO-Stuff's 182 classes by number (1 to 91 things, 92 to 182 stuff; 0 is unlabelled), in the data set's palette: as
in its example results (nightrome/cocostuffapi) and as computed by cmapThings.m and cmapStuff.m (cocostuff10k). No
annotator for these classes was published with ControlNet."""

UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
"""Numbers of COCO's things that no image shows: 171 of the 182 classes are left."""

COCO_STUFF_182 = COCO_STUFF[1:]
"""The same colours for 0 to 181, as the data set's PNG files number its classes (stuffthingmaps): one less."""

COCO_STUFF_171 = np.delete(COCO_STUFF, (0, *UNUSED), axis=0)
"""The same colours for 0 to 170, as networks number the classes that occur: 80 things, then 91 stuff."""

NOTHING = 255
"""The number of pixels without a class in the files of COCO-Stuff and other data sets: black in every palette."""


DIORAMA_PALETTE = np.array(
    [
        (120, 180, 230),  # sky
        (150, 120, 190),  # hills
        (90, 140, 70),  # ground
        (230, 40, 40),  # ball
        (250, 160, 20),  # cube
        (250, 230, 40),  # cylinder
        (40, 220, 220),  # cone
        (170, 60, 20),  # house
        (20, 90, 20),  # tree
        (240, 50, 200),  # person
    ],
    np.uint8,
)
"""Colour of each class of the diorama."""

PALETTES = {
    "ade20k": ADE20K,
    "coco": COCO,
    "coco-stuff": COCO_STUFF,
    "coco-stuff-182": COCO_STUFF_182,
    "coco-stuff-171": COCO_STUFF_171,
    "diorama": DIORAMA_PALETTE,
}


@dataclass(frozen=True, eq=False)
class Classes:
    """Class numbers of an image and the palette to colour them with."""

    numbers: NDArray[np.integer]  # (H, W), rows of the palette
    palette: str  # a key of PALETTES


def class_map(classes: NDArray[np.integer], palette: NDArray[np.uint8] = DIORAMA_PALETTE) -> Image.Image:
    """Class numbers (H, W) as an RGB image in a palette (K, 3)."""
    return Image.fromarray(palette[classes])


def draw_classes(classes: Classes) -> Image.Image:
    """Class numbers as an RGB image in their palette; 255 is nothing, and black.

    Raises `MaquetteError` for an unknown palette, and for a class that it does not have.
    """
    if classes.palette not in PALETTES:
        raise MaquetteError(unknown("palette", classes.palette, list(PALETTES)))
    palette = PALETTES[classes.palette]
    is_nothing = classes.numbers == NOTHING
    numbers = np.where(is_nothing, 0, classes.numbers)
    largest = int(numbers.max(initial=0))
    if largest >= len(palette):
        raise MaquetteError(f"The palette {classes.palette!r} has classes 0 to {len(palette) - 1}, no {largest}.")
    return Image.fromarray(np.where(is_nothing[..., None], np.uint8(0), palette[numbers]))


def write_classes(classes: Classes, path: Path) -> None:
    """Class numbers as a grey PNG, 8 bits up to class 255, else 16; its text entry "palette" names the palette."""
    metadata = PngImagePlugin.PngInfo()
    metadata.add_text("palette", classes.palette)
    is_16_bit = classes.numbers.max(initial=0) > 255
    Image.fromarray(classes.numbers.astype(np.uint16 if is_16_bit else np.uint8)).save(path, "PNG", pnginfo=metadata)


def read_classes(path: Path, palette: str = "ade20k") -> Classes:
    """Read class numbers from a grey PNG of 8 or 16 bits, or an indexed one.

    Args:
        palette: used where the file names none.

    Raises `MaquetteError` for a file without class numbers.
    """
    with opened_picture(path, str(path)) as image:
        numbers, mode, metadata = np.array(image), image.mode, image.info
    if mode not in ("L", "P", "I;16", "I") or int(numbers.min(initial=0)) < 0:
        raise MaquetteError(
            f"{str(path)!r} holds colours, not class numbers, which are a grey PNG. An image in a palette's colours is "
            "already a class map and needs no detector."
        )
    return Classes(numbers.astype(np.uint16), str(metadata.get("palette", palette)))


RECORD = Record(".classes.png", draw_classes, write_classes, read_classes)
