"""Graphs -> the gateway's route table."""

from collections.abc import Iterable
from typing import Any

from turbo_operator.core import names
from turbo_operator.core.graph import Graph

_TIMEOUT_MS = 30_000
_POLL_INTERVAL_S = 5


def gateway_config(graphs: Iterable[tuple[str, Graph]]) -> dict[str, Any]:
    """The configuration of the gateway for all graphs.

    Routes are sorted by prefix. Of two environments with the same prefix the older one's route stands first, which is
    the one the gateway takes. Routes to refused components stay: what runs of them keeps its address.

    Args:
        graphs: (creation time as RFC 3339, graph) of each environment, in any order.
    """
    rows = []
    for created, graph in graphs:
        own_ports = {component.package_name: (component.name, component.port) for component in graph.components}
        own_ports |= {refused.package_name: (refused.name, refused.port) for refused in graph.refused}
        for route in graph.routes:
            component, port = own_ports[route.target]
            upstream = f"http://{names.PREFIXES['Service']}{component}:{route.port or port}"
            rows.append((route.path, created, graph.environment_id, upstream))
    return {
        "routing": {
            "routes": [
                {"path_prefix": path, "upstream_url": upstream, "strip_prefix": True, "timeout_ms": _TIMEOUT_MS}
                for path, _, _, upstream in sorted(rows)
            ]
        },
        "poll_interval_secs": _POLL_INTERVAL_S,
    }
