"""The commands, and how errors and warnings are printed."""

import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, cast

import typer

from maquette.cli import ablate, data, demo, detect, evaluate, generate, study, train, ui
from maquette.cli.checkpoints import convert, info, transfer
from maquette.cli.command import Command
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.memory import ran_out

VERBS = {
    "generate": generate,
    "detect": detect,
    "train": train,
    "evaluate": evaluate,
    "ablate": ablate,
    "info": info,
    "convert": convert,
    "transfer": transfer,
    "demo": demo,
    "ui": ui,
}

UNUSED = ("peft", "scipy", "sklearn")
"""What diffusers and transformers import wherever it is installed, for a second or more; no command uses it."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Spatial control for text-to-image diffusion: use, train and measure ControlNets.",
    epilog=f"Example: {generate.EXAMPLE}",
)
for name, module in VERBS.items():
    app.command(name, cls=Command, epilog=f"Example: {module.EXAMPLE}")(module.run)
app.add_typer(data.app, name="data")
app.add_typer(study.app, name="study")


def main() -> None:
    """Run a command. Bad input prints one message and exits with code 2."""
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", MaquetteWarning)
    warnings.showwarning = _noted()
    if not sys.stderr.isatty():  # a log keeps every state of a progress bar
        os.environ.setdefault("TQDM_MININTERVAL", "10")
    if not {"diffusers", "transformers"} & sys.modules.keys():  # else they know already what is there
        cast(dict[str, Any], sys.modules).update(dict.fromkeys(UNUSED))  # how Python marks what is not there
    try:
        app()
    except MaquetteError as error:
        print(f"maquette: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"maquette: A file could not be read or written: {error}.", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if not ran_out(error):
            raise
        print(
            "maquette: There is not enough memory for this; use a smaller size or batch, a lower precision "
            "(--dtype bfloat16), or --low-memory.",
            file=sys.stderr,
        )
        sys.exit(2)


def _noted() -> Callable[..., None]:
    """Prints a warning, the first time that a command gives it."""
    said: set[str] = set()

    def note(message: Warning | str, *_: object, **__: object) -> None:
        if str(message) not in said:
            print(f"Note: {message}", file=sys.stderr)
        said.add(str(message))

    return note
