"""The members of a tar and their offsets: its headers are read in turn, and nothing is unpacked or kept.

`tarfile` takes three times as long, and stops silently at a broken header, as if there were no more members.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from tarfile import ReadError

BLOCK = 512  # bytes: the size of a header; contents are padded to a multiple
END = bytes(BLOCK)
FILES = (b"0", b"\0", b"7")  # type flags of regular files
LONG_NAME, RECORDS = b"L", (b"x", b"X")  # type flags of GNU's and POSIX's extensions of the next header
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def members(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Name, offset and size in bytes of each file in a tar, in order.

    Raises `tarfile.ReadError`, after the members before it, if the file is compressed, cut off or not a tar.
    """
    with path.open("rb", buffering=0) as file:
        end = os.fstat(file.fileno()).st_size
        offset = 0
        name, size = None, None  # from an extension of the next header
        while offset < end:
            file.seek(offset)
            header = file.read(BLOCK)
            if header == END:
                return
            flag, short_name, length = _header(header, offset)
            length = length if size is None else size
            start = offset + BLOCK
            if start + length > end:
                raise ReadError(f"is cut off: {start + length - end:,} bytes of a member are missing")
            offset = start + (length + BLOCK - 1) // BLOCK * BLOCK
            if flag == LONG_NAME:
                name = file.read(length).rstrip(b"\0")
            elif flag in RECORDS:
                records = _records(file.read(length))
                name, size = records.get(b"path", name), int(records[b"size"]) if b"size" in records else None
            else:
                if flag in FILES:
                    yield name or short_name, start, length
                name, size = None, None
    if not end:
        raise ReadError("is empty")


def _header(block: bytes, offset: int) -> tuple[bytes, bytes, int]:
    """A member's type flag, its name and the size of its content in bytes."""
    if len(block) < BLOCK:
        raise ReadError(f"is cut off: it ends within a header, at byte {offset + len(block):,}")
    try:
        is_valid = sum(block) - sum(block[148:156]) + 8 * ord(" ") == _number(block[148:156])
        size = _number(block[124:136])
    except ValueError:
        is_valid, size = False, 0
    if not is_valid:
        formats = (name for magic, name in COMPRESSED.items() if block.startswith(magic))
        if offset == 0 and (compression := next(formats, None)):
            raise ReadError(f"is compressed ({compression}), so its rows cannot be read in any order; unpack it first")
        raise ReadError(f"is {'broken' if offset else 'not a tar'}: there is no header at byte {offset:,}")
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    return block[156:157], prefix + b"/" + name if prefix else name, size


def _number(field: bytes) -> int:
    """An integer as octal digits, or for large ones in GNU's binary form, marked by the highest bit."""
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
    return int(field.strip(b" \0") or b"0", 8)


def _records(content: bytes) -> dict[bytes, bytes]:
    """POSIX's extended header, lines of `length keyword=value`; the length includes itself and the line break."""
    records = {}
    while content.strip(b"\0"):
        length, _, rest = content.partition(b" ")
        if not length.isdigit() or not len(length) < int(length) <= len(content):
            raise ReadError("is broken: an extended header has an impossible length")
        keyword, _, value = rest[: int(length) - len(length) - 2].partition(b"=")
        records[keyword] = value
        content = content[int(length) :]
    return records
