"""Times and limits of the operator: one table, each with its unit in its name or reason, and why it is what it is.

What users set is in the API and in the settings; what the API server imposes is said here where we keep below it.
"""

from datetime import timedelta

# When who looks again

POLICY_TICK_SECONDS = 1.0
"""Between two decisions of a policy that has work: workers come and go within seconds, one costs milliseconds."""
DECISION_PERIOD_SECONDS = 5.0
"""Longest time between two decisions, with room for a busy API server: what capacity is planned with."""
REFUSED_SECONDS = 5.0
"""After the API server refused a worker: a quota frees within seconds, and a hot loop of creates helps nobody."""
UNREADABLE_SECONDS = 30.0
"""Until a policy or ledger that cannot be read is looked at again: a person mends it, and most edits are events."""
REFERENCE_SECONDS = 30.0
"""Until a job that waits for something outside of it looks again, beside the events that concern it."""
RUNNING_SECONDS = 10.0
"""Until a running job looks again though nothing happened: its deadline passes without an event."""
REFUSAL_REFRESH_SECONDS = 60.0
"""The message of a job that is not admitted names a time, which moves on."""
INCOMPLETE_SECONDS = 1.0
"""After a finish Job that found units missing: its deletion has to be seen before workers start."""
QUEUE_WORKERS = 16
"""Passes at once: they wait for the API server most of their time."""
RETRY_SECONDS = 0.05
"""First delay of a key that failed; it doubles with every failure in a row."""
RETRY_MOST_SECONDS = 60.0
"""Longest delay of a key that failed: within a minute of its end a fault is over for everybody."""
PROGRESS_WRITE_SECONDS = 10.0
"""Between two writes of bare progress: a thousand jobs write a hundred statuses a second at most."""

# What is watched, listed and pulled

WATCH_SECONDS = 240
"""Of one watch, as long as the API server's own least timeout lets it live."""
WATCH_SILENCE_SECONDS = 70
"""Without any event, bookmarks included (they come every minute), a watch is taken for dead."""
FIRST_SYNC_SECONDS = 60.0
"""How long the first listing is tried before a fresh process, or the standby, has a go at it."""
FIRST_SYNC_PAUSE_SECONDS = 0.5
"""Between two tries of the first listing: a kind that was created just now answers 429 for a moment."""
WATCH_CHECK_SECONDS = 1.0
"""How soon it is noticed that the watches have ended."""
RELEASE_SECONDS = 3.0
"""Giving the Lease back is a courtesy: an API server that hangs must not keep a process that has lost it."""
LEASE_SECONDS = 15.0
"""How long a Lease holds, as client-go: who has not been answered for so long could not take over."""
LEASE_RENEW_SECONDS = 10.0
"""When renewing is given up, well before another may lead."""
LEASE_RETRY_SECONDS = 2.0
"""How often the Lease is tried."""
MISSED_LISTINGS = 3
"""Listings that may fail in a row before a leader is not ready."""
PROGRESS_TIMEOUT_SECONDS = 1.0
"""Of one answer of a worker: who is slower has no news, and the next pull comes in two seconds."""
PROGRESS_BYTES = 64 * 1024
"""Of one answer of a worker, about a hundred times what ours send."""
PROGRESS_AT_ONCE = 64
"""Workers asked at once: a thousand answer within a second, and no file limit is near."""

# What is remembered

LOST_NODES = 10_000
"""Names of nodes that have vanished: a megabyte."""
EVENTS_COUNTED = 4_096
"""Events whose count is remembered; another one is read back from the API server."""
LEDGER_RUNS = 5_000
"""Runs in one spend ledger: about 80 bytes each of the 1 MiB that a ConfigMap holds."""
PREEMPTED_LISTED = 1_024
"""Bound of the API for `workers.preempted`; no job has more than a thousand workers."""
FAILED_LISTED = 128
"""Bound of the API for `workers.failed`; more than a hundred failures end a job."""
UID_DIGITS = 8
"""Digits of a uid in a status: they tell a thousand pods of one run apart."""

# What is said

CONDITION_MESSAGE = 2_000
"""Characters; the API server takes 32 KiB, readers a screen."""
CONDITIONS = 16
"""Conditions that the API takes: ours first, then whatever somebody else has put there."""
EVENT_MESSAGE = 1_000
"""Characters; the API server takes 1,024."""
EVENT_NAME = 200
"""Characters of an object's name in the name of its Event, which has room for 253 with a digest."""
STATUS_WORD = 1_024
"""Characters of a name or sentence in a status; a user's own evaluation may give longer ones."""
RESULTS = 64
"""Rows of results in a status, the bound of the API."""
REQUESTS_PER_SECOND = 1e12
"""What a status holds; a worker may claim more."""
LARGEST_FIGURE = float(2**53)
"""Bound of what a worker may report to a metric: it is never trusted."""
PROBLEMS = 8
"""Problems of one object that are listed: who mends the first eight sees the rest."""
PROBLEM_MESSAGE = 500
"""Characters of what is wrong with a policy."""

# Clocks

BINDING_SETTLED = timedelta(seconds=3)
"""After which no other binding of the same second can come: the API server's stamps are whole seconds."""
CLOCKS_APART = timedelta(seconds=60)
"""What the clocks of several API servers and operators may differ by."""

# What decisions are made with

MAX_WORKERS = 8
"""Workers of a job that says nothing."""
WORKER_WORTH_SECONDS = 10.0
"""Work that makes another worker worth its start: two units of five seconds."""
UNIT_SECONDS = 5.0
"""Least time of a unit: plans count seconds of a reference accelerator, and the slowest devices are what surprises."""
FINISH_SECONDS = 60.0
"""From the last committed unit to published results: the finish Job, and the unit that ends last."""
EDIT_SECONDS = 300.0
"""From a refusal to the edit that it advises; until then the named deadline has to stay feasible."""
TRUSTED_REQUESTS = 20
"""Requests after which the measured rate replaces the plan's."""
RATE_MARGIN = 1.05
"""A factor: the lower confidence bound of a measured rate lies about so far below it."""
UNMEASURED_RATE_ERROR = 0.3
"""Relative error of a rate that only the plan predicts; a measured one has the core's default."""
LAUNCH_STARTUPS = 2.0
"""Planned start-ups that a worker may wait for a node before its launch counts as failed."""
LONGEST_ETA_SECONDS = 10 * 365 * 86400.0
"""Beyond ten years nothing is foreseen, and calendars end."""

# Money

LEDGER_SAVE_SECONDS = 60.0
"""Longest time between two writes while money flows: what an operator's crash leaves to be settled again."""
LEDGER_LOOK_SECONDS = 10.0
"""After which the stored ledger is looked at again: an edit of it is noticed, though nothing is to be written."""
LOST_POD_SECONDS = 120.0
"""A pod that vanished while no operator looked is paid for at most this long after the last settlement."""
