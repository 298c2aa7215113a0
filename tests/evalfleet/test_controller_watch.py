"""What the watches ask the API server for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from small_api_server import SmallServer, small_server

from evalfleet.controller.watch import Watcher

RESOURCES = {
    "/api/v1": [("pods", "Pod"), ("namespaces", "Namespace")],
    "/apis/apiextensions.k8s.io/v1": [("customresourcedefinitions", "CustomResourceDefinition")],
    "/apis/batch/v1": [("jobs", "Job")],
    "/apis/evalfleet.io/v1alpha1": [("evaluationjobs", "EvaluationJob"), ("scalingpolicies", "ScalingPolicy")],
}
VERBS = ["get", "list", "watch", "patch"]


def discovery(path: str) -> dict[str, Any] | None:
    """The answers of an API server that tell what it serves."""
    if path == "/api":
        return {"versions": ["v1"]}
    if path == "/apis":
        named = [name.split("/")[2:] for name in RESOURCES if name.startswith("/apis")]
        versions = [(group, {"groupVersion": f"{group}/{version}", "version": version}) for group, version in named]
        return {"groups": [{"name": g, "versions": [v], "preferredVersion": v} for g, v in versions]}
    if path in RESOURCES:
        kinds = RESOURCES[path]
        return {
            "groupVersion": path,
            "resources": [
                {"name": plural, "kind": kind, "singularName": "", "namespaced": True, "verbs": VERBS}
                for plural, kind in kinds
            ],
        }
    return None


@asynccontextmanager
async def watching(folder: Path, environment: pytest.MonkeyPatch) -> AsyncIterator[tuple[SmallServer, Watcher]]:
    """A watcher that is not started yet, and the API server of its kubeconfig."""
    async with small_server() as (server, _):

        def answer(method: str, path: str, body: Any) -> web.Response | None:
            found = discovery(urlsplit(path).path)
            return web.json_response(found) if found is not None else None

        server.refuse = answer
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(
            f"""
apiVersion: v1
kind: Config
clusters: [{{name: a, cluster: {{server: "http://127.0.0.1:{server.port}"}}}}]
users: [{{name: a, user: {{token: t}}}}]
contexts: [{{name: a, context: {{cluster: a, user: a}}}}]
current-context: a
"""
        )
        environment.setenv("KUBECONFIG", str(kubeconfig))
        watcher = Watcher((), asyncio.get_running_loop(), lambda *_: None)
        yield server, watcher
        await asyncio.to_thread(watcher.stop)


async def test_only_our_own_pods_and_jobs_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watching(tmp_path, monkeypatch) as (server, watcher):
        watcher.start()
        asked: dict[str, str] = {}
        while len(asked) < 4:
            await asyncio.sleep(0.05)
            assert watcher.alive, watcher.error
            for _, path in list(server.calls):
                parts = urlsplit(path)
                kind = parts.path.rpartition("/")[2]
                if kind in ("pods", "jobs", "evaluationjobs", "scalingpolicies"):
                    asked[kind] = parse_qs(parts.query).get("labelSelector", [""])[0]
    ours = "app.kubernetes.io/managed-by=evalfleet"
    assert asked == {"pods": ours, "jobs": ours, "evaluationjobs": "", "scalingpolicies": ""}


async def test_a_watch_that_the_api_server_ends_with_an_error_ends_the_watcher_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching(tmp_path, monkeypatch) as (server, watcher):
        status = {"kind": "Status", "code": 500, "message": "etcd is gone"}
        server.events = [{"type": "ERROR", "object": status}]
        watcher.start()
        for _ in range(1200):  # a thread that hangs is a failure, not a test that hangs
            if not watcher.alive:
                break
            await asyncio.sleep(0.05)
        assert not watcher.alive
        assert "etcd is gone" in str(watcher.error)
