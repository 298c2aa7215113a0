"""Ledgers of namespaces that are gone: nobody will ever spend from them again, so they are settled and removed."""

import asyncio
import logging
from collections.abc import Container

from evalfleet import limits
from evalfleet.controller.controller import Controller
from evalfleet.kube.client import NOT_FOUND, UNREACHABLE, Kube, KubeError
from evalfleet.kube.resources import CHILDREN, WATCHED
from evalfleet.kube.spend import SpendBook
from evalfleet_scaling.spend_document import LedgerUnreadableError

log = logging.getLogger(__name__)


async def sweep_for_ever(kube: Kube, controller: Controller) -> None:
    """Look for such ledgers now and then; without the rights to, they stay."""
    while True:
        await asyncio.sleep(limits.LEDGER_SWEEP_SECONDS)
        kinds = {*WATCHED, *CHILDREN}
        used = {str(body["metadata"]["namespace"]) for kind in kinds for body in controller.cache.of_kind(kind)}
        try:
            await sweep(kube, controller.book, used)
        except (*UNREACHABLE, KubeError) as error:
            log.warning("ledgers of namespaces that are gone are not looked for: %s", error)


async def sweep(kube: Kube, book: SpendBook, used: Container[str]) -> None:
    """Remove the ledgers of namespaces that do not exist; `used` are those that do.

    Raises:
        KubeError: ledgers or namespaces may not be read.
    """
    now = kube.clock.now().timestamp()
    for policy in await book.all():
        if policy.namespace in used or await _exists(kube, policy.namespace):
            continue
        try:
            spent = await book.read(policy, now)
        except LedgerUnreadableError as error:
            log.warning("%s", error, extra={"object": policy})
            continue
        _, day, month = spent.spent(now)
        said = "its namespace is gone: %.4f spent this UTC day, %.4f this month; its ledger is removed"
        log.info(said, day, month, extra={"object": policy})
        await book.remove(policy)


async def _exists(kube: Kube, namespace: str) -> bool:
    try:
        await kube.get(f"/api/v1/namespaces/{namespace}")
    except KubeError as error:
        if error.status == NOT_FOUND:
            return False
        raise
    return True
