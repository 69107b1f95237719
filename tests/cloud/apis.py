"""RunPod's and Lambda's APIs as local HTTP servers that keep pods and instances in memory."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cloud.schemas import check

KEY = "a-key-of-the-provider"
#: Status, body, and headers.
Reply = tuple[int, Any, dict[str, str]]


@dataclass
class Api:
    """A provider's API that records its calls in order.

    Attributes:
        refusals: replies that come before any work is done.
    """

    calls: list[tuple[str, str]] = field(default_factory=list)
    refusals: list[Reply] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)
    things: dict[str, dict[str, Any]] = field(default_factory=dict)
    bodies: list[Any] = field(default_factory=list)
    _address: str = ""

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve, and return the address; a request that the API would not take fails the test."""
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                status, body, headers = api.take(self)
                text = b"" if body is None else json.dumps(body).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_DELETE = handle_any

            def log_message(self, *_: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
        assert self.faults == []

    def take(self, request: http.server.BaseHTTPRequestHandler) -> Reply:
        length = int(request.headers.get("Content-Length", 0))
        body = json.loads(request.rfile.read(length)) if length else None
        self.calls.append((request.command, request.path))
        self.bodies.append(body)
        try:
            assert request.headers["Authorization"] == f"Bearer {KEY}"
            if self.refusals:
                return self.refusals.pop(0)
            return self.respond(request.command, request.path, body)
        except BaseException as fault:
            self.faults.append(fault)
            return 500, None, {}

    def respond(self, method: str, path: str, body: Any) -> Reply:
        raise NotImplementedError


class RunPodApi(Api):
    """Pods that stop after a request to stop and one poll."""

    def respond(self, method: str, path: str, body: Any) -> Reply:
        parts = path.split("/")[2:]
        match method, parts:
            case "GET", ["pods"]:
                return self._good("ListPodsResponse", {"pods": list(self.things.values())})
            case "POST", ["pods"]:
                check("RUNPOD_OPENAPI", "CreatePodRequest", body)
                return self._good("Pod", self.add_pod(body), 201)
            case "POST", ["network-volumes"]:
                check("RUNPOD_OPENAPI", "CreateNetworkVolumeRequest", body)
                volume = {**body, "id": "volume-1", "type": "STANDARD"}
                return self._good("NetworkVolume", volume, 201)
            case "GET", ["catalog", "gpus"]:
                return self._good("ListGpuTypesResponse", {"gpus": GPU_TYPES})
            case method, ["pods", pod_id, *rest] if pod_id in self.things:
                return self._of_pod(method, self.things[pod_id], rest, body)
        problem = {"title": "Not Found", "status": 404, "detail": "pod not found"}
        return 404, problem, {}

    def add_pod(self, body: dict[str, Any], **changes: Any) -> dict[str, Any]:
        number = len(self.things)
        pod = {
            **{"args": "", "registry": None, "ports": [], "cloud": "SECURE", "env": {}},
            **{
                "mounts": {},
                "disk": 20,
                "actions": ["stop", "terminate"],
                "ssh": {"proxy": None, "direct": None},
            },
            **{"dataCenterId": "US-KS-2", "cudaVersion": None, "template": None, "cost": 3.99},
            **{"locked": False, "runtime": None, "globalNetworking": {"enabled": False}},
            **{"id": f"pod{number}", "status": "RUNNING", "startedAt": None},
            **{"createdAt": f"2026-11-25T00:00:{number:02}Z", **body, **changes},
        }
        self.things[str(pod["id"])] = pod
        return pod

    def _of_pod(self, method: str, pod: dict[str, Any], rest: list[str], body: Any) -> Reply:
        if (method, rest) == ("POST", ["action"]):
            check("RUNPOD_OPENAPI", "PodActionRequest", body)
            if pod["status"] != "RUNNING":
                return 409, {"title": "Conflict", "status": 409, "detail": "not running"}, {}
            pod["stops"] = True
            return self._good("Pod", pod)
        if (method, rest) == ("DELETE", []):
            del self.things[str(pod["id"])]
            return 204, None, {}
        found = dict(pod)
        if pod.get("stops"):
            pod["status"] = "EXITED"
        return self._good("Pod", found)

    def _good(self, name: str, value: Any, status: int = 200) -> Reply:
        check("RUNPOD_OPENAPI", name, value)
        return status, value, {}


class LambdaApi(Api):
    def respond(self, method: str, path: str, body: Any) -> Reply:
        match method, path.removeprefix("/api/v1/"):
            case "GET", "instances":
                return self._good("Instance", list(self.things.values()))
            case "POST", "instance-operations/launch":
                check("LAMBDA_OPENAPI", "InstanceLaunchRequest", body)
                ids = {"instance_ids": [self.add_instance(body["name"])]}
                return self._good("InstanceLaunchResponse", ids)
            case "POST", "instance-operations/terminate":
                check("LAMBDA_OPENAPI", "InstanceTerminateRequest", body)
                ended = [self.things.pop(it) for it in body["instance_ids"]]
                return self._good("InstanceTerminateResponse", {"terminated_instances": ended})
            case "POST", "filesystems":
                check("LAMBDA_OPENAPI", "FilesystemCreateRequest", body)
                return self._good("Filesystem", {**FILE_SYSTEM, "name": body["name"]})
            case "GET", "instance-types":
                item = {"instance_type": INSTANCE_TYPE, "regions_with_capacity_available": []}
                return self._good("InstanceTypes", {"gpu_1x_h100_sxm5": item})
        error = {"code": "global/not-found", "message": "There is no such thing."}
        return 404, {"error": error}, {}

    def add_instance(self, name: str, status: str = "active", ip: str = "127.0.0.1") -> str:
        instance_id = f"instance{len(self.things)}"
        can = {"available": True}
        self.things[instance_id] = {
            **{"id": instance_id, "name": name, "status": status, "ip": ip},
            **{"ssh_key_names": ["k"], "file_system_names": ["bountycoder"]},
            **{"region": REGION, "instance_type": INSTANCE_TYPE},
            "actions": dict.fromkeys(
                ["migrate", "rebuild", "restart", "cold_reboot", "terminate"], can
            ),
        }
        return instance_id

    def _good(self, name: str, value: Any) -> Reply:
        for one in value if isinstance(value, list) else [value]:
            check("LAMBDA_OPENAPI", name, one)
        return 200, {"data": value}, {}


REGION = {"name": "us-east-1", "description": "Virginia, USA"}
INSTANCE_TYPE = {
    "name": "gpu_1x_h100_sxm5",
    "description": "1x H100 (80 GB SXM5)",
    "gpu_description": "H100 (80 GB SXM5)",
    "price_cents_per_hour": 429,
    "specs": {"vcpus": 26, "memory_gib": 225, "storage_gib": 2816, "gpus": 1},
}
FILE_SYSTEM = {
    "id": "f1",
    "name": "bountycoder",
    "mount_point": "/lambda/nfs/bountycoder",
    "created": "2026-11-25T00:00:00Z",
    "created_by": {"id": "u1", "email": "a@example.com", "status": "active"},
    "is_in_use": False,
    "region": REGION,
}
GPU_TYPES = [
    {
        **{"id": "NVIDIA H100 80GB HBM3", "name": "H100 SXM", "pool": None},
        **{"manufacturer": "NVIDIA", "memory": 80, "secure": True, "community": False},
        "price": {"secure": 3.99, "community": 2.69},
        "maxCount": {"secure": 8, "community": 8},
    }
]

#: Stands for a value that the operator must fill in.
YOURS = "YOUR-"


def filled(source: Path, directory: Path) -> Path:
    """Copy a file of the repository, with everything in it that must be replaced."""
    copy = directory / source.name
    copy.write_text(source.read_text().replace(YOURS, "my-"))
    return copy
