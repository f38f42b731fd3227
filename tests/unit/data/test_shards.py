"""Tar shards: which members form a row, in every tar format, and the faults of those that do not."""

import gzip
import json
import os
import pickle
import re
import tarfile

import pytest
from tests.unit.data.conftest import as_tar, encoded, image, kept, tar

from maquette.data.sources.jsonl import Columns, RowError, read
from maquette.data.sources.shards import Shards
from maquette.data.sources.tar import members
from maquette.errors import MaquetteError

PNG = encoded(image())
JPEG = encoded(image(), "JPEG")
LONG = "folder/" * 30


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_lie_where_tarfile_finds_them(kind, tmp_path) -> None:
    names = ["a.txt", f"{'folder/' * 16}b.txt", "ж.txt"]
    if kind != tarfile.USTAR_FORMAT:
        names.append(f"{LONG}{'n' * 120}.txt")
    path = tar(tmp_path / "0.tar", [(name, name.encode() * number) for number, name in enumerate(names)], kind)
    with tarfile.open(path, "a", format=kind) as file:
        folder = tarfile.TarInfo("more")
        folder.type = tarfile.DIRTYPE
        file.addfile(folder)
        link = tarfile.TarInfo("link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, LONG
        if kind != tarfile.USTAR_FORMAT:
            file.addfile(link)
    with tarfile.open(path) as file:
        expected = [(member.name.encode(), member.offset_data, member.size) for member in file if member.isreg()]
    assert list(members(path)) == expected
    assert len(expected) == len(names)


def test_sizes_beyond_what_octal_digits_hold(tmp_path) -> None:
    path = tmp_path / "0.tar"
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        info = tarfile.TarInfo("large.bin")
        info.size = 9 * 2**30
        with path.open("wb") as file:
            file.write(info.tobuf(kind))
            file.seek(info.size, os.SEEK_CUR)  # a sparse file
            file.write(bytes(2 * tarfile.BLOCKSIZE))
        ((_, _, size),) = members(path)
        assert size == info.size


def test_which_members_make_a_row(tmp_path) -> None:
    """The first ending of a part that exists, in any folder, order and case; other members are skipped."""
    path = tar(
        tmp_path / "0.tar",
        [
            ("set.v2/a.condition.png", PNG),
            ("set.v2/a.txt", b"first"),
            ("set.v2/b.JPG", JPEG),
            ("set.v2/a.png", PNG),
            ("set.v2/a.jpg", JPEG),
            ("set.v2/._a.jpg", b"what another system leaves"),
            ("set.v2/README", b""),
            ("set.v2/b.json", json.dumps({"text": "second"}).encode()),
            ("set.v2/b.Condition.JPG", JPEG),
        ],
    )
    source = Shards([path])
    assert [row.where for row in source] == [f"{path}:set.v2/a", f"{path}:set.v2/b"]
    assert [row.text for row in source] == ["first", "second"]
    assert [row.image.name for row in source] == [f"{path}:set.v2/a.jpg", f"{path}:set.v2/b.jpg"]
    assert source[0].condition.read() == PNG
    assert not source.faults


def test_endings_of_ones_own(tmp_path) -> None:
    """What is called the condition is no image, though images may be called so."""
    path = tar(
        tmp_path / "0.tar", [("a.jpg", JPEG), ("a.png", PNG), ("a.cap", b"words"), ("b.png", PNG), ("b.cap", b"")]
    )
    with pytest.raises(
        MaquetteError, match=r"has no key with all of .*\.condition\.png.*\(it has: \.cap, \.jpg, \.png\)"
    ):
        Shards([path])
    source = Shards([path], Columns(condition="png", text="cap"))
    assert (source[0].image.read(), source[0].condition.read(), source[0].text) == (JPEG, PNG, "words")
    assert [(fault.where, fault.reason) for fault in source.faults] == [
        (f"{path}:b", "has no .jpg or .jpeg or .png or .webp")
    ]


def test_every_fault_is_reported_with_its_shard_and_key(tmp_path) -> None:
    sound = as_tar([kept(seed) for seed in range(3)], tmp_path / "sound.tar")
    content = sound.read_bytes()
    with tarfile.open(sound) as file:
        header = file.getmembers()[5].offset
    broken = {
        "cut.tar": (content[: header - 612], r"is cut off: \d+ bytes of a member are missing"),
        "header.tar": (content[: header + 100], "is cut off: it ends within a header"),
        "packed.tar": (gzip.compress(content), r"is compressed \(gzip\).*unpack it first"),
        "words.tar": (b"words" * 1000, "is not a tar"),
        "empty.tar": (b"", "is empty"),
    }
    for name, (bytes_, _) in broken.items():
        (tmp_path / name).write_bytes(bytes_)
    lacking = tar(tmp_path / "lacking.tar", [("a.png", PNG), ("a.condition.png", PNG), ("a.txt", b"a"), ("b.png", PNG)])
    rows = [(f"{key}.{ending}", PNG) for key in "aba" for ending in ("png", "condition.png", "txt")]
    twice = tar(tmp_path / "twice.tar", rows)
    source = Shards([sound, lacking, twice, *(tmp_path / name for name in broken), tmp_path / "no.tar"])
    found = {fault.where: fault.reason for fault in source.faults}
    assert "has no .txt or .json" in found[f"{lacking}:b"]
    assert "has two members of the same name" in found[f"{twice}:a"]
    assert "cannot be read (No such file" in found[str(tmp_path / "no.tar")]
    assert all(re.search(reason, found[str(tmp_path / name)]) for name, (_, reason) in broken.items())
    assert source.blocks == [3, 1, 1, 1, 1, 0, 0, 0, 0]
    assert sum(source.blocks) == len(source)
    with pytest.raises(
        MaquetteError, match=r"no row that can be read\. The first: .*packed.tar' is compressed \(gzip\)"
    ):
        Shards([tmp_path / "packed.tar"])


def test_a_broken_header_is_reported(tmp_path) -> None:
    path = as_tar([kept(seed) for seed in range(3)], tmp_path / "0.tar")
    with tarfile.open(path) as file:
        place = file.getmembers()[4].offset
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"x" * 200)
    source = Shards([path])
    assert len(source) == 1
    assert source.faults[0].reason == f"is broken: there is no header at byte {place:,}"


