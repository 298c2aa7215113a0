"""The exit codes of every command, in one table."""

from enum import IntEnum


class Exit(IntEnum):
    """How a command ended; `meaning` says it in words."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> "Exit":
        """A code with its meaning."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    SUCCESS = 0, "full score and no gate failed; or the command did what it was asked for"
    NO_FULL_SCORE = 1, "the evaluation ended without a full score, or a gate failed: `outcome` and `failed` of the JSON"
    USAGE = 2, "wrong options, or a manifest with mistakes; nothing was started"
    CANNOT_SUCCEED = 3, "it cannot succeed as it is: the message says why and what to do"
    INCONCLUSIVE = 4, "a gate is inconclusive: the message says how many more samples would decide"
    TIMEOUT = 5, "`--timeout` was over first; the same command goes on"
    INTERRUPTED = 130, "interrupted by Ctrl-C; the same command goes on"
