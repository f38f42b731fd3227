"""Learning rates as a share of the peak."""

import math


def constant(step: int, steps: int, warmup: int) -> float:
    """Up to 1 over `warmup` steps, then 1."""
    return min(1.0, (step + 1) / max(warmup, 1))


def cosine(step: int, steps: int, warmup: int, hold: float = 0.0) -> float:
    """Up to 1 over `warmup` steps, there until the share `hold` of all steps, then down to 0 along a cosine."""
    done = max(step / max(steps, 1) - hold, 0) / (1 - hold)
    return constant(step, steps, warmup) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
