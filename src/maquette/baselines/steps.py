"""The loop of trainings that are not of ControlNets: it resumes, keeps its state and reports."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from maquette.training import checkpoint


class Settings(Protocol):
    @property
    def run(self) -> Path: ...

    @property
    def seed(self) -> int: ...

    @property
    def device(self) -> str: ...


def steps(
    name: str,
    settings: Settings,
    last: int,
    rate: Callable[[int], float],
    parts: checkpoint.Parts,
    report: Callable[[], str],
    every: int = 500,
) -> Iterator[tuple[int, torch.Generator]]:
    """The steps that are left, up to `last`, each with the source of all its chance; the learning rate is set.

    Every so many steps, and after the last one, the state of `parts` goes to NAME.pt in the run's folder, from where
    the next start goes on, and `report` says how far it has come. The optimizer is the part of that name.
    """
    state, optimizer = settings.run / f"{name}.pt", parts["optimizer"]
    assert isinstance(optimizer, torch.optim.Optimizer)
    start = checkpoint.restore(state, parts)
    bar = tqdm(range(start, last), initial=start, total=last, desc=name, mininterval=10)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        yield step, generator(settings.seed, step, settings.device)
        if (step + 1) % every == 0 or step + 1 == last:
            checkpoint.save(state, step + 1, parts)
            bar.write(f"step {step + 1}: {report()}")


def descend(optimizer: torch.optim.Optimizer, loss: Tensor, clip: float = float("inf")) -> None:
    """One optimizer step down the gradient of a loss (scalar), its norm clipped to `clip`."""
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_([weight for group in optimizer.param_groups for weight in group["params"]], clip)
    optimizer.step()


def taken(losses: list[Tensor]) -> str:
    """The mean of the scalar losses since the last report, as text; the list is emptied."""
    mean = torch.stack(losses).mean().item()
    losses.clear()
    return f"loss {mean:.4f}"


def generator(seed: int, step: int, device: str) -> torch.Generator:
    """The random generator of one step; it makes a resumed training equal to an uninterrupted one."""
    return torch.Generator(device).manual_seed(seed * 1_000_003 + step)
