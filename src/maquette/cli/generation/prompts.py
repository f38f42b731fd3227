"""The prompts of a command: one, a file of them, or one of the paper's kinds of prompt."""

from collections.abc import Sequence
from pathlib import Path

from maquette.cli.generation.options import PromptOptions, flags
from maquette.errors import MaquetteError
from maquette.foundation.reading.files import read_text
from maquette.sampling.prompts import DEFAULT_PROMPT


def read_prompts(options: PromptOptions, typed: Sequence[str]) -> list[str]:
    """The prompts to generate with; an empty one where a caption takes its place.

    Raises `MaquetteError` for two sources of prompts, and for a file that holds none.
    """
    given = [name for name in ("prompt", "prompts") if name in typed]
    if options.prompt_mode != "user":
        if given:
            raise MaquetteError(f"--prompt-mode {options.prompt_mode} makes the prompt; leave {flags(given)} out.")
        return [DEFAULT_PROMPT if options.prompt_mode == "default" else ""]
    if len(given) > 1:
        raise MaquetteError("--prompts lists every prompt; leave --prompt out.")
    return [options.prompt] if options.prompts is None else _lines(options.prompts)


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in read_text(path).splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise MaquetteError(f"The prompts in {str(path)!r} cannot be read ({error}); give a text file.") from error
    prompts = [line for line in lines if line]
    if not prompts:
        raise MaquetteError(f"{str(path)!r} holds no prompt; write one a line.")
    return prompts
