"""Pods on host nodes behave as pods do: real processes, real API server."""

import base64
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cluster_client import ApiError, Client
from host_pods import container_state, ended, pod, python, running

from evalfleet.local.cluster import LocalCluster

pytestmark = pytest.mark.cluster

Object = dict[str, Any]


class Namespace:
    """Creates pods in one namespace and reads them back."""

    def __init__(self, client: Client, name: str) -> None:
        self.client, self.name = client, name

    def path(self, kind: str, name: str = "") -> str:
        return f"/api/v1/namespaces/{self.name}/{kind}" + (f"/{name}" if name else "")

    def create(self, kind: str, body: Object) -> None:
        self.client.create(self.path(kind), body)

    def run(self, body: Object) -> Object:
        """Create a pod and wait for its end."""
        self.create("pods", body)
        return self.client.wait(self.path("pods", body["metadata"]["name"]), ended)

    def logs(self, name: str, query: str = "") -> str:
        return self.client.text(self.path("pods", name) + "/log" + query)

    def wait_for_log(self, name: str, text: str) -> str:
        return self.client.wait_for_text(self.path("pods", name) + "/log", text)


@pytest.fixture
def space(cluster_client: Client, namespace: str) -> Namespace:
    return Namespace(cluster_client, namespace)


@pytest.mark.parametrize(("code", "phase", "reason"), [(0, "Succeeded", "Completed"), (75, "Failed", "Error")])
def test_exit_codes_become_phases(space: Namespace, code: int, phase: str, reason: str) -> None:
    found = space.run(pod("exit", python(f"raise SystemExit({code})")))
    assert found["status"]["phase"] == phase
    terminated = container_state(found)["terminated"]
    assert (terminated["exitCode"], terminated["reason"]) == (code, reason)
    ready = next(item for item in found["status"]["conditions"] if item["type"] == "Ready")
    assert ready["status"] == "False"


def test_a_killed_process_counts_as_128_plus_its_signal(space: Namespace, shared_cluster: LocalCluster) -> None:
    space.create("pods", pod("victim", python("import time; time.sleep(600)")))
    space.client.wait(space.path("pods", "victim"), running)
    os.kill(shared_cluster.pod_pids("victim", space.name)["main"], signal.SIGKILL)
    found = space.client.wait(space.path("pods", "victim"), ended)
    terminated = container_state(found)["terminated"]
    assert (terminated["exitCode"], terminated["reason"]) == (137, "Error")


def test_memory_above_the_limit_is_an_out_of_memory_kill(space: Namespace) -> None:
    code = "import time; data = bytearray(200 * 2**20); data[::4096] = b'x' * len(data[::4096]); time.sleep(600)"
    found = space.run(pod("hungry", python(code, resources={"limits": {"memory": "100Mi"}})))
    terminated = container_state(found)["terminated"]
    assert (terminated["exitCode"], terminated["reason"]) == (137, "OOMKilled")
    assert found["status"]["phase"] == "Failed"


def test_environment_comes_from_values_fields_config_maps_and_secrets(space: Namespace) -> None:
    secret = base64.b64encode("señal".encode()).decode()
    space.create("configmaps", {"metadata": {"name": "settings"}, "data": {"COLOR": "blue"}})
    space.create("secrets", {"metadata": {"name": "keys"}, "data": {"token": secret}})
    env = [
        {"name": "FIRST", "value": "1"},
        {"name": "SECOND", "value": "$(FIRST)2 $(UNKNOWN) $$(FIRST)"},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
        {"name": "MISSING", "valueFrom": {"secretKeyRef": {"name": "none", "key": "token", "optional": True}}},
    ]
    names = ["FIRST", "SECOND", "IP", "APP", "TOKEN", "MISSING", "COLOR"]
    code = f"import os, json; print(json.dumps([os.environ.get(n) for n in {names}]))"
    container = python(code, env=env, envFrom=[{"configMapRef": {"name": "settings"}}])
    found = space.run(pod("env", container))
    printed = json.loads(space.logs("env"))
    assert printed == ["1", "12 $(UNKNOWN) $(FIRST)", found["status"]["podIP"], "env", "señal", None, "blue"]


