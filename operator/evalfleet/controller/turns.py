"""Who is asked for progress next: namespaces take turns, and who stays silent is asked less often. No clock, no I/O."""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain, zip_longest

from evalfleet import limits


@dataclass(slots=True)
class Turns:
    """What was asked of whom.

    Attributes:
        asked: when each worker was asked last, by uid of its pod.
        silent: how long each worker that did not answer is left alone [s].
    """

    asked: dict[str, float] = field(default_factory=dict)
    silent: dict[str, float] = field(default_factory=dict)

    def next(self, pods: Mapping[str, str], now: float) -> list[str]:
        """The pods of the next round, of all that run, with their namespaces.

        One of each namespace in turn, who waited longest first: a namespace of thousands keeps no other waiting.
        """
        self.asked = {uid: at for uid, at in self.asked.items() if uid in pods}
        self.silent = {uid: pause for uid, pause in self.silent.items() if uid in pods}
        waiting: defaultdict[str, list[str]] = defaultdict(list)
        for uid, namespace in pods.items():
            if now - self.asked.get(uid, float("-inf")) >= self.silent.get(uid, 0.0):
                waiting[namespace].append(uid)
        for members in waiting.values():
            members.sort(key=lambda uid: self.asked.get(uid, float("-inf")))
        in_turn = chain.from_iterable(zip_longest(*waiting.values()))
        return [uid for uid in in_turn if uid is not None][: limits.PROGRESS_ROUND]

    def took_place(self, round_of: Iterable[str], answers: Container[str], now: float) -> None:
        """A round is over: who did not answer is left alone, twice as long each time."""
        for uid in round_of:
            self.asked[uid] = now
            if uid in answers:
                self.silent.pop(uid, None)
            else:
                pause = 2 * self.silent.get(uid, limits.PROGRESS_PAUSE_SECONDS / 2)
                self.silent[uid] = min(pause, limits.PROGRESS_PAUSE_MOST_SECONDS)
