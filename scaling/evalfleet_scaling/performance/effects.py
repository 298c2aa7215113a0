"""What keys have in common: a level is the sum of effects, and keys share the effects whose names they share.

    level(model, task, gpu, engine) = place + model + task + model:place + task:place + model:task + size:place + key

Every effect is normal around 0 with its own variance (a mixed model; the best linear unbiased prediction of Henderson
1975, here in its Gaussian-process form: the covariance of two keys is the sum of the variances of what they share).
The ladder of the design is a limit of it: with an exact key its own runs outweigh the rest; without, the other models
of the task and the other tasks of the model speak, each as far as it is known to tell; with nothing shared the answer
is the prior. place = GPU and engine; size = logarithm of the planned memory, a smooth effect, as a larger model fills a
device better.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from evalfleet_scaling.arrays import FloatArray, IntArray

SIZE_REACH = 2.0
"""Models whose sizes differ by a factor e^2 = 7 still share 60 % of the effect of size."""


@dataclass(frozen=True, slots=True)
class Names:
    """Numbers of the names of keys, shape (keys,); -1 = a name not met before, which nothing shares."""

    place: IntArray
    model: IntArray
    task: IntArray
    size: FloatArray


@dataclass(frozen=True, slots=True)
class Deviations:
    """Standard deviations of the effects, in the logarithm: 0.1 is about 10 %."""

    place: float = 0.45
    model: float = 0.10
    task: float = 0.15
    model_place: float = 0.10
    task_place: float = 0.15
    model_task: float = 0.05
    size_place: float = 0.20
    key: float = 0.05

    def scaled(self, effect: str, factor: float) -> "Deviations":
        """With one deviation multiplied."""
        return replace(self, **{effect: factor * getattr(self, effect)})


EFFECTS = tuple(field.name for field in fields(Deviations))


@dataclass(frozen=True, slots=True)
class Sharing:
    """How much of each effect keys share, 0 to 1, shape (effects, keys of one, keys of the other)."""

    parts: FloatArray

    def covariance(self, deviations: Deviations) -> FloatArray:
        """Shared variance of levels, shape (keys of one, keys of the other)."""
        variances = np.array([getattr(deviations, effect) ** 2 for effect in EFFECTS])
        result: FloatArray = np.tensordot(variances, self.parts, axes=1)
        return result


@dataclass(frozen=True, slots=True)
class Belief:
    """Mean and variance of levels, shape (keys,)."""

    mean: FloatArray
    variance: FloatArray


@dataclass(frozen=True, slots=True)
class Posterior:
    """Effects given the levels of the keys that ran.

    Attributes:
        extra: variance of each key's own effect beyond the others', for keys far from what their names say.
        inverse: inverse covariance of the observed levels.
        pull: inverse covariance x levels.
        log_evidence: log-probability of the levels, up to a constant.
    """

    deviations: Deviations
    extra: FloatArray
    inverse: FloatArray
    pull: FloatArray
    log_evidence: float


def sharing(one: Names, other: Names) -> Sharing:
    """Which effects the keys share."""
    place, model, task = (_same(getattr(one, n), getattr(other, n)) for n in ("place", "model", "task"))
    distance = (one.size[:, None] - other.size[None, :]) / SIZE_REACH
    shared = {
        "place": place,
        "model": model,
        "task": task,
        "model_place": model * place,
        "task_place": task * place,
        "model_task": model * task,
        "size_place": place * np.exp(-0.5 * distance**2),
        "key": model * task * place,
    }
    return Sharing(np.stack([shared[effect] for effect in EFFECTS]))


def condition(
    shared: Sharing, deviations: Deviations, level: FloatArray, noise: FloatArray, extra: FloatArray
) -> Posterior:
    """Learn the effects from observed levels and the variances of these; all of shape (keys,)."""
    inverse = np.asarray(np.linalg.inv(shared.covariance(deviations) + np.diag(noise + extra)), dtype=np.float64)
    pull: FloatArray = inverse @ level
    log_evidence = float(0.5 * np.linalg.slogdet(inverse)[1] - 0.5 * level @ pull)
    return Posterior(deviations, extra, inverse, pull, log_evidence)


def believe(posterior: Posterior, asked: Names, known: Names) -> Belief:
    """Levels of any keys from those that ran; a key that ran is recognised by its names."""
    own = _same(asked.place, known.place) * _same(asked.model, known.model) * _same(asked.task, known.task)
    extra = own * posterior.extra[None, :]
    shared = sharing(asked, known).covariance(posterior.deviations) + extra
    total = sum(getattr(posterior.deviations, effect) ** 2 for effect in EFFECTS) + extra.sum(axis=1)
    variance = total - np.einsum("ij,jk,ik->i", shared, posterior.inverse, shared)
    return Belief(shared @ posterior.pull, np.maximum(variance, 0.0))


def believe_without_own(posterior: Posterior, level: FloatArray, noise: FloatArray) -> Belief:
    """Levels of the keys that ran as their other keys alone tell them (leave one out, Rasmussen and Williams 5.12)."""
    precision = np.diag(posterior.inverse)
    return Belief(level - posterior.pull / precision, np.maximum(1.0 / precision - noise, 1e-12))


def _same(one: IntArray, other: IntArray) -> FloatArray:
    result: FloatArray = ((one[:, None] == other[None, :]) & (one[:, None] >= 0)).astype(np.float64)
    return result
