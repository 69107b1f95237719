"""The fields that we send to the providers' APIs, as their OpenAPI documents have them.

We may not keep those documents. If `RUNPOD_OPENAPI` and `LAMBDA_OPENAPI` name files with them,
these tests check every request and every response of their servers against them.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs

Schema = dict[str, Any]


def _object(required: list[str], **properties: Any) -> Schema:
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


_TEXT = {"type": "string", "minLength": 1}
_REGION = {"enum": ["us-east-1", "us-west-1", "us-west-2", "us-south-1", "europe-central-1"]}

#: Of RunPod's version 2, and of Lambda's version 1.
TAKEN: dict[str, dict[str, Schema]] = {
    "RUNPOD_OPENAPI": {
        "CreatePodRequest": _object(
            ["name", "image", "gpu"],
            name=_TEXT,
            image=_TEXT,
            registry={"type": ["string", "null"]},
            cloud={"enum": ["SECURE", "COMMUNITY"]},
            dataCenterIds={"type": "array", "items": _TEXT},
            disk={"type": "integer", "minimum": 1},
            env={"type": "object", "additionalProperties": {"type": "string"}},
            gpu=_object(
                ["id"],
                id=_TEXT,
                count={"type": "integer", "minimum": 1},
                minCudaVersion={"type": "string", "pattern": r"^\d+\.\d+$"},
            ),
            mounts=_object(
                [],
                network={
                    "type": "array",
                    "maxItems": 1,
                    "items": _object(["volumeId", "path"], volumeId=_TEXT, path=_TEXT),
                },
            ),
        ),
        "PodActionRequest": _object(
            ["action"], action={"enum": ["start", "stop", "restart", "terminate"]}
        ),
        "CreateNetworkVolumeRequest": _object(
            ["name", "size", "dataCenter"],
            name=_TEXT,
            size={"type": "integer", "minimum": 10, "maximum": 4096},
            dataCenter=_TEXT,
        ),
    },
    "LAMBDA_OPENAPI": {
        "InstanceLaunchRequest": _object(
            ["region_name", "instance_type_name", "ssh_key_names"],
            region_name=_REGION,
            instance_type_name=_TEXT,
            ssh_key_names={"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 1},
            file_system_names={"type": "array", "items": _TEXT},
            name={"type": "string", "maxLength": 64},
            user_data={"type": "string", "maxLength": 1_000_000},
        ),
        "InstanceTerminateRequest": _object(
            ["instance_ids"], instance_ids={"type": "array", "items": _TEXT}
        ),
        "FilesystemCreateRequest": _object(
            ["name", "region"],
            name={"type": "string", "maxLength": 60, "pattern": "^[a-zA-Z]+[0-9a-zA-Z-]*$"},
            region=_REGION,
        ),
    },
}


def check(provider: str, name: str, value: Any) -> None:
    """Hold a value against a schema of the provider; of ours there are those of requests alone."""
    schemas = [TAKEN[provider].get(name), _published(provider, name)]
    for schema in filter(None, schemas):
        faults = [error.message for error in jsonschema_rs.iter_errors(schema, value)]
        assert faults == [], (name, faults)


@cache
def _published(provider: str, name: str) -> Any:
    file = os.environ.get(provider)
    if not file:
        return None
    document = json.loads(Path(file).read_text())
    return {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
