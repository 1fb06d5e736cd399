"""The gateway's routes."""

from typing import Any

from specs import component, graph_of, spec

from turbo_operator.core.gateway_config import gateway_config
from turbo_operator.core.graph import Graph


def test_gateway_config_is_sorted_and_the_older_environment_comes_first() -> None:
    """Routes lead to the component's Service and port; of equal prefixes the older environment's stands first."""

    def one(environment: str, port: int) -> Graph:
        routes = [{"path": "/users/", "targetComponent": "users", "targetPort": port}]
        routes.append({"path": "/", "targetComponent": "users"})
        return graph_of(spec(component(port=81), environment=environment, ingress={"routes": routes}))

    config: dict[str, Any] = gateway_config([("2026-01-02", one("a", 2)), ("2026-01-01", one("z", 1))])
    assert [(r["path_prefix"], r["upstream_url"]) for r in config["routing"]["routes"]] == [
        ("/", "http://svc-users:81"),
        ("/", "http://svc-users:81"),
        ("/users", "http://svc-users:1"),
        ("/users", "http://svc-users:2"),
    ]
    assert config["poll_interval_secs"] == 5
    assert config["routing"]["routes"][0].keys() == {"path_prefix", "upstream_url", "strip_prefix", "timeout_ms"}
