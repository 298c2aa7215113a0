"""A made-up truth to judge predictions by: devices that fall short of arithmetic as real ones do, and noisy runs.

Nothing of it has the form that the prediction assumes. Efficiency saturates with the size of the model and of its
sequences; devices are bound by bandwidth while generating; every run pays for its first unit; noise is log-normal,
wider on some devices, with a tail of runs on a disturbed machine that took 10 to 100 % longer.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.performance.interface import FinishedRun, Key, Work

DEVICES = {
    "NVIDIA H100 80GB HBM3": (6.2e14, 2.6e12, 4e8, 0.03),
    "NVIDIA A100-SXM4-80GB": (2.1e14, 1.5e12, 2e8, 0.04),
    "NVIDIA L4": (7.0e13, 2.4e11, 5e7, 0.05),
}
"""FLOP/s at best, bytes/s, parameters at which half of the best is reached, spread of a run."""
DISTURBED = 0.03
UNIT_FLOPS = 1.5e13
"""Units cut for a GPU (`unitSeconds` raised): a quarter of a second on an L4."""
UNIT_SECONDS, FIRST_UNIT_SECONDS = 0.012, 1.5


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the synthetic world."""

    name: str
    parameters: float
    quirk: float


@dataclass(frozen=True, slots=True)
class Task:
    """A task of the synthetic world; `generated` is the share of its tokens that are generated."""

    name: str
    tokens: float
    length: float
    generated: float
    quirk: float


@dataclass(frozen=True, slots=True)
class World:
    """Models and tasks, and the keys that are run, most often the first."""

    models: tuple[Model, ...]
    tasks: tuple[Task, ...]


def make_world(seed: int, models: int = 8, tasks: int = 8) -> World:
    """Models of 0.1 to 30 billion parameters and tasks of 0.2 to 20 million tokens."""
    draw = np.random.default_rng(seed)
    return World(
        tuple(
            Model(f"model-{i}", float(10 ** draw.uniform(8, 10.5)), float(draw.normal(0, 0.07))) for i in range(models)
        ),
        tuple(
            Task(
                f"task-{i}",
                float(10 ** draw.uniform(5.3, 7.3)),
                float(10 ** draw.uniform(1.2, 3)),
                float(draw.choice([0.0, 0.0, 0.0, 0.02])),
                float(draw.normal(0, 0.07)),
            )
            for i in range(tasks)
        ),
    )


def runs(world: World, seed: int, count: int) -> Iterator[FinishedRun]:
    """Finished runs in the order of time; some combinations are run often, many once, some never."""
    draw = np.random.default_rng(seed)
    combinations = [(m, t, g) for m in world.models for t in world.tasks for g in DEVICES]
    popularity = 1.0 / (1.0 + draw.permutation(len(combinations)))
    chosen = draw.choice(len(combinations), size=count, p=popularity / popularity.sum())
    for number, index in enumerate(chosen):
        yield _run(draw, number, combinations[index])


def _run(draw: np.random.Generator, number: int, combination: tuple[Model, Task, str]) -> FinishedRun:
    model, task, gpu = combination
    best, bandwidth, half, spread = DEVICES[gpu]
    tokens = task.tokens * draw.choice([0.1, 0.3, 1.0])  # the limit differs between runs
    flops, read = 2 * model.parameters * tokens, 4 * model.parameters * tokens * task.generated / 8
    filling = model.parameters / (model.parameters + half) * task.length / (task.length + 8)
    noise = draw.normal(0, spread) + (np.log1p(draw.uniform(0.1, 1.0)) if draw.random() < DISTURBED else 0.0)
    units = max(1, round(flops / UNIT_FLOPS))
    ideal = max(flops / (best * filling), read / 2 / bandwidth) + UNIT_SECONDS * units + FIRST_UNIT_SECONDS
    seconds = ideal * np.exp(model.quirk + task.quirk + noise)
    weights = 4 * model.parameters
    memory = (2 * model.parameters + 1e9 + 3e5 * task.length**1.1) * np.exp(draw.normal(0, 0.01))
    startup = (11 + 2 * model.parameters / 1.7e9) * np.exp(draw.normal(0, 0.1))
    work = Work(flops, weights + 4e8, read, units=units)
    key = Key(model.name, task.name, gpu, "v1")
    return FinishedRun(f"run-{number:05d}", key, work, 60.0 * number, float(seconds), float(memory), float(startup))
