"""The opened detectors of an annotation: decoded rows in, pairs out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from PIL import Image

from maquette.annotation.annotation import Annotation
from maquette.annotation.decode import Decoded
from maquette.annotation.output import ShardStats
from maquette.annotation.shard_writer import Pair, png
from maquette.conditions.detect import Detector
from maquette.data.sources.jsonl import BadRow
from maquette.errors import MaquetteError


@dataclass(frozen=True)
class AnnotationPipeline:
    annotation: Annotation
    detector: Detector
    captioner: Detector | None

    @staticmethod
    def open(annotation: Annotation, device: str = "auto") -> "AnnotationPipeline":
        """Load the detectors and try them, so that missing weights fail now rather than once per image."""
        detector = Detector(annotation.condition, annotation.weights, device)
        captioner = Detector(annotation.caption, device=device) if annotation.caption else None
        detector(Image.new("RGB", (64, 64)), **annotation.options)
        if captioner:
            captioner(Image.new("RGB", (64, 64)))
        return AnnotationPipeline(annotation, detector, captioner)

    def pairs(self, rows: Iterable[Decoded | BadRow], batch_size: int, stats: ShardStats) -> Iterator[Pair]:
        """Pairs in the order of their rows; `stats` counts them and the rest."""
        rows = iter(rows)
        while batch := list(islice(rows, batch_size)):
            stats.faults += [row for row in batch if isinstance(row, BadRow)]
            decoded = [row for row in batch if isinstance(row, Decoded)]
            large = [row for row in decoded if min(row.size) >= self.annotation.smallest]
            options = [self.annotation.options_of(row.number) for row in large]
            detected = _detect(self.detector, large, options, stats)
            complete = {row: found for row, found in detected if self._is_complete(found)}
            stats.left_out += len(decoded) - len(large) + len(detected) - len(complete)
            for row, text in self._texts(list(complete), stats):
                stats.pairs += 1
                yield Pair(row.number, row.content, row.ending, png(self._map(complete[row])), text)

    def _map(self, found: Any) -> Image.Image:
        record = self.detector.spec.record
        return record.draw(found) if record else found

    def _is_complete(self, found: Any) -> bool:
        completeness = self.detector.spec.completeness
        return self.annotation.found is None or completeness is None or completeness(found) >= self.annotation.found

    def _texts(self, rows: Sequence[Decoded], stats: ShardStats) -> list[tuple[Decoded, str]]:
        if self.captioner is None:
            return [(row, row.text) for row in rows]
        return _detect(self.captioner, rows, [{}] * len(rows), stats)


def _detect(
    detector: Detector, rows: Sequence[Decoded], options: Sequence[dict[str, Any]], stats: ShardStats
) -> list[tuple[Decoded, Any]]:
    """The detector's output for each row, in one batch if their options agree; images it refuses become faults."""
    if not rows:
        return []
    if any(row_options != options[0] for row_options in options):
        pairs = zip(rows, options, strict=True)
        return [found for row, row_options in pairs for found in _detect(detector, [row], [row_options], stats)]
    try:
        outputs = detector.find([row.image for row in rows], **options[0])
    except MaquetteError as error:
        if len(rows) > 1:  # retry one by one to find the image that was refused
            return [found for row in rows for found in _detect(detector, [row], options[:1], stats)]
        stats.faults.append(BadRow(rows[0].where, str(error), rows[0].number))
        return []
    return list(zip(rows, outputs, strict=True))
