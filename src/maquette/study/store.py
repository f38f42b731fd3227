"""A study's file: what is asked of whom, and every answer, in SQLite.

An answer is one transaction, on disk before `answer` returns: the log is written ahead and synchronised at each commit
(`synchronous = full`), so that neither a killed process nor a power failure takes back what was confirmed.
"""

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from maquette.errors import MaquetteError
from maquette.study.design import Question, check_answer

FILE, IMAGES = "study.sqlite", "images"
VERSION = 1
SCHEMA = """
create table study (name text primary key, value text not null);
create table methods (id integer primary key, name text not null unique);
create table items (id integer primary key, name text not null unique);
create table images (
    address text primary key, item integer not null references items, method integer references methods,
    source text not null
);  -- without a method: the condition
create table raters (id integer primary key, name text not null unique, token text not null unique);
create table questions (
    id integer primary key, rater integer not null references raters, place integer not null, kind text not null,
    item integer not null references items, shown text not null, truth integer, unique (rater, place)
);
create table answers (
    question integer primary key references questions, value text not null, given text not null
);
"""


@dataclass(frozen=True)
class StoredImage:
    """An image as it is served, under a random address."""

    address: str
    item: int
    method: int | None  # None: the condition
    source: str


@dataclass(frozen=True)
class Rater:
    """Who holds a link, and how far they are."""

    name: str
    token: str
    answered: int = 0
    asked: int = 0

    @property
    def finished(self) -> bool:
        return self.answered == self.asked


@dataclass(frozen=True)
class Answer:
    """A confirmed answer, to one question of a rater."""

    rater: str
    place: int
    question: Question
    value: Any
    given: str  # UTC, ISO 8601


def create(
    folder: Path,
    facts: dict[str, Any],
    methods: Sequence[str],
    items: Sequence[str],
    images: Sequence[StoredImage],
    raters: dict[Rater, list[Question]],
) -> None:
    """Write the file of a new study into a folder that has none."""
    rows = [
        (rater, place, one.kind, one.item, json.dumps(one.shown), one.truth)
        for rater, questions in enumerate(raters.values())
        for place, one in enumerate(questions)
    ]
    connection = _connected(folder / FILE)
    connection.executescript(SCHEMA)
    with _transaction(connection):
        put = connection.executemany
        put("insert into study values (?, ?)", [(name, json.dumps(value)) for name, value in facts.items()])
        put("insert into methods values (?, ?)", list(enumerate(methods)))
        put("insert into items values (?, ?)", list(enumerate(items)))
        put("insert into images values (?, ?, ?, ?)", [(i.address, i.item, i.method, i.source) for i in images])
        put("insert into raters values (?, ?, ?)", [(n, rater.name, rater.token) for n, rater in enumerate(raters)])
        put("insert into questions values (null, ?, ?, ?, ?, ?, ?)", rows)
        connection.execute(f"pragma user_version = {VERSION}")
    connection.close()


class Store:
    """An existing study; safe to use from several threads, and in several processes."""

    def __init__(self, folder: Path) -> None:
        """Raises `MaquetteError` for a folder that holds no study that can be read."""
        path = folder / FILE
        if not path.is_file():
            raise MaquetteError(f"{str(folder)!r} holds no study ({FILE}); `maquette study make` makes one.")
        self.folder = folder
        self._lock = threading.Lock()
        try:
            self._connection = _connected(path)
            version = self._connection.execute("pragma user_version").fetchone()[0]
            if version != VERSION:
                raise MaquetteError(
                    f"{str(path)!r} is a study of version {version}, and {VERSION} is read here; use the maquette that "
                    "made it."
                )
            self.facts = {name: json.loads(value) for name, value in self._all("select * from study")}
            self.methods = [name for (name,) in self._all("select name from methods order by id")]
            self.items = [name for (name,) in self._all("select name from items order by id")]
            places = self._all("select item, method, address from images")
        except sqlite3.DatabaseError as error:
            raise MaquetteError(f"{str(path)!r} cannot be read as a study ({error}); restore a copy of it.") from error
        self.addresses: dict[tuple[int, int | None], str] = {(item, method): name for item, method, name in places}

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _all(self, query: str, *values: object) -> list[Any]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def image(self, address: str) -> Path | None:
        """The file of an address; None for one that no image has."""
        return self.folder / IMAGES / f"{address}.png" if address in self.addresses.values() else None

    def raters(self) -> list[Rater]:
        """All raters, in the order of their links."""
        rows = self._all(
            "select raters.name, token, count(answers.question), count(*) from raters "
            "join questions on rater = raters.id left join answers on question = questions.id "
            "group by raters.id order by raters.id"
        )
        return [Rater(*row) for row in rows]

    def pages(self, token: str) -> list[dict[str, Any]]:
        """The rater's first question without an answer, and the one after it, as they may be seen; [] at the end.

        Raises `MaquetteError` for a link that no rater has.
        """
        rows = self._all(
            "select place, kind, item, shown, value is null from questions join raters on rater = raters.id "
            "left join answers on question = questions.id where token = ? order by place",
            token,
        )
        if not rows:
            raise MaquetteError("No rater of this study has this link; ask for yours again, and copy it whole.")
        kinds = [kind for _, kind, *_ in rows]
        return [
            {
                "place": place,
                "kind": kind,
                "number": kinds[:place].count(kind) + 1,
                "count": kinds.count(kind),
                "done": place / len(rows),
                "images": [self.addresses[item, method] for method in json.loads(shown)],
                "condition": None if kind == "quality" else self.addresses.get((item, None)),
            }
            for place, kind, item, shown, is_open in rows
            if is_open
        ][:2]

    def answer(self, token: str, place: object, value: Any) -> None:
        """Store an answer; it is on disk when this returns. The same answer once more changes nothing.

        Raises `MaquetteError` for one that does not fit its question, or that comes before its turn or after another.
        """
        with self._lock, _transaction(self._connection):
            rows = self._connection.execute(
                "select questions.id, place, kind, item, shown, value from questions join raters on rater = raters.id "
                "left join answers on question = questions.id where token = ? order by place",
                (token,),
            ).fetchall()
            found = next((row for row in rows if type(place) is int and row[1] == place), None)
            if found is None:
                raise MaquetteError("This link has no such question; load the page anew.")
            key, _, kind, item, shown, stored = found
            check_answer(Question(kind, item, tuple(json.loads(shown))), value)
            if stored is not None and json.loads(stored) != value:
                raise MaquetteError(
                    "This question was answered before, perhaps in another window; the first answer counts."
                )
            if any(before[5] is None for before in rows[: found[1]]):
                raise MaquetteError("Questions are answered in their order; load the page anew.")
            if stored is None:
                given = datetime.now(UTC).isoformat(timespec="milliseconds")
                self._connection.execute("insert into answers values (?, ?, ?)", (key, json.dumps(value), given))

    def answers(self) -> list[Answer]:
        """All answers, by rater and place."""
        rows = self._all(
            "select raters.name, place, kind, item, shown, truth, value, given from answers "
            "join questions on question = questions.id join raters on rater = raters.id order by rater, place"
        )
        return [
            Answer(name, place, Question(kind, item, tuple(json.loads(shown)), truth), json.loads(value), given)
            for name, place, kind, item, shown, truth, value, given in rows
        ]


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    for setting in ("journal_mode = wal", "synchronous = full", "fullfsync = on", "foreign_keys = on"):
        connection.execute(f"pragma {setting}")
    return connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block, or nothing of it; held against other processes from its beginning."""
    connection.execute("begin immediate")
    try:
        yield
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:  # a full disk ends it by itself
            connection.execute("rollback")
        raise
