"""A small synchronous JSON client for tests against a local cluster."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Object = dict[str, Any]
TIMEOUT_SECONDS = 60.0
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
"""Kinds of patches: whole lists are replaced, or those of the built-in kinds are merged by their keys."""


class ApiError(AssertionError):
    """The API server answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Client:
    """`get`, `create`, `patch`, `delete` on paths, and `wait` for a condition."""

    def __init__(self, kubeconfig: Path) -> None:
        # Imported by those who use it: the package takes seconds, and every test session collects this file.
        from kubernetes import config

        self._api = config.new_client_from_config(str(kubeconfig))

    def get(self, path: str) -> Object:
        return self._call("GET", path)

    def find(self, path: str) -> Object | None:
        try:
            return self.get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def create(self, path: str, body: Object) -> Object:
        return self._call("POST", path, body)

    def patch(self, path: str, body: Object, kind: str = MERGE) -> Object:
        return self._call("PATCH", path, body, kind)

    def delete(self, path: str, **options: Any) -> None:
        self._call("DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1", **options})

    def wait(self, path: str, until: Callable[[Object], bool], timeout: float = TIMEOUT_SECONDS) -> Object:
        """The object as soon as `until` holds for it; a gone object counts as `{}`."""
        deadline = time.monotonic() + timeout
        found: Object = {}
        while time.monotonic() < deadline:
            found = self.find(path) or {}
            if until(found):
                return found
            time.sleep(0.05)
        raise AssertionError(f"{path} did not get there in {timeout:.0f} s: {json.dumps(found.get('status', found))}")

    def wait_for_text(self, path: str, text: str, timeout: float = TIMEOUT_SECONDS) -> str:
        """The body of `path` as soon as it contains `text`."""
        deadline = time.monotonic() + timeout
        while text not in (found := self.text(path)):
            if time.monotonic() > deadline:
                raise AssertionError(f"{text!r} never appeared in {path}: {found[-500:]}")
            time.sleep(0.05)
        return found

    def create_namespace(self, name: str) -> None:
        self.create("/api/v1/namespaces", {"metadata": {"name": name}})
        self.wait(f"/api/v1/namespaces/{name}/serviceaccounts/default", bool)

    def _call(self, method: str, path: str, body: Object | None = None, kind: str = "application/json") -> Object:
        headers = {"Content-Type": kind, "Accept": "application/json"}
        token = self._api.configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        if token:  # the plain call sends none
            headers["Authorization"] = token
        url = self._api.configuration.host + path
        response = self._api.call_api(method, url, header_params=headers, body=body, _request_timeout=30)
        data = response.read()
        if response.status >= 400:
            raise ApiError(response.status, data.decode(errors="replace"))
        return json.loads(data)

    def text(self, path: str) -> str:
        """Body of an answer that is not JSON; empty while the server refuses it."""
        headers = {"Accept": "*/*"}
        response = self._api.call_api("GET", self._api.configuration.host + path, headers, _request_timeout=30)
        data = response.read()
        return data.decode() if response.status < 400 else ""
