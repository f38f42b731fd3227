"""maquette study"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maquette.cli.command import Command

if TYPE_CHECKING:
    from maquette.study.design import Design

EXAMPLE = "maquette study make images/ours images/lite --conditions images/sketches -o study"
EXAMPLE_OF_SERVE = "maquette study serve study --host 0.0.0.0"
EXAMPLE_OF_REPORT = "maquette study report study"

Folder = Annotated[Path, typer.Argument(help="The study's folder, made by maquette study make.")]

app = typer.Typer(no_args_is_help=True)


@app.callback(epilog=f"Example: {EXAMPLE}")
def run() -> None:
    """Ask people: rank methods by quality and fidelity, or test whether two can be told apart."""


@app.command(cls=Command, epilog=f"Example: {EXAMPLE}")
def make(
    methods: Annotated[
        list[str],
        typer.Argument(metavar="METHOD...", help="Folders of images, or NAME=FOLDER; only reports name them."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the study; must not exist.")],
    conditions: Annotated[
        Path | None, typer.Option(help="Folder of what the images were made from; without it, only quality is ranked.")
    ] = None,
    design: Annotated[
        str, typer.Option(help="ranking: order all methods' images. difference: learn two methods, then tell them.")
    ] = "ranking",
    items: Annotated[int | None, typer.Option(help="Items of a ranking, drawn by seed; default: all.")] = None,
    pairs: Annotated[int | None, typer.Option(help="Labelled pairs of a difference; default: 100.")] = None,
    questions: Annotated[int | None, typer.Option(help="Questions of a difference; default: 200.")] = None,
    raters: Annotated[str, typer.Option(help="Number of raters, or their names: anna,ben.")] = "12",
    by: Annotated[str, typer.Option(help="Match images by file name, or by the last number in it: name, number.")] = (
        "name"
    ),
    size: Annotated[str | None, typer.Option(help="Scale and crop all images to WIDTHxHEIGHT pixels.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every order; default: drawn, and kept.")] = None,
) -> None:
    """Make a study of the images of several methods, blind, with a link and an order of its own for each rater."""
    from maquette.foundation.settings import read_size
    from maquette.study.make import make as make_study

    with make_study(
        output,
        _methods(methods),
        _design(design, items, pairs, questions),
        conditions=conditions,
        raters=int(raters) if raters.isdecimal() else [name.strip() for name in raters.split(",")],
        by=by,  # type: ignore[arg-type]  # checked there
        size=read_size(size) if size else None,
        seed=seed,
    ) as store:
        links = store.raters()
    print(
        f"{output}: {len(links)} raters, {links[0].asked} pages each; maquette study serve {output} shows their links."
    )


def _methods(typed: list[str]) -> dict[str, Path]:
    """Folders by the names of their methods. Raises `MaquetteError` for a name given twice."""
    from maquette.errors import MaquetteError

    found: dict[str, Path] = {}
    for one in typed:
        name, equals, path = one.partition("=")
        folder = Path(path if equals and not Path(one).exists() else one)
        name = name if folder != Path(one) else folder.resolve().name
        if name in found:
            raise MaquetteError(f"Two methods are called {name!r}; name one of them otherwise: NAME={folder}.")
        found[name] = folder
    return found


def _design(name: str, items: int | None, pairs: int | None, questions: int | None) -> "Design":
    """The design with the numbers that belong to it; warns of others. Raises `MaquetteError` for an unknown one."""
    import warnings

    from maquette.errors import MaquetteError, MaquetteWarning
    from maquette.foundation.registry import unknown
    from maquette.study.design import Difference, Ranking

    if name not in (Ranking.name, Difference.name):
        raise MaquetteError(unknown("design", name, [Ranking.name, Difference.name]))
    ranking = name == Ranking.name
    foreign = {"--pairs": pairs, "--questions": questions} if ranking else {"--items": items}
    without_effect = [flag for flag, value in foreign.items() if value is not None]
    if without_effect:
        warnings.warn(f"{', '.join(without_effect)} has no effect on a {name}.", MaquetteWarning, stacklevel=2)
    if ranking:
        return Ranking(items)
    return Difference(
        Difference.pairs if pairs is None else pairs, Difference.questions if questions is None else questions
    )


@app.command(cls=Command, epilog=f"Example: {EXAMPLE_OF_SERVE}")
def serve(
    study: Folder,
    host: Annotated[
        str, typer.Option(help="Address to serve at; 0.0.0.0 lets phones and others in your network in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to serve at.")] = 8000,
    address: Annotated[
        str | None, typer.Option(help="What links begin with, if a proxy stands in front: https://study.example.org.")
    ] = None,
) -> None:
    """Serve a study's pages, and print each rater's link. It may be stopped at any time: confirmed answers stay."""
    from maquette.study.server import StudyServer
    from maquette.study.store import Store

    with Store(study) as store, StudyServer(store, host, port) as server:
        home = (address or server.address).rstrip("/")
        for rater in store.raters():
            print(f"{rater.name:12} {home}/rate/{rater.token}   {rater.answered} of {rater.asked} answered")
        print("Send each rater their link. Ctrl-C stops the server; answers are stored.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\nStopped. Every confirmed answer is stored.")


@app.command(cls=Command, epilog=f"Example: {EXAMPLE_OF_REPORT}")
def report(
    study: Folder,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Count the answers of raters who have not finished, too.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder for report.md, report.json, answers.csv; default: STUDY."),
    ] = None,
) -> None:
    """Report average ranks and agreement, or precision, of a study that may still be running."""
    from maquette.study.report import Report
    from maquette.study.store import Store

    with Store(study) as store:
        found = Report.of(store, unfinished)
    print(found.markdown())
    print("\n" + ", ".join(map(str, found.save(output or study))))
