"""Learning rate schedules, as a fraction of the peak."""

import math


def constant(step: int, steps: int, warmup: int) -> float:
    """Linear warmup to 1 over `warmup` steps, then 1."""
    return min(1.0, (step + 1) / max(warmup, 1))


def cosine(step: int, steps: int, warmup: int, hold: float = 0.0) -> float:
    """Linear warmup to 1, constant until the fraction `hold` of all steps, then cosine decay to 0."""
    progress = max(step / max(steps, 1) - hold, 0) / (1 - hold)
    return constant(step, steps, warmup) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
