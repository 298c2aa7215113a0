"""The exit codes of every command; docs/cli.md has the same table for people."""

from enum import IntEnum


class Exit(IntEnum):
    """How a command ended; 0 where it did what it was asked for."""

    SUCCESS = 0
    """Full score, and no gate failed; or the command did what it was asked for."""
    NO_FULL_SCORE = 1
    """The evaluation ended without a full score, or a gate failed: the JSON says which."""
    USAGE = 2
    """Wrong options, or a manifest with mistakes."""
    CANNOT_SUCCEED = 3
    """It cannot succeed as it is: the message says why and what to do."""
    INCONCLUSIVE = 4
    """A gate is inconclusive: more samples would decide."""
    TIMEOUT = 5
    """`--timeout` was over first; the same command goes on."""
    INTERRUPTED = 130
    """Ctrl-C; the same command goes on."""