def header(size: bytes, kind: bytes = b"0") -> bytes:
    """A member's header that states a size as given, with a valid checksum."""
    info = tarfile.TarInfo("a.txt")
    info.type = kind
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = size.ljust(12, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


PAX = b"x"
HUGE = 5 * 2**20


@pytest.mark.parametrize(
    ("content", "words"),
    {
        "negative size": (header(b"-1000"), "no header at byte 0|not a tar"),
        "size with a sign": (header(b"+10"), "not a tar"),
        "negative long name": (header(b"-1000", b"L"), "not a tar"),
        "negative in GNU's binary form": (header(b"\xff" * 12), "cut off"),
        "long name": (header(b"%o" % HUGE, b"L") + bytes(HUGE), "extended header of 5,242,880 bytes"),
        "size that is no number": (header(b"%o" % 9, PAX) + b"9 size=x\n".ljust(512, b"\0"), "states the size b'x'"),
        "negative size in pax": (header(b"%o" % 10, PAX) + b"10 size=-1\n".ljust(512, b"\0"), "impossible|states"),
        "endless size": (header(b"%o" % 108, PAX) + (b"108 size=" + b"9" * 98 + b"\n").ljust(512, b"\0"), "states"),
        "many records": (header(b"%o" % 2**20, PAX) + b"8 a=bcd\n" * 2**17, "without the mark of an end"),
        "no end": (header(b"0"), "without the mark of an end"),
        "preallocated": (header(b"0") + bytes(HUGE), "and goes on"),
        "hole": (header(b"0") + bytes(512) + header(b"0") + bytes(1024), "and goes on"),
    }.values(),
)
def test_no_number_in_a_header_is_trusted(content: bytes, words: str, tmp_path) -> None:
    path = tmp_path / "0.tar"
    path.write_bytes(content)
    with pytest.raises(tarfile.ReadError, match=words):
        list(members(path))


def test_a_pipe_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "0.tar")
    with pytest.raises(MaquetteError, match="not a regular file"):
        Shards([tmp_path / "0.tar"])


def test_unreadable_texts(tmp_path) -> None:
    texts = [b'{"caption": "a"}', b"[1]", b'{"text": 1}', b"{", b"\xff", rb'{"text": "\ud83d"}', b"[" * 10**5]
    rows = [
        (f"{n}.{ending}", content) for n, text in enumerate(texts) for ending, content in (("png", PNG), ("json", text))
    ]
    source = Shards([tar(tmp_path / "0.tar", rows)], Columns(has_conditions=False))
    for number in range(len(texts)):
        with pytest.raises(RowError, match=rf"0\.tar:{number}\.json: is not "):
            source[number]


def test_a_shard_that_is_cut_after_it_was_opened(tmp_path) -> None:
    path = as_tar([kept(0), kept(1)], tmp_path / "0.tar")
    source = Shards([path])
    row = source[1]
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(RowError, match="the shard is shorter than when it was opened"):
        read(row)


def test_a_million_pairs_fit_into_memory(tmp_path) -> None:
    """A source keeps tens of bytes per member."""
    rows = [(f"{n:09}.{ending}", b"") for n in range(2000) for ending in ("jpg", "condition.png", "txt")]
    paths = [tar(tmp_path / f"{number}.tar", rows) for number in range(2)]
    assert len(pickle.dumps(Shards(paths))) < 25 * 2 * len(rows)