def test_volumes_are_found_where_the_environment_says(space: Namespace) -> None:
    binary = bytes(range(256))
    space.create("configmaps", {"metadata": {"name": "files"}, "data": {"a.txt": "alpha", "b.txt": "beta"}})
    space.create("secrets", {"metadata": {"name": "key"}, "data": {"raw": base64.b64encode(binary).decode()}})
    volumes = [
        {"name": "scratch", "emptyDir": {}},
        {"name": "config", "configMap": {"name": "files", "items": [{"key": "a.txt", "path": "sub/one.txt"}]}},
        {"name": "secret", "secret": {"secretName": "key"}},
    ]
    mounts = [
        {"name": "scratch", "mountPath": "/work"},
        {"name": "config", "mountPath": "/work/config"},
        {"name": "secret", "mountPath": "/secret"},
    ]
    env = [{"name": "SECRET", "value": "/secret/raw"}, {"name": "STORE", "value": "file:///work/store"}]
    writer = python(
        "import os, sys, pathlib\n"
        "store = pathlib.Path(os.environ['STORE'].removeprefix('file://')); store.mkdir()\n"
        "one = pathlib.Path(sys.argv[1].split('=')[1], 'sub', 'one.txt').read_text()\n"
        "raw = pathlib.Path(os.environ['SECRET']).read_bytes()\n"
        "(store / 'out').write_text(one + str(raw == bytes(range(256))))\n",
        args=["--config=/work/config"],
        volumeMounts=mounts,
        env=env,
    )
    reader = python(
        "import sys; print(open(sys.argv[1]).read(), end='')", args=["/work/store/out"], volumeMounts=mounts[:1]
    )
    found = space.run(pod("volumes", {**reader, "name": "reader"}, initContainers=[writer], volumes=volumes))
    assert found["status"]["phase"] == "Succeeded", found["status"]
    assert space.logs("volumes", "?container=reader") == "alphaTrue"


def test_a_claimed_volume_is_shared_between_pods(space: Namespace, tmp_path: Path) -> None:
    volume = f"store-{space.name}"
    size = {"storage": "1Gi"}
    space.client.create(
        "/api/v1/persistentvolumes",
        {
            "metadata": {"name": volume},
            "spec": {
                "capacity": size,
                "accessModes": ["ReadWriteMany"],
                "hostPath": {"path": str(tmp_path / "shared"), "type": "DirectoryOrCreate"},
                "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": space.name, "name": "store"},
            },
        },
    )
    claim = {"accessModes": ["ReadWriteMany"], "storageClassName": "", "resources": {"requests": size}}
    space.create("persistentvolumeclaims", {"metadata": {"name": "store"}, "spec": {**claim, "volumeName": volume}})
    mounted = {"volumeMounts": [{"name": "store", "mountPath": "/store"}], "args": ["/store/x"]}
    volumes = [{"name": "store", "persistentVolumeClaim": {"claimName": "store"}}]
    space.run(pod("write", python("import sys; open(sys.argv[1], 'w').write('kept')", **mounted), volumes=volumes))
    space.run(pod("read", python("import sys; print(open(sys.argv[1]).read())", **mounted), volumes=volumes))
    assert space.logs("read") == "kept\n"
    space.client.delete(f"/api/v1/persistentvolumes/{volume}")


