"""Sentence similarity: embed two columns, correlate the cosine of each pair with a gold score."""

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from evalfleet_worker.harness.interface import UNPLACED, HarnessContext, HarnessPlan, HarnessResult, Replay
from evalfleet_worker.harness.tables import Columns, read_columns
from evalfleet_worker.protocol import EmbeddingSpec, EvaluationSpec, FailureReason, Result, RunError
from evalfleet_worker.requests import Request, RequestType
from evalfleet_worker.stats.intervals import Interval, pearson, spearman

PAIRS = "pairs.json"
METRICS = {"Spearman": spearman, "Pearson": pearson}
SIDES = 2


class EmbeddingHarness:
    """Sentence-pair similarity as in STS-B: calls 2 i and 2 i + 1 are the two texts of pair i."""

    def plan(self, evaluation: EvaluationSpec, context: HarnessContext) -> HarnessPlan:
        """Read the pairs and encode every text, cut to the model's length."""
        spec = _spec(evaluation)
        columns = read_columns(context.run, spec.dataset, (*spec.pair_columns, spec.score_column), spec.limit)
        pairs = [[str(a), str(b)] for a, b in zip(*(columns[name] for name in spec.pair_columns), strict=True)]
        content = json.dumps({"pairs": pairs, "scores": _scores(spec, columns)}, ensure_ascii=False).encode()
        encoder, arguments = context.encoder(), json.dumps({"pooling": spec.pooling})
        requests = [
            Request(
                UNPLACED,
                evaluation.name,
                RequestType.EMBED,
                SIDES * index + side,
                token_ids=encoder.embedded(text),
                arguments=arguments,
            )
            for index, pair in enumerate(pairs)
            for side, text in enumerate(pair)
        ]
        return HarnessPlan(requests, len(pairs), {PAIRS: content}, _digest(content))

    def finish(self, evaluation: EvaluationSpec, context: HarnessContext, replay: Replay) -> HarnessResult:
        """Correlate cosines with the stored gold scores."""
        content = replay.documents[PAIRS]
        if _digest(content) != replay.digest:
            raise RunError(FailureReason.PLAN_CHANGED, f"{evaluation.name}: the stored pairs are not the planned ones")
        stored = json.loads(content)
        cosines = [_cosine(replay, index) for index in range(len(stored["pairs"]))]
        spec = _spec(evaluation)
        interval = METRICS[spec.metric](cosines, stored["scores"])
        rows = [
            {"pair": index, "first": first, "second": second, "score": score, "cosine": cosine}
            for index, ((first, second), score, cosine) in enumerate(
                zip(stored["pairs"], stored["scores"], cosines, strict=True)
            )
        ]
        return HarnessResult([_result(evaluation.name, spec.metric, interval)], rows, len(rows))


def _spec(evaluation: EvaluationSpec) -> EmbeddingSpec:
    assert evaluation.embedding is not None
    return evaluation.embedding


def _scores(spec: EmbeddingSpec, columns: Columns) -> list[float]:
    return [_score(spec, row, score) for row, score in enumerate(columns[spec.score_column], start=1)]


def _score(spec: EmbeddingSpec, row: int, score: Any) -> float:
    try:
        return _finite(score)
    except (TypeError, ValueError) as error:
        raise RunError(
            FailureReason.DATASET_UNREADABLE,
            f"{spec.dataset}: row {row}: column {spec.score_column!r} holds no numbers: {error}",
        ) from error


def _finite(score: Any) -> float:
    number = float(score)
    if not math.isfinite(number):
        raise ValueError(f"{score!r} is not finite")
    return number


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _cosine(replay: Replay, pair: int) -> float:
    first, second = (_vector(replay, SIDES * pair + side) for side in range(SIDES))
    return float(np.dot(first, second) / (np.linalg.norm(first) * np.linalg.norm(second)))


def _vector(replay: Replay, call: int) -> Sequence[float]:
    vector = replay.single(RequestType.EMBED, call).vector
    assert vector is not None
    return vector


def _result(evaluation: str, metric: str, interval: Interval) -> Result:
    return Result(
        evaluation=evaluation,
        metric=metric.lower(),
        value=interval.value,
        standard_error=interval.standard_error,
        low=interval.low,
        high=interval.high,
        n=interval.n,
        method=interval.method,
        task=evaluation,
    )
