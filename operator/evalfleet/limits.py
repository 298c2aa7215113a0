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
FORBIDDEN_SECONDS = 30.0
"""How often a namespace that may not be served is tried again: whoever grants the right watches for it."""
MISSED_LISTINGS = 3
"""Listings that may fail in a row before a leader is not ready."""
PROGRESS_TIMEOUT_SECONDS = 1.0
"""Of one answer of a worker: who is slower has no news, and the next pull comes in two seconds."""
PROGRESS_BYTES = 64 * 1024
"""Of one answer of a worker, about a hundred times what ours send."""
PROGRESS_AT_ONCE = 64
"""Workers asked at once: a thousand answer within a second, and no file limit is near."""

PROGRESS_ROUND = 1_024
"""Workers asked in one round: all of a large fleet, and no more of a larger one than seconds allow."""
PROGRESS_PAUSE_SECONDS = 1.0
"""How long a worker that did not answer is left alone; it doubles."""
PROGRESS_PAUSE_MOST_SECONDS = 30.0
"""Longest such pause: well within the time after which a worker is silent."""
RATE_SECONDS = 60.0
"""Age from which a rate that a worker told is not used any more."""

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
STATE = 64
"""Characters of the first column of `kubectl get`."""
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

POLICY_GRACE = timedelta(minutes=10)
"""What runs goes on so long without its policy: a GitOps tool that replaces an object deletes it first."""
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

# How long a pod may take, and how often what failed is tried again

SILENT_UNITS = 12.0
"""Units that a worker could have scored while nothing of it moved: then it hangs."""
SILENT_LEAST_SECONDS = 60.0
"""Least silence, however short its units are: a store may be slow for a moment."""
SILENT_FIRST_SECONDS = 1_800.0
"""Least silence before its first unit and between units: models are downloaded, others hold the last unit."""
CPU_START_SECONDS = 300.0
"""From a node to a running plan or finish pod, the image included: then the next attempt is made elsewhere. It doubles
with every attempt: an image that takes longer than this is pulled in the end."""
CPU_START_LONGEST_SECONDS = 2_400.0
"""Most of that."""
DELETION_SECONDS = 30.0
"""Beyond its grace period a pod is not ended by its kubelet any more: its machine does not answer."""
CLOCK_AHEAD_SECONDS = 5.0
"""Clocks of machines that are in order differ by less."""
SETTLING_SECONDS = 5.0
"""After which a Secret, a quota or a limit that was made a moment ago is seen by everybody."""
ATTEMPT_PAUSE_SECONDS = 5.0
"""From one attempt of a plan or finish step to the next; it doubles."""
SETBACK_PAUSE_SECONDS = 10.0
"""First pause of a run on a pool where it was thrown out; it doubles."""
LONGEST_PAUSE_SECONDS = 300.0
"""Longest pause between two attempts of anything: within minutes of its end a fault is over for everybody."""
PAUSE_SPREAD = 0.2
"""A pause is up to so much of itself shorter or longer: who was thrown out together does not come back together."""
SETBACK_FORGET_SECONDS = 600.0
"""Quiet time after which a setback is history."""
AVOID_SECONDS = 600.0
"""How long pods keep away from a machine that failed one of them; it doubles."""
AVOID_LONGEST_SECONDS = 3_600.0
"""Longest avoidance: machines are mended, and their names come again."""
AVOIDED = 10
"""Machines that a pod names; more of them would be a sickness of the pool."""
SAME_RESOURCE = 3
"""Evictions for lack of one resource after which the job names the request to raise."""
STALLED_SECONDS = 900.0
"""After so long without a way out a job is stalled: somebody has to look."""
ATTEMPTS_STALLED = 6
"""Attempts of a plan or finish step, five minutes of them, after which somebody has to look; they go on."""
REPORTS_LOST = 5
"""Attempts that end well and report nothing: then the image is not what it should be."""
POD_CREATION_SECONDS = 2.0
"""After which a Job should have a pod: the Job controller needs a second at most."""
REFUSAL_LOOK_SECONDS = 10.0
"""Between two looks at why the Job controller creates no pod of a Job."""
FAILED_KEPT = timedelta(seconds=600)
"""How long failed children of an ended job stay, so that their logs can be read."""

# Money

LEDGER_SAVE_SECONDS = 60.0
"""Longest time between two writes while money flows: what an operator's crash leaves to be settled again."""
LEDGER_LOOK_SECONDS = 10.0
"""After which the stored ledger is looked at again: an edit of it is noticed, though nothing is to be written."""
LEDGER_SWEEP_SECONDS = 3_600.0
"""Between two looks for ledgers of namespaces that are gone: they cost a ConfigMap each, and nothing else."""
LOST_POD_SECONDS = 120.0
"""A pod that vanished while no operator looked is paid for at most this long after the last settlement."""
