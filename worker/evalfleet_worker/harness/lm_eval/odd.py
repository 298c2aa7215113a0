"""Documents of lm-eval's own tasks that cannot be scored as they are written: a few are known, many are a fault."""

from evalfleet_worker.harness.lm_eval.checks import Oddity, oddities
from evalfleet_worker.harness.lm_eval.owndata import documents_to_score, is_own
from evalfleet_worker.harness.lm_eval.seeds import kept_random_state
from evalfleet_worker.harness.lm_eval.tasks import LoadedTasks
from evalfleet_worker.protocol import LmEvalSpec

TOLERATED = 0.01
"""Share of odd documents up to which a task of lm-eval is scored as lm-eval does."""
NAMED = 3


def odd_documents(loaded: LoadedTasks, spec: LmEvalSpec) -> list[str]:
    """Warnings about odd documents of tasks that ship with lm-eval; the user's own are checked when they are loaded.

    Raises:
        RunError: more than 1 % (at least two) of a task's documents are odd.
    """
    warnings = []
    for name, task in loaded.tasks.items():
        if is_own(task, spec):
            continue
        documents = documents_to_score(task, spec)
        with kept_random_state():
            found = list({odd.document: odd for odd in oddities(task, documents)}.values())
        if len(found) >= max(2, TOLERATED * len(documents)):
            raise found[0].refusal(name, f" and {len(found) - 1} of the other {len(documents) - 1}")
        warnings += [_warning(name, found)] if found else []
    return warnings


def _warning(name: str, found: list[Oddity]) -> str:
    shown = "; ".join(f"document {odd.document}, {odd.field}: {odd.words}" for odd in found[:NAMED])
    return f"task {name!r}: {len(found)} documents cannot be answered rightly and are scored as lm-eval does: {shown}"
