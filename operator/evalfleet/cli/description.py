"""An EvaluationJob or ScalingPolicy in words: where it is, why, what it costs and where the time goes. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from evalfleet.cli.result_table import RESULT_COLUMNS, status_cells
from evalfleet.cli.table import DETAIL, USEFUL, Column, printable, table, wrapped
from evalfleet.cli.text import NOTHING, Object, age, clock, duration, money, relative, saved_percent, state

Lines = list[str]
INDENT = "  "
CONDITIONS = (Column("TYPE"), Column("STATUS"), Column("SINCE", DETAIL), Column("REASON"), Column("MESSAGE"))
EVENTS = (Column("AGE"), Column("TYPE", DETAIL), Column("REASON"), Column("MESSAGE"))
POOLS = (
    Column("NAME"),
    Column("CAPACITY", USEFUL),
    Column("PRICE/H", USEFUL, number=True),
    Column("WORKERS", number=True),
    Column("READY", number=True),
    Column("MAX", number=True),
    Column("INTERRUPTIONS", DETAIL, number=True),
    Column("START-UP", DETAIL + 1, number=True),
    Column("MACHINE", DETAIL + 2),
)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and its lines; one without lines is not printed."""

    title: str
    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class View:
    """From when and on how wide a screen one looks; a width of None is no screen."""

    now: datetime
    width: int | None = None

    @property
    def room(self) -> int | None:
        """Characters of a line beside the indentation of sections."""
        return None if self.width is None else self.width - len(INDENT)


def describe_job(body: Object, policy: Object | None, events: Iterable[Object], view: View) -> str:
    """One EvaluationJob as text; `policy` is the ScalingPolicy it uses, if there is one."""
    status, now = body.get("status") or {}, view.now
    sections = (
        Section("", _job_facts(body, now)),
        Section("Conditions", _conditions(status, view)),
        Section("Progress", _progress(status, now)),
        Section("Workers", _workers(status.get("workers") or {})),
        Section("Cost", _cost(status.get("cost") or {})),
        Section("Time", _time(status.get("time") or {})),
        Section("Results", _results(status, view)),
        Section("Last decision of the policy", _decision((policy or {}).get("status") or {}, now)),
        Section("Events", _events(events, view)),
    )
    return _text(f"EvaluationJob {_name(body)}: {state(body)}", sections, view)


def describe_policy(body: Object, events: Iterable[Object], view: View) -> str:
    """One ScalingPolicy as text."""
    now = view.now
    spec, status = body["spec"], body.get("status") or {}
    jobs, workers = status.get("jobs") or {}, status.get("workers") or {}
    facts = [
        f"strategy   {spec.get('strategy', 'ElasticAuto')}",
        f"jobs       {jobs.get('queued', 0)} queued, {jobs.get('running', 0)} running",
        f"workers    {workers.get('ready', 0)} ready of {workers.get('desired', 0)}",
        f"created    {age(body['metadata'].get('creationTimestamp'), now)} ago",
    ]
    sections = (
        Section("", facts),
        Section("Pools", _pools(spec, status, view)),
        Section("Conditions", _conditions(status, view)),
        Section("Cost", _policy_cost(status.get("cost") or {}, spec.get("currency", "USD"))),
        Section("Last decision", _decision(status, now)),
        Section("Events", _events(events, view)),
    )
    return _text(f"ScalingPolicy {_name(body)}: {state(body)}", sections, view)


def _text(title: str, sections: Iterable[Section], view: View) -> str:
    parts = [title]
    for section in sections:
        if section.lines:
            lines = [part for line in section.lines for part in wrapped(printable(line), view.room)]
            indented = [f"{INDENT}{line}" for line in lines]
            parts.append("\n".join([*([f"\n{section.title}"] if section.title else []), *indented]))
    return "\n".join(parts)


def _name(body: Object) -> str:
    return f"{body['metadata']['namespace']}/{body['metadata']['name']}"


def _job_facts(body: Object, now: datetime) -> Lines:
    spec, plan = body["spec"], (body.get("status") or {}).get("plan") or {}
    lines = [
        f"model      {spec['model']['uri']}",
        f"asks for   {', '.join(evaluation['name'] for evaluation in spec['evaluations'])}",
        f"policy     {spec.get('policyName', 'default')}",
        f"created    {age(body['metadata'].get('creationTimestamp'), now)} ago",
    ]
    if "requests" in plan:
        size = f"{plan['requests']} requests, {plan.get('tokens', 0)} tokens in {plan.get('units', 0)} units"
        lines.append(f"size       {size}; about {duration(plan.get('gpuSeconds', 0))} of one worker")
    return lines


def _conditions(status: Any, view: View) -> Lines:
    rows = [
        [
            one["type"],
            one["status"],
            age(one.get("lastTransitionTime"), view.now),
            one["reason"],
            one.get("message", ""),
        ]
        for one in status.get("conditions") or []
    ]
    return _table(CONDITIONS, rows, view) or ["none yet: no operator has looked at it"]


