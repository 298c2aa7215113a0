"""From logits to log-likelihoods: fp32 normaliser in chunks of rows, greedy flags, sums in fp64."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from evalfleet_worker.engine.pack import Ints

ROWS_PER_CHUNK = 1024


@dataclass(frozen=True, slots=True)
class Score:
    """Log-likelihood of a continuation and whether every token of it is the arg-max."""

    log_probability: float
    is_greedy: bool


def score_chunks(chunks: Iterable[torch.Tensor], scored_rows: Ints, targets: Ints, offsets: Ints) -> list[Score]:
    """Scores of M sequences from the logits of R rows, which arrive in chunks.

    Args:
        chunks: logits [rows of the chunk, vocabulary], together R rows in order; any float type.
        scored_rows: [S] row of each scored token.
        targets: [S] the scored tokens.
        offsets: [M + 1] bounds of each sequence's scored tokens.

    Returns:
        M scores; ties of the arg-max go to the first token, as in lm-eval.
    """
    order = np.argsort(scored_rows, kind="stable")
    ordered_rows = scored_rows[order]
    values, greedy, begin = [], [], 0
    for logits in chunks:
        end = begin + len(logits)
        inside = order[np.searchsorted(ordered_rows, begin) : np.searchsorted(ordered_rows, end)]
        rows = torch.from_numpy(scored_rows[inside] - begin).to(logits.device)
        chosen, best = _score_rows(logits.float(), rows, torch.from_numpy(targets[inside]).to(logits.device))
        values.append(chosen)
        greedy.append(best)
        begin = end
    return _by_sequence(order, torch.cat(values), torch.cat(greedy), offsets)


def _score_rows(logits: torch.Tensor, rows: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    normaliser = logits.logsumexp(1)
    best = logits.argmax(1)
    return logits[rows, targets] - normaliser[rows], best[rows] == targets


def _by_sequence(order: Ints, values: torch.Tensor, greedy: torch.Tensor, offsets: Ints) -> list[Score]:
    log_probabilities, flags = np.empty(len(order), np.float64), np.empty(len(order), np.bool_)
    log_probabilities[order] = values.cpu().numpy()
    flags[order] = greedy.cpu().numpy()
    sums = np.add.reduceat(log_probabilities, offsets[:-1])
    all_greedy = np.logical_and.reduceat(flags, offsets[:-1])
    return [Score(float(total), bool(flag)) for total, flag in zip(sums, all_greedy, strict=True)]
