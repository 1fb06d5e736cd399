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


def test_routes_lead_to_what_runs_and_to_what_ran() -> None:
    """The gateway's table in full: a route to a refused component stays, with the port that could be read of it."""
    value = spec(
        component("@acme/users", port=81),
        component("sick", port=82, replicas=-1),
        ingress={
            "routes": [
                {"path": "/users", "targetComponent": "@acme/users"},
                {"path": "/sick", "targetComponent": "sick"},
                {"path": "/admin", "targetComponent": "sick", "targetPort": 99},
            ]
        },
    )
    upstreams = {
        "/admin": "http://svc-sick:99",
        "/sick": "http://svc-sick:82",
        "/users": "http://svc-acme-users-eb9df0b4:81",
    }
    assert gateway_config([("2026-01-01", graph_of(value))]) == {
        "routing": {
            "routes": [
                {"path_prefix": path, "upstream_url": upstream, "strip_prefix": True, "timeout_ms": 30_000}
                for path, upstream in upstreams.items()
            ]
        },
        "poll_interval_secs": 5,
    }


def test_environments_of_one_age_stand_in_the_order_of_their_ids() -> None:
    """Where prefix and creation time are equal, the environment id decides, not the order of the list."""
    made = []
    for environment, port in (("b", 1), ("a", 2)):
        routes = [{"path": "/", "targetComponent": "users", "targetPort": port}]
        made.append(("2026-01-01", graph_of(spec(component(), environment=environment, ingress={"routes": routes}))))
    config = gateway_config(made)
    assert config == gateway_config(reversed(made))
    assert [r["upstream_url"] for r in config["routing"]["routes"]] == ["http://svc-users:2", "http://svc-users:1"]


def test_without_routes_the_table_is_empty() -> None:
    """A graph without an ingress adds nothing."""
    assert gateway_config([("", graph_of(spec(component())))])["routing"] == {"routes": []}
