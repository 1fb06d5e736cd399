"""The OpenAPI document of the HTTP API."""

from typing import Any

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}
_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_COMPONENT_STATUS = {
    "type": "object",
    "required": [
        "packageName",
        "packageVersion",
        "artifactHash",
        "phase",
        "replicas",
        "availableReplicas",
        "configMap",
        "service",
        "deployment",
    ],
    "properties": {
        "packageName": _TEXT,
        "packageVersion": _TEXT,
        "artifactHash": _TEXT,
        "phase": {
            "type": "string",
            "enum": ["Refused", "Conflict", "Failed", "Degraded", "Pending", "Deploying", "Running"],
        },
        "message": _TEXT,
        "replicas": _COUNT,
        "availableReplicas": _COUNT,
        "availableGeneration": {
            "type": "integer",
            "minimum": 0,
            "description": "generation of the Deployment if all its replicas were available at it, now or before",
        },
        "configMap": _TEXT,
        "service": _TEXT,
        "deployment": _TEXT,
    },
}
_STATUS = {
    "type": "object",
    "required": [
        "environmentId",
        "rootPackage",
        "buildId",
        "phase",
        "observedGeneration",
        "componentStatuses",
        "conditions",
    ],
    "properties": {
        "environmentId": _TEXT,
        "rootPackage": _TEXT,
        "buildId": {"type": "string", "description": "the build this status speaks of"},
        "phase": {
            "type": "string",
            "enum": ["Deleting", "Failed", "Degraded", "Reconciling", "Deploying", "Running"],
        },
        "message": _TEXT,
        "observedGeneration": _COUNT,
        "componentStatuses": {"type": "array", "items": _COMPONENT_STATUS},
        "conditions": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "status", "reason", "message", "observedGeneration", "lastTransitionTime"],
                "properties": {
                    "type": {
                        "type": "string",
                        "enum": ["Accepted", "Applied", "Ready", "Progressing", "Degraded"],
                    },
                    "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                    "reason": _TEXT,
                    "message": _TEXT,
                    "observedGeneration": _COUNT,
                    "lastTransitionTime": _TEXT,
                },
            },
        },
        "previewUrl": _TEXT,
    },
}
_ACTION = {
    "type": "object",
    "required": ["event", "seq", "environment_id", "action", "resource_kind", "resource_name", "outcome"],
    "properties": {
        "event": {"type": "string", "enum": ["operator.action"]},
        "time": _TEXT,
        "seq": {"type": "integer", "minimum": 1},
        "environment_id": _TEXT,
        "action": {"type": "string", "enum": ["Create", "Update", "Delete", "Conflict", "Refuse"]},
        "resource_kind": _TEXT,
        "resource_name": _TEXT,
        "fields": {"type": "array", "items": _TEXT},
        "reason": _TEXT,
        "outcome": {"type": "string", "enum": ["ok", "conflict", "failed", "unknown", "skipped"]},
        "http_status": _COUNT,
        "duration_ms": {"type": "number", "minimum": 0},
        "trace_id": _TEXT,
        "span_id": _TEXT,
    },
}
_STRINGS = {"type": "object", "additionalProperties": _TEXT}
_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
_SPEC = {
    "type": "object",
    "required": ["environmentId", "buildId", "rootPackage", "components"],
    "additionalProperties": False,
    "properties": {
        "environmentId": {"type": "string", "minLength": 1},
        "buildId": {"type": "string", "minLength": 1},
        "rootPackage": {"type": "string", "minLength": 1},
        "components": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["packageName", "packageVersion", "artifactHash"],
                "properties": {
                    "packageName": {"type": "string", "minLength": 1},
                    "packageVersion": _TEXT,
                    "artifactHash": _TEXT,
                    "kind": _TEXT,
                    "runtime": {
                        "type": "object",
                        "properties": {
                            "image": _TEXT,
                            "replicas": _COUNT,
                            "port": _PORT,
                            "env": _STRINGS,
                            "resources": {
                                "type": "object",
                                "properties": {"requests": _STRINGS, "limits": _STRINGS},
                            },
                            "annotations": _STRINGS,
                        },
                    },
                },
            },
        },
        "ingress": {
            "type": "object",
            "properties": {
                "host": _TEXT,
                "routes": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["path", "targetComponent"],
                        "properties": {"path": _TEXT, "targetComponent": _TEXT, "targetPort": _PORT},
                    },
                },
            },
        },
    },
}
_GATEWAY_CONFIG = {
    "type": "object",
    "required": ["routing", "poll_interval_secs"],
    "properties": {
        "routing": {
            "type": "object",
            "required": ["routes"],
            "properties": {
                "routes": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["path_prefix", "upstream_url", "strip_prefix", "timeout_ms"],
                        "properties": {
                            "path_prefix": _TEXT,
                            "upstream_url": _TEXT,
                            "strip_prefix": {"type": "boolean"},
                            "timeout_ms": _COUNT,
                        },
                    },
                }
            },
        },
        "poll_interval_secs": _COUNT,
    },
}
_CHECK = {
    "type": "object",
    "required": ["status"],
    "properties": {"status": _TEXT, "reason": _TEXT, "mode": _TEXT, "checks": _STRINGS},
}
_ID = {
    "name": "environmentId",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
}


