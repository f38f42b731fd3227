"""Answers are confirmed once stored, in order, once; and nothing that a rater can see tells a method."""

import json
import re
import sqlite3
import struct
from collections import Counter

import pytest
from PIL import Image
from tests.unit.study.conftest import METHODS, Client, paint

from maquette.errors import MaquetteError
from maquette.study.design import Difference, Ranking
from maquette.study.make import make
from maquette.study.server import StudyServer
from maquette.study.store import Store


@pytest.fixture
def rater(ranking, link) -> Client:
    return link(ranking)


def test_a_confirmed_answer_is_in_the_file(rater, ranking) -> None:
    assert rater.pages()[0]["place"] == 0
    status, said = rater.answer(0, [2, 0, 1])
    assert (status, said["stored"], said["pages"][0]["place"]) == (200, 0, 1)
    with sqlite3.connect(ranking.folder / "study.sqlite") as other:
        assert other.execute("select value from answers").fetchall() == [("[2, 0, 1]",)]
    assert [one.place for one in Store(ranking.folder).answers()] == [0]


def test_commits_wait_for_the_disk(ranking) -> None:
    settings = [ranking._connection.execute(f"pragma {name}").fetchone()[0] for name in ("synchronous", "journal_mode")]
    assert settings == [2, "wal"]  # 2 is full: the log is synchronised at every commit


def test_a_repeated_answer_is_confirmed_and_another_refused(rater, ranking) -> None:
    """As when the confirmation was lost with the connection, and when the link is open in two windows."""
    assert rater.answer(0, [2, 0, 1])[0] == rater.answer(0, [2, 0, 1])[0] == 200
    status, said = rater.answer(0, [0, 1, 2])
    assert status == 409
    assert said["error"].startswith("This question was answered before, perhaps in another window; the first")
    assert [one.value for one in ranking.answers()] == [[2, 0, 1]]


def test_a_finished_link_says_so_and_takes_nothing_more(rater, ranking) -> None:
    while pages := rater.pages():
        assert rater.answer(pages[0]["place"], [0, 1, 2])[0] == 200
    assert rater.pages() == []
    assert ranking.raters()[0].finished
    assert rater.answer(3, [2, 1, 0])[0] == 409
    assert "no such question" in rater.answer(8, [2, 1, 0])[1]["error"]
    assert rater.get(rater.home)[0] == 200


def test_answers_come_in_order(rater) -> None:
    status, said = rater.answer(1, [2, 0, 1])
    assert (status, said["error"]) == (409, "Questions are answered in their order; load the page anew.")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"place": 0}', b'{"place": {}, "value": [0, 1, 2]}', b"[" * 5000, b"\xff\xfe"]
    + [json.dumps({"place": place, "value": [0, 1, 2]}).encode() for place in (-1, True, 0.0, "0", 99)]
    + [json.dumps({"place": 0, "value": value}).encode() for value in ([0, 1], [0, 1, 1], "x", {}, None, [[]], 1e9)],
)
def test_a_broken_answer_is_refused_by_a_sentence(rater, ranking, body) -> None:
    status, said = rater.post(body)
    assert status in (400, 409)
    assert said["error"].endswith((".", "anew."))
    assert ranking.answers() == []


def test_too_long_an_answer_is_refused_unread(rater) -> None:
    status, said = rater.post(b" " * 10_001)
    assert (status, said["error"]) == (400, "An answer has a length of at most 10000 bytes.")


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/rate/", "/rate", "/rate/nobody", "/rate/nobody/pages", "/study.sqlite", "/image/nothing.png"),
        *("/image/../study.sqlite", "/image/..%2fstudy.sqlite", "/../store.py", "/page.html", "//study.css/x"),
    ],
)
def test_no_other_address_is_served(rater, path) -> None:
    status, _, body = rater.get(path)
    assert status == 404
    assert b"Image study" in body and b"link" in body


def test_a_link_that_no_rater_has_takes_no_answer(rater, ranking) -> None:
    status, said = rater.post(b'{"place": 0, "value": [0, 1, 2]}', "/rate/nobody/answer")
    assert (status, said["error"]) == (409, "This link has no such question; load the page anew.")
    assert rater.post(b"{}", "/elsewhere")[0] == 404


def test_a_file_that_cannot_be_written_confirms_nothing(rater, ranking) -> None:
    """A browser that is answered so sends again."""
    ranking._connection.execute("pragma query_only = on")
    status, said = rater.answer(0, [0, 1, 2])
    assert status == 503
    assert said["error"].startswith("The answer could not be stored (")
    ranking._connection.execute("pragma query_only = off")
    assert rater.answer(0, [0, 1, 2])[0] == 200