def test_a_deleted_pod_gets_sigterm_and_its_grace(space: Namespace) -> None:
    code = (
        "import signal, sys, time\n"
        "def stop(*_): open(sys.argv[1], 'w').write('saved my work'); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop); print('up', flush=True); time.sleep(600)"
    )
    body = pod("graceful", python(code, args=["/dev/termination-log"]))
    # The finalizer keeps the object, so that its last status can be read after the deletion.
    body["metadata"]["finalizers"] = ["evalfleet.io/test"]
    space.create("pods", body)
    path = space.path("pods", "graceful")
    space.client.wait(path, running)
    space.wait_for_log("graceful", "up")
    space.client.delete(path)
    terminated = container_state(space.client.wait(path, ended))["terminated"]
    assert (terminated["exitCode"], terminated["message"]) == (143, "saved my work")
    space.client.patch(path, {"metadata": {"finalizers": None}})
    space.client.wait(path, lambda found: not found)


def test_a_pod_that_ignores_sigterm_is_killed_with_all_its_children(
    space: Namespace, shared_cluster: LocalCluster
) -> None:
    code = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    space.create("pods", pod("stubborn", python(code)))
    path = space.path("pods", "stubborn")
    space.client.wait(path, running)
    child = int(space.wait_for_log("stubborn", "\n"))
    parent = shared_cluster.pod_pids("stubborn", space.name)["main"]
    space.client.delete(path, gracePeriodSeconds=1)
    space.client.wait(path, lambda found: not found)
    assert not _alive(parent)
    assert not _alive(child)


def test_restart_policy_on_failure_starts_the_container_again(space: Namespace) -> None:
    code = (
        "import os, sys, pathlib\n"
        "mark = pathlib.Path(sys.argv[1])\n"
        "sys.exit(0) if mark.exists() else (mark.touch(), sys.exit(3))"
    )
    container = python(code, args=["/work/mark"], volumeMounts=[{"name": "work", "mountPath": "/work"}])
    body = pod("again", container, restartPolicy="OnFailure", volumes=[{"name": "work", "emptyDir": {}}])
    status = space.run(body)["status"]
    assert status["phase"] == "Succeeded"
    container_status = status["containerStatuses"][0]
    assert container_status["restartCount"] == 1
    assert container_status["lastState"]["terminated"]["exitCode"] == 3


def test_a_mount_path_that_is_a_folder_of_this_machine_does_not_move_the_working_directory(
    space: Namespace, shared_cluster: LocalCluster
) -> None:
    top = f"/{shared_cluster.folder.parts[1]}"
    container = python("print('started')", volumeMounts=[{"name": "scratch", "mountPath": top}])
    space.run(pod("shadowed", container, volumes=[{"name": "scratch", "emptyDir": {}}]))
    assert space.logs("shadowed") == "started\n"


def test_a_container_that_keeps_failing_backs_off(space: Namespace) -> None:
    space.create("pods", pod("loop", python("raise SystemExit(1)"), restartPolicy="Always"))
    path = space.path("pods", "loop")
    found = space.client.wait(path, lambda p: container_state(p).get("waiting", {}).get("reason") == "CrashLoopBackOff")
    assert found["status"]["phase"] == "Running"
    space.client.delete(path)
    space.client.wait(path, lambda found: not found)