def _progress(status: Any, now: datetime) -> Lines:
    progress = status.get("progress") or {}
    if not progress:
        return []
    units = f"{progress.get('unitsDone', 0)} of {progress.get('unitsTotal', 0)} units"
    lines = [f"{progress.get('percent', 0)} % done ({units})"]
    if "requestsPerSecond" in progress:
        lines[0] += f", {progress['requestsPerSecond']} requests/s"
    if status.get("completionTime"):
        return [*lines, f"ended {clock(status['completionTime'])} ({relative(status['completionTime'], now)})"]
    if progress.get("estimatedCompletionTime"):
        low, high = progress.get("estimatedLow"), progress.get("estimatedHigh")
        between = f", 80 % sure between {relative(low, now)} and {relative(high, now)}" if low and high else ""
        lines.append(f"expected to end {relative(progress['estimatedCompletionTime'], now)}{between}")
    return lines


def _workers(workers: Any) -> Lines:
    if not workers:
        return []
    kinds = f"{workers.get('spot', 0)} spot, {workers.get('onDemand', 0)} on demand"
    lines = [f"{workers.get('ready', 0)} ready of {workers.get('desired', 0)} wanted ({kinds})"]
    if workers.get("preemptions"):
        lines.append(f"{workers['preemptions']} taken away by the provider; none of them is a failure")
    return lines


def _cost(cost: Any) -> Lines:
    if "spent" not in cost:
        return []
    currency = cost.get("currency", "")
    lines = [f"{money(cost['spent'], currency)} spent"]
    if "projected" in cost:
        lines[0] += f", {money(cost['projected'], currency)} expected in the end"
    saved = saved_percent(cost["spent"], cost.get("onDemandEquivalent"))
    if saved is not None:
        lines.append(f"{money(cost['onDemandEquivalent'], currency)} for the same time on demand: {saved} % saved")
    return lines


def _policy_cost(cost: Any, currency: str) -> Lines:
    if not cost:
        return []
    spent = (("hour", "spentHour"), ("day", "spentDay"), ("month", "spentMonth"))
    lines = [", ".join(f"{money(cost.get(key), currency)} this {name}" for name, key in spent) + " (UTC)"]
    if "savedVersusOnDemand" in cost:
        lines.append(f"{money(cost['savedVersusOnDemand'], currency)} saved this month against on-demand machines")
    return lines


def _time(time: Any) -> Lines:
    names = (
        ("queueSeconds", "in the queue"),
        ("provisioningSeconds", "waiting for nodes"),
        ("modelLoadSeconds", "loading the model"),
        ("scoringSeconds", "scoring"),
        ("wastedGpuSeconds", "lost or done twice"),
    )
    known = [f"{duration(time[key])} {words}" for key, words in names if key in time]
    return [", ".join(known) + " (summed over workers)"] if known else []


def _results(status: Any, view: View) -> Lines:
    lines = _table(RESULT_COLUMNS, [status_cells(row) for row in status.get("results") or []], view)
    return [*lines, f"all of them: {status['resultsUri']}"] if status.get("resultsUri") else lines


def _pools(spec: Any, status: Any, view: View) -> Lines:
    seen = {pool["name"]: pool for pool in status.get("pools") or []}
    return _table(POOLS, [_pool_cells(pool, seen.get(pool["name"], {})) for pool in spec["pools"]], view)


def _pool_cells(pool: Any, found: Any) -> list[str]:
    startup = found.get("startupSecondsP50")
    return [
        pool["name"],
        pool["capacityType"],
        money(pool["pricePerHour"]),
        *(str(found.get(key, 0)) for key in ("workers", "ready")),
        str(pool["maxWorkers"]),
        str(found.get("interruptions", 0)),
        duration(startup) if startup is not None else NOTHING,
        _machine(pool),
    ]


def _machine(pool: Any) -> str:
    """What a worker of the pool occupies and where, as far as the policy says."""
    accelerator = pool.get("accelerator") or {}
    product, count = accelerator.get("product"), accelerator.get("countPerWorker", 1)
    known = [f"{count} x {product}" if product else "", f"in {pool['zone']}" if pool.get("zone") else ""]
    return " ".join(filter(None, known)) or NOTHING


def _decision(status: Any, now: datetime) -> Lines:
    decision = status.get("lastDecision") or {}
    if not decision:
        return []
    return [f"{decision.get('reason', '')}, {relative(decision.get('time'), now)}: {decision.get('message', '')}"]


def _events(events: Iterable[Object], view: View) -> Lines:
    rows = []
    for event in events:
        last = event.get("lastTimestamp") or event.get("eventTime")
        count = int(event.get("count") or 1)
        since = age(last, view.now) + (f" (x{count})" if count > 1 else "")
        rows.append([since, event.get("type", ""), event.get("reason", ""), event.get("message", "")])
    return _table(EVENTS, rows, view)


def _table(columns: Sequence[Column], rows: Sequence[Sequence[str]], view: View) -> Lines:
    return table(columns, rows, view.room).splitlines() if rows else []