def _operation(
    summary: str, answers: dict[int, dict[str, Any] | None], *, parameters: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    responses = {}
    for status, schema in answers.items():
        content = {"content": {"application/json": {"schema": schema}}} if schema is not None else {}
        responses[str(status)] = {"description": summary if status < 300 else "not that", **content}  # noqa: PLR2004
    return {"summary": summary, "parameters": parameters or [], "responses": responses}


def document() -> dict[str, Any]:
    """The document, as the code behaves."""
    actions = {
        "type": "object",
        "required": ["actions", "newest", "oldest", "instance", "started"],
        "properties": {
            "actions": {"type": "array", "items": _ACTION},
            "newest": {**_COUNT, "description": "seq of the newest action, whatever was asked for; 0 before the first"},
            "oldest": {**_COUNT, "description": "seq of the oldest action that is kept; what was before is in the log"},
            "instance": {"type": "string", "description": "host name, which is the pod's name"},
            "started": {"type": "string", "description": "when this process began to count; another began at 1 anew"},
        },
    }
    reconciled = {
        "type": "object",
        "required": ["actions", "status"],
        "properties": {"actions": {"type": "array", "items": _ACTION}, "status": _STATUS},
    }
    listed = {
        "type": "object",
        "required": ["environments"],
        "properties": {"environments": {"type": "array", "items": _STATUS}},
    }
    deleted = {
        "type": "object",
        "required": ["environmentId", "phase"],
        "properties": {"environmentId": _TEXT, "phase": _TEXT},
    }
    reconcile = _operation(
        "Write an environment's graph and carry it out",
        {200: reconciled, **dict.fromkeys((400, 409, 413, 415, 422, 503), _ERROR)},
    )
    reconcile["requestBody"] = {"required": True, "content": {"application/json": {"schema": _SPEC}}}
    query = [
        {"name": "since", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": 10**17}},
        {"name": "environment", "in": "query", "schema": _TEXT},
    ]
    poll = [{"name": name, "in": "header", "schema": _TEXT} for name in ("If-None-Match", "Prefer")]
    metrics = _operation("Prometheus metrics", {200: None})
    metrics["responses"]["200"]["content"] = {"text/plain": {"schema": _TEXT}}
    one = _operation("The status of an environment", {200: _STATUS, 404: _ERROR, 503: _ERROR}, parameters=[_ID])
    delete = _operation(
        "Delete an environment", {202: deleted, 404: _ERROR, 409: _ERROR, 503: _ERROR}, parameters=[_ID]
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Turbo Engine operator", "version": "1"},
        "paths": {
            "/v1/reconcile": {"post": reconcile},
            "/v1/status": {"get": _operation("The status of every environment", {200: listed, 503: _ERROR})},
            "/v1/status/{environmentId}": {"get": one},
            "/v1/gateway-config": {
                "get": _operation(
                    "The gateway's configuration", {200: _GATEWAY_CONFIG, 304: None, 503: _ERROR}, parameters=poll
                )
            },
            "/v1/actions": {
                "get": _operation("The newest finished actions", {200: actions, 400: _ERROR}, parameters=query)
            },
            "/v1/environments/{environmentId}": {"delete": delete},
            "/healthz": {"get": _operation("Whether the loop is alive", {200: _CHECK, 503: _CHECK})},
            "/readyz": {"get": _operation("Whether the caches are synced", {200: _CHECK, 503: _CHECK})},
            "/metrics": {"get": metrics},
            "/openapi.json": {"get": _operation("This document", {200: {"type": "object"}})},
        },
    }
