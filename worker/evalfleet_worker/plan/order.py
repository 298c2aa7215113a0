"""From the harnesses' requests to the rows of the plan: de-duplicated, in depth-first order of the prefix trie."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from evalfleet_worker.plan.keys import KeySpace, packed_ids, sampling_seed
from evalfleet_worker.requests import Request

IsSampled = Callable[[Request], bool]


@dataclass(frozen=True, slots=True)
class OrderedPlan:
    """Rows to execute, and for every planned request the row that answers it.

    Attributes:
        rows: unique requests; position = row.
        planned: all requests in the harnesses' order.
        row_of: row that answers `planned[i]`.
    """

    rows: Sequence[Request]
    planned: Sequence[Request]
    row_of: Sequence[int]


def order_requests(planned: Sequence[Request], keys: KeySpace, run_seed: int, is_sampled: IsSampled) -> OrderedPlan:
    """Give every request its key or seed and its row.

    Evaluations stay together, so that a unit that fails harms one; within one, token ids sort the requests, which is
    depth-first order of their trie: a shared prefix is met once.
    """
    first_with_key: dict[bytes, int] = {}
    representative: list[int] = []
    entries: list[tuple[int, str, bytes, int, Request]] = []
    evaluation_index: dict[str, int] = {}
    for position, request in enumerate(planned):
        ids = packed_ids(request)
        if is_sampled(request):
            keyed, same = replace(request, seed=sampling_seed(run_seed, request)), position
        else:
            keyed = replace(request, key=keys.key(request, ids))
            same = first_with_key.setdefault(keyed.key, position)
        representative.append(same)
        if same == position:
            index = evaluation_index.setdefault(request.evaluation, len(evaluation_index))
            entries.append((index, request.type, ids, position, keyed))
    entries.sort(key=lambda entry: entry[:4])
    row_by_position = {entry[3]: row for row, entry in enumerate(entries)}
    rows = [replace(entry[4], row=row) for row, entry in enumerate(entries)]
    return OrderedPlan(rows, planned, [row_by_position[position] for position in representative])


def shared_prefixes(rows: Sequence[Request]) -> list[int]:
    """Tokens that each row has in common with the row before it (0 for the first of an evaluation)."""
    shared, previous = [], None
    for request in rows:
        if previous is None or previous.evaluation != request.evaluation:
            shared.append(0)
        else:
            shared.append(common_prefix(previous.token_ids, request.token_ids))
        previous = request
    return shared


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Number of equal leading tokens."""
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return index
    return min(len(first), len(second))
