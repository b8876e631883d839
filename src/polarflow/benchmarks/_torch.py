"""Gradient descent in PyTorch, as the scripts behind the papers' figures are written.

Two `Linear` layers without bias, automatic differentiation, `torch.optim.SGD` on the whole batch.
"""

from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ._methods import Budget, Outcome

if TYPE_CHECKING:
    from ..flow import Problem

CHUNK = 200
"""Iterations between two looks at the clock while a part is measured."""


def descend(
    problem: "Problem", step: float, times: tuple[float, ...], precision: str, budget: Budget
) -> Outcome:
    """Descend to the times, or for a part of the steps where the whole would take too long."""
    import torch

    dtype = torch.float32 if precision == "single" else torch.float64
    weights = problem.initial.weights()
    m, d = len(weights), problem.data.dimension
    slope = problem.two_layer.slope
    hidden = torch.nn.Linear(d, m, bias=False, dtype=dtype)
    readout = torch.nn.Linear(m, 1, bias=False, dtype=dtype)
    activation = torch.nn.LeakyReLU(slope) if slope else torch.nn.ReLU()
    network = torch.nn.Sequential(hidden, activation, readout)
    x = torch.tensor(np.array(problem.data.x), dtype=dtype)
    y = torch.tensor(np.array(problem.data.y)[:, None], dtype=dtype)
    half = 0.5 * problem.loss.factor(len(y)) * len(y)
    mean_square = torch.nn.MSELoss(reduction="mean")
    optimiser = torch.optim.SGD(network.parameters(), lr=step)

    def restart() -> None:
        with torch.no_grad():
            hidden.weight.copy_(torch.tensor(weights[:, 1:], dtype=dtype))
            readout.weight.copy_(torch.tensor(weights[:, 0], dtype=dtype)[None, :])

    def iterate(steps: int) -> None:
        for _ in range(steps):
            loss = half * mean_square(network(x), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    record = [round(t / step) for t in times]
    total = record[-1]
    restart()
    spent, done = 0.0, 0
    while spent < min(0.5, budget.part) and done < total:
        begin = perf_counter()
        iterate(min(CHUNK, total - done))
        spent, done = spent + perf_counter() - begin, done + min(CHUNK, total - done)
    if spent * total / done > budget.whole:
        while spent < budget.part:
            begin = perf_counter()
            iterate(CHUNK)
            spent, done = spent + perf_counter() - begin, done + CHUNK
        return Outcome(spent * total / done, total, done, None, None)
    restart()
    kept: list[Any] = []
    losses: list[float] = []
    begin = perf_counter()
    for iteration, last in zip(record, [0, *record[:-1]], strict=True):
        iterate(iteration - last)
        a, w = readout.weight.detach()[0, :, None], hidden.weight.detach()
        kept.append(torch.cat([a, w], dim=1).double().numpy().copy())
        losses.append(float(half * mean_square(network(x), y).detach()))
    seconds = perf_counter() - begin
    return Outcome(seconds, total, total, np.array(kept), np.array(losses))
