"""Spend ledgers in ConfigMaps of the operator's namespace, one per ScalingPolicy; the leader is their only writer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalfleet import limits
from evalfleet.kube.client import CONFLICT, NOT_FOUND, Kube, KubeError
from evalfleet.kube.resources import Key
from evalfleet_scaling.spend import SpendLedger
from evalfleet_scaling.spend_document import LedgerUnreadableError, ledger_from_document, ledger_to_document

DOCUMENT = "ledger.json"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
FORBIDDEN = 403
REFUSED = frozenset({400, FORBIDDEN, 413, 422})
"""Answers that mean: this ledger cannot be written, not: the API server has a bad moment."""


@dataclass(slots=True)
class _Page:
    ledger: SpendLedger
    body: dict[str, Any] | None
    """The ConfigMap as last read or written; None before it exists."""
    saved_seconds: float
    looked_seconds: float
    is_due: bool = False
    """Whether the last write was refused: another one is due."""


class LedgerUnwritableError(RuntimeError):
    """The ledger is refused; what is spent is known to this process alone."""


class SpendBook:
    """The ledgers of all policies: read once, then kept, and read again when somebody else has written one."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._pages: dict[Key, _Page] = {}

    async def read(self, policy: Key, now_seconds: float) -> SpendLedger:
        """The ledger of a policy.

        Raises:
            LedgerUnreadableError: the stored ledger is damaged; it is never replaced by an empty one.
        """
        page = self._pages.get(policy)
        if page is not None and now_seconds - page.looked_seconds >= limits.LEDGER_LOOK_SECONDS:
            page = await self._looked_at(policy, page, now_seconds)
        if page is None:
            page = self._pages[policy] = self._opened(policy, await self._fetch(policy), now_seconds)
        return page.ledger

    async def keep(self, policy: Key, ledger: SpendLedger, now_seconds: float) -> None:
        """Make `ledger` the policy's, and write it when a worker came, scored or went, or money has flowed for long.

        Raises:
            LedgerUnwritableError: the API server refuses it; the ledger is the policy's all the same.
        """
        page = self._pages[policy]
        structural = _structure(ledger) != _structure(page.ledger)
        due = bool(ledger.open) and now_seconds - page.saved_seconds >= limits.LEDGER_SAVE_SECONDS
        if structural or due or page.is_due:
            try:
                await self._save(policy, page, ledger)
            except KubeError as error:
                if error.status not in REFUSED:
                    raise
                page.ledger, page.is_due = ledger, True
                raise LedgerUnwritableError(f"ConfigMap {self._namespace}/{_name(policy)}: {error}") from error
            page.saved_seconds = page.looked_seconds = now_seconds
        page.ledger, page.is_due = ledger, False

    async def all(self) -> list[Key]:
        """The policies that have a ledger."""
        found = await self._kube.get_metadata(self._path(), labelSelector=f"{LABEL_MANAGED_BY}=evalfleet")
        names = (str(body["metadata"]["name"]).split(".", 2) for body in found.get("items") or [])
        return [Key("ScalingPolicy", parts[1], parts[2]) for parts in names if parts[0] == "spend" and len(parts) == 3]

    async def remove(self, policy: Key) -> None:
        """Remove a ledger for good."""
        await self._kube.delete(f"{self._path()}/{_name(policy)}")
        self._pages.pop(policy, None)

    async def _looked_at(self, policy: Key, page: _Page, now_seconds: float) -> _Page | None:
        """The page if nobody else has written the ledger; one that was deleted is written again when it is due."""
        stored = await self._fetch(policy)
        if stored is None:
            page.body = None
        elif _version(stored) != _version(page.body):
            del self._pages[policy]
            return None
        page.looked_seconds = now_seconds
        return page

    async def _fetch(self, policy: Key) -> dict[str, Any] | None:
        """The stored ConfigMap, None when there is none."""
        try:
            return await self._kube.get(f"{self._path()}/{_name(policy)}")
        except KubeError as error:
            if error.status == NOT_FOUND:
                return None
            if error.status == FORBIDDEN:
                message = f"ConfigMap {self._namespace}/{_name(policy)}: {error}; let the operator read it"
                raise LedgerUnreadableError(message) from error
            raise

    def _opened(self, policy: Key, stored: dict[str, Any] | None, now_seconds: float) -> _Page:
        if stored is None:
            return _Page(SpendLedger(), None, float("-inf"), now_seconds)
        try:
            document = json.loads((stored.get("data") or {})[DOCUMENT])
            return _Page(ledger_from_document(document), stored, float("-inf"), now_seconds)
        except (KeyError, ValueError, AttributeError, LedgerUnreadableError) as error:
            name = f"ConfigMap {self._namespace}/{_name(policy)}"
            advice = f"mend its {DOCUMENT}, or delete it to begin at nothing spent"
            raise LedgerUnreadableError(f"{name}: {error!r}; {advice}") from error

    async def _save(self, policy: Key, page: _Page, ledger: SpendLedger) -> None:
        """Write at the version that was read; after a conflict the page is read anew, and the pass repeated.

        A ConfigMap that somebody deleted is written again by the repeated pass: limits outlive it.
        """
        data = {DOCUMENT: json.dumps(ledger_to_document(ledger), separators=(",", ":"))}
        try:
            if page.body is None:
                metadata = {"name": _name(policy), "labels": {LABEL_MANAGED_BY: "evalfleet"}}
                body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
                page.body = await self._kube.create(self._path(), body)
            else:
                body = {**page.body, "data": data}
                page.body = await self._kube.replace(f"{self._path()}/{_name(policy)}", body)
        except KubeError as error:
            if error.status == CONFLICT:
                del self._pages[policy]
            elif error.status == NOT_FOUND:
                page.body = None
            raise

    def _path(self) -> str:
        return f"/api/v1/namespaces/{self._namespace}/configmaps"


def _structure(ledger: SpendLedger) -> tuple[object, object]:
    """What cannot be told again after a crash: who came, scored, fell silent and went."""
    return {uid: (entry.scoring, entry.silent) for uid, entry in ledger.open.items()}, ledger.closed.keys()


def _version(body: Mapping[str, Any] | None) -> str:
    return str(body["metadata"]["resourceVersion"]) if body is not None else ""


def _name(policy: Key) -> str:
    return f"spend.{policy.namespace}.{policy.name}"
