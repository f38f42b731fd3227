"""Which lines of the readers have run, over all forked processes together.

Only what no earlier file has reached is traced, so that it costs little once most has been seen.
"""

import inspect
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

READERS = (
    "foundation/reading/*.py", "foundation/weights.py", "foundation/images.py", "data/sources/*.py", "data/check.py",
    "formats/*.py", "formats/transformers/*.py", "sampling/metadata.py", "conditions/drawing/class_maps.py",
    "conditions/drawing/people.py", "conditions/labels.py", "checkpoints/bases.py", "checkpoints/networks.py",
    "checkpoints/controlnets.py", "checkpoints/stable_diffusion*.py", "checkpoints/flux.py",
    "checkpoints/qwen_image.py", "controlnet/contract.py", "text/*.py", "studio/requests/*.py", "studio/pictures.py",
    "studio/http/webui.py", "training/checkpoint.py", "training/config.py", "training/legacy.py",
    "training/monitor/metrics_log.py",
)  # fmt: skip
"""Files that read what a user gives, below the package."""

Function = tuple[str, int, str]
"""File, first line and name."""


def functions(file: Path) -> Iterator[tuple[Function, set[int]]]:
    """The functions of a file, with their lines; those of modules and classes ran when they were imported."""
    found = [compile(file.read_text(), str(file), "exec")]
    while found:
        code = found.pop()
        found += [part for part in code.co_consts if isinstance(part, CodeType)]
        lines = {line for *_, line in code.co_lines() if line is not None}
        if code.co_flags & inspect.CO_OPTIMIZED:
            yield _name(code), lines - {code.co_firstlineno} or lines


def _name(code: CodeType) -> Function:
    return code.co_filename, code.co_firstlineno, code.co_name


class Lines:
    """The lines of the readers that have not run yet."""

    def __init__(self, package: Path) -> None:
        self.left: dict[Function, set[int]] = {}
        for file in sorted(file for pattern in READERS for file in package.glob(pattern)):
            for name, lines in functions(file):
                self.left.setdefault(name, set()).update(lines)
        self._files = {file for file, *_ in self.left}
        self.all = {name: len(lines) for name, lines in self.left.items()}
        self.found: list[tuple[Function, int]] = []

    def start(self) -> None:
        """Trace this process from here on, in all its threads; what it reaches is added to `found`."""
        threading.settrace(self._call)
        sys.settrace(self._call)

    def _call(self, frame: FrameType, event: str, _: Any) -> Any:
        is_ours = frame.f_code.co_filename in self._files
        return self._line if is_ours and self.left.get(_name(frame.f_code)) else None

    def _line(self, frame: FrameType, event: str, _: Any) -> Any:
        name, line = _name(frame.f_code), frame.f_lineno
        if event == "line" and line in self.left[name]:
            self.left[name].discard(line)  # another thread may have been faster
            self.found.append((name, line))
        return self._line

    def add(self, found: Iterable[tuple[Function, int]]) -> None:
        """Take over what another process has reached."""
        for name, line in found:
            self.left[tuple(name)].discard(line)

    def counts(self) -> dict[str, list[int]]:
        """For each file, how many lines have run, and of how many; then the numbers of those that have not."""
        found: dict[str, list[int]] = {}
        for name, lines in self.left.items():
            entry = found.setdefault(name[0], [0, 0])
            entry[0] += self.all[name] - len(lines)
            entry[1] += self.all[name]
            entry += lines
        return {file: [run, every, *sorted(set(left))] for file, (run, every, *left) in found.items()}
