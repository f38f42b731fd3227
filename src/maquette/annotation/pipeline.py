"""The detectors of an annotation, opened: decoded rows in, pairs out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from PIL import Image

from maquette.annotation.annotation import Annotation
from maquette.annotation.decode import Decoded
from maquette.annotation.output import Done
from maquette.annotation.shard_writer import Pair, png
from maquette.conditions.detect import Detector
from maquette.data.sources.jsonl import BadRow
from maquette.errors import MaquetteError


@dataclass(frozen=True)
class AnnotationPipeline:
    asked: Annotation
    detector: Detector
    captioner: Detector | None

    @staticmethod
    def open(asked: Annotation, device: str = "auto") -> "AnnotationPipeline":
        """Load what is needed, and try it: what is lacking is told of now, not as a fault of every image."""
        detector = Detector(asked.condition, asked.weights, device)
        captioner = Detector(asked.caption, device=device) if asked.caption else None
        detector(Image.new("RGB", (64, 64)), **asked.options)
        if captioner:
            captioner(Image.new("RGB", (64, 64)))
        return AnnotationPipeline(asked, detector, captioner)

    def pairs(self, rows: Iterable[Decoded | BadRow], batch_size: int, done: Done) -> Iterator[Pair]:
        """Pairs in the order of their rows; what becomes of the others is counted in `done`."""
        rows = iter(rows)
        while batch := list(islice(rows, batch_size)):
            done.faults += [one for one in batch if isinstance(one, BadRow)]
            decoded = [one for one in batch if isinstance(one, Decoded)]
            large = [one for one in decoded if min(one.image.size) >= self.asked.smallest]
            seen = _see(self.detector, large, [self.asked.options_of(one.number) for one in large], done)
            enough = {one: found for one, found in seen if self._is_enough(found)}
            done.left_out += len(decoded) - len(large) + len(seen) - len(enough)
            for one, text in self._texts(list(enough), done):
                done.pairs += 1
                yield Pair(one.number, one.content, one.ending, png(self._map(enough[one])), text)

    def _map(self, found: Any) -> Image.Image:
        record = self.detector.spec.record
        return record.draw(found) if record else found

    def _is_enough(self, found: Any) -> bool:
        completeness = self.detector.spec.completeness
        return self.asked.found is None or completeness is None or completeness(found) >= self.asked.found

    def _texts(self, rows: Sequence[Decoded], done: Done) -> list[tuple[Decoded, str]]:
        if self.captioner is None:
            return [(one, one.text) for one in rows]
        return _see(self.captioner, rows, [{}] * len(rows), done)


def _see(
    detector: Detector, rows: Sequence[Decoded], options: Sequence[dict[str, Any]], done: Done
) -> list[tuple[Decoded, Any]]:
    """What is found in each image, in all at once where their options are the same; those refused are faults."""
    if not rows:
        return []
    if any(one != options[0] for one in options):
        return [found for row, own in zip(rows, options, strict=True) for found in _see(detector, [row], [own], done)]
    try:
        found = detector.find([one.image for one in rows], **options[0])
    except MaquetteError as error:
        if len(rows) > 1:  # which of them it was
            return [found for row in rows for found in _see(detector, [row], options[:1], done)]
        done.faults.append(BadRow(rows[0].where, str(error), rows[0].number))
        return []
    return list(zip(rows, found, strict=True))