@pytest.mark.parametrize(
    ("container", "state", "reason"),
    [
        ({**python("pass"), "image": "docker.io/library/nginx:1"}, "waiting", "ImagePullBackOff"),
        ({**python("pass"), "command": ["no-such-program"]}, "terminated", "StartError"),
        ({**python("pass"), "command": ["/no/such/program"]}, "terminated", "StartError"),
        (
            python("pass", env=[{"name": "X", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k"}}}]),
            "waiting",
            "CreateContainerConfigError",
        ),
    ],
    ids=["other image", "unknown command", "unknown path", "missing secret"],
)
def test_what_cannot_start_says_why(space: Namespace, container: Object, state: str, reason: str) -> None:
    space.create("pods", pod("broken", container))
    path = space.path("pods", "broken")
    found = space.client.wait(path, lambda p: container_state(p).get(state, {}).get("reason") == reason)
    assert found["status"]["phase"] == ("Failed" if state == "terminated" else "Pending")
    if state == "terminated":
        assert container_state(found)["terminated"]["exitCode"] == 128
    space.client.delete(path)
    space.client.wait(path, lambda found: not found)


def test_a_missing_secret_volume_is_an_event_and_starts_when_it_appears(space: Namespace) -> None:
    container = python("import sys; print(open(sys.argv[1]).read())", args=["/s/k"])
    container["volumeMounts"] = [{"name": "s", "mountPath": "/s"}]
    space.create("pods", pod("later", container, volumes=[{"name": "s", "secret": {"secretName": "late"}}]))
    space.client.wait(
        space.path("events"),
        lambda events: any(
            item["reason"] == "FailedMount" and 'secret "late" not found' in item["message"] for item in events["items"]
        ),
    )
    space.create("secrets", {"metadata": {"name": "late"}, "data": {"k": base64.b64encode(b"here").decode()}})
    assert space.client.wait(space.path("pods", "later"), ended)["status"]["phase"] == "Succeeded"
    assert space.logs("later") == "here\n"


def test_every_pod_has_an_address_of_its_own_to_listen_on(space: Namespace) -> None:
    code = (
        "import os, http.server\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "  def do_GET(self):\n"
        "    self.send_response(200); self.end_headers(); self.wfile.write(os.environ['NAME'].encode())\n"
        "http.server.HTTPServer((os.environ['POD_IP'], 18080), H).serve_forever()"
    )
    env = [
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]
    for name in ("one", "two"):
        space.create("pods", pod(name, python(code, env=env)))
    for name in ("one", "two"):
        found = space.client.wait(space.path("pods", name), running)
        address = f"http://{found['status']['podIP']}:18080/"
        argv = ["curl", "-s", "--retry", "20", "--retry-connrefused", "--retry-delay", "1", address]
        assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == name
        space.client.delete(space.path("pods", name), gracePeriodSeconds=0)


def test_a_pod_past_its_active_deadline_fails(space: Namespace) -> None:
    body = pod("slow", python("import time; time.sleep(600)"), activeDeadlineSeconds=1)
    assert space.run(body)["status"]["reason"] == "DeadlineExceeded"


def test_a_pod_that_trips_the_node_fails_with_the_fault_and_harms_no_other(space: Namespace) -> None:
    # A name longer than a file name may be: the node cannot keep its files.
    mounts = [{"name": "w", "mountPath": "/w", "subPath": "x" * 300}]
    body = pod("tripping", python("pass", volumeMounts=mounts), volumes=[{"name": "w", "emptyDir": {}}])
    found = space.run(body)
    assert found["status"]["reason"] == "HostNodeFault"
    assert "File name too long" in found["status"]["message"]
    assert space.run(pod("next", python("pass")))["status"]["phase"] == "Succeeded"


def test_logs_can_be_tailed_and_read_of_the_previous_start(space: Namespace) -> None:
    code = "import sys, pathlib\np = pathlib.Path(sys.argv[1]); n = len(p.read_text()) if p.exists() else 0\n"
    code += "p.write_text('x' * (n + 1)); print(f'start {n}'); print('last line'); sys.exit(1 if n == 0 else 0)"
    container = python(code, args=["/w/n"], volumeMounts=[{"name": "w", "mountPath": "/w"}])
    space.run(pod("twice", container, restartPolicy="OnFailure", volumes=[{"name": "w", "emptyDir": {}}]))
    assert space.logs("twice") == "start 1\nlast line\n"
    assert space.logs("twice", "?previous=true") == "start 0\nlast line\n"
    assert space.logs("twice", "?tailLines=1") == "last line\n"
    with pytest.raises(ApiError, match="host nodes do not support timestamps"):
        space.client.get(space.path("pods", "twice") + "/log?timestamps=true")


def test_a_followed_log_ends_with_the_pod(space: Namespace) -> None:
    space.create("pods", pod("talker", python("import time; print('one', flush=True); time.sleep(1); print('two')")))
    space.wait_for_log("talker", "one")
    assert space.logs("talker", "?follow=true") == "one\ntwo\n"


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