def test_a_port_in_use_is_told(ranking, served) -> None:
    port = served(ranking).server_address[1]
    with pytest.raises(MaquetteError, match=rf"^Nothing can be served at 127.0.0.1:{port} \(.*; give another --port"):
        StudyServer(ranking, port=port)


SAME = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}


def seen(client: Client) -> list[tuple[str, dict[str, str], bytes]]:
    """Everything that a rater's browser is sent from the link to the end: addresses, headers and bodies."""
    paths = ["/study.css", "/study.js", client.home, f"{client.home}/pages"]
    while pages := client.pages():
        paths += [f"/image/{name}.png" for page in pages for name in [*page["images"], page["condition"]] if name]
        value = {"learn": None, "tell": 1}.get(pages[0]["kind"], list(range(len(pages[0]["images"]))))
        paths.append(json.dumps(client.answer(pages[0]["place"], value)[1]))
    return [(path, *(client.get(path)[1:] if path.startswith("/") else ({}, b""))) for path in dict.fromkeys(paths)]


@pytest.mark.parametrize("design", [Ranking(), Difference(2, 2)])
def test_nothing_that_is_sent_names_a_method_or_a_file(folders, tmp_path, link, design) -> None:
    methods = dict(list(folders.items())[: 3 if isinstance(design, Ranking) else 2])
    store = make(tmp_path / "study", methods, design, conditions=tmp_path / "sketches", raters=2)
    sent = [one for rater in range(2) for one in seen(link(store, rater))]
    words = [*METHODS, "sketches", "scene-", *map(str, folders.values()), tmp_path.name, 'method": ', "truth", "item"]
    for path, headers, body in sent:
        for word in words:
            assert word not in path and word not in str(headers)
            assert word.encode() not in body or path.startswith("/study."), (word, path)  # these are the same for all
    assert all(set(headers) <= {"Server", "Date", "Content-Type", "Content-Length", *SAME} for _, headers, _ in sent)


def test_images_differ_in_their_pixels_alone(ranking, folders, link, tmp_path) -> None:
    """One length, one header, no metadata, no date or tag; the same for all methods and for the condition."""
    client = link(ranking)
    answers = [client.get(f"/image/{address}.png") for address in ranking.addresses.values()]
    assert len({len(body) for *_, body in answers}) == 1
    assert len({json.dumps(headers | {"Date": ""}) for _, headers, _ in answers}) == 1
    for _, headers, body in answers:
        assert {name: headers[name] for name in SAME} == SAME
        kinds, end = chunks(body)
        assert set(kinds) == {b"IHDR", b"IDAT", b"IEND"}
        assert body[8:33] == answers[0][2][8:33]  # width, height, depth, colours, interlacing
        assert body[end:].strip(b"\0") == b""
    for (item, method), address in ranking.addresses.items():
        folder = tmp_path / "sketches" if method is None else folders[ranking.methods[method]]
        with Image.open(folder / f"{ranking.items[item]}.png") as source, Image.open(ranking.image(address)) as shown:
            assert source.convert("RGB").tobytes() == shown.tobytes()


def chunks(png: bytes) -> tuple[list[bytes], int]:
    """The kinds of chunks of a PNG, and where it ends."""
    kinds, place = [], 8
    while not kinds or kinds[-1] != b"IEND":
        length, kind = struct.unpack(">I4s", png[place : place + 8])
        kinds.append(kind)
        place += length + 12
    return kinds, place


def test_addresses_are_random_and_tell_no_order(folders, tmp_path) -> None:
    """By no seed: two studies alike have other names and links, which sort without regard to methods."""
    names = [f"n{number}" for number in range(40)]
    for seed, method in enumerate(METHODS, 1):
        paint(tmp_path / "more" / method, names, seed, (4, 4))
    methods = {method: tmp_path / "more" / method for method in METHODS}
    one, two = (make(tmp_path / name, methods, Ranking(), raters=2, seed=1) for name in ("one", "two"))
    assert all(re.fullmatch("[0-9a-f]{24}", address) for address in one.addresses.values())
    assert not set(one.addresses.values()) & set(two.addresses.values())
    assert not {rater.token for rater in one.raters()} & {rater.token for rater in two.raters()}
    by_name = sorted(one.addresses, key=lambda key: one.addresses[key])
    first = Counter(method for _, method in by_name[:60])
    assert all(5 <= first[method] <= 35 for method in range(3))  # 20 ± 3; a run of one method has 40
    questions = [store._all("select kind, item, shown from questions") for store in (one, two)]
    assert questions[0] == questions[1]
