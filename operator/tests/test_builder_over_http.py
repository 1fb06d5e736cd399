"""What the HTTP API says and does of environments that the builder has a graph for."""

import contextlib
from collections.abc import Iterator

import httpx
from fake_builder import Builder, fake_builder
from sandbox import wait
from serving import running, serving
from specs import component, spec

from turbo_operator.runtime import Operator
from turbo_operator.settings import Settings

_BY_HAND = {"name": "mine", "uid": "u", "resourceVersion": "1", "generation": 1}


@contextlib.contextmanager
def _synced(builder: Builder) -> Iterator[tuple[Operator, httpx.Client]]:
    """An operator in dev mode that has taken what the builder says, but for a graph of which there is one by hand."""
    settings = Settings(builder_url=builder.url, poll_interval_s=0.5)
    with running(settings) as operator, serving(operator) as client:
        operator._graphs.put({"metadata": _BY_HAND, "spec": spec(component("mine"), environment="mine")})
        yield operator, client


def test_r16_the_list_of_statuses_tells_what_one_status_tells() -> None:
    """Of a graph of the builder that could not be written both say so: a new environment, and one that exists."""
    with fake_builder() as builder, _synced(builder) as (operator, client):
        builder.say(
            spec(component("a"), environment="env-1"),
            spec(component("b"), environment="mine", build="build-9"),
            {**spec(component("c"), environment="broken"), "buildId": "\ud800"},
        )
        wait("the builder's graphs", lambda: len(operator._sync.refused if operator._sync else ()) == 2)
        listed = {each["environmentId"]: each for each in client.get("/v1/status").json()["environments"]}
        ones = {each: client.get(f"/v1/status/{each}").json() for each in ("env-1", "mine", "broken")}
    assert set(listed) == set(ones)
    assert "was made by hand" in listed["mine"]["message"]
    assert listed["mine"]["message"] == ones["mine"]["message"]
    for each in (listed["broken"], ones["broken"]):
        assert (each["phase"], each["conditions"][0]["type"]) == ("Failed", "Accepted")
        assert "surrogate" in each["conditions"][0]["message"]


def test_what_the_builder_would_bring_back_is_not_deleted() -> None:
    """DELETE of a graph that the builder still has is refused with what to do; of others it is done."""
    with fake_builder() as builder:
        builder.say(spec(component("a"), environment="env-1"))
        with _synced(builder) as (operator, client):
            wait("the builder's graph", lambda: operator._graphs.get("env-1") is not None)
            wait("the end of the poll", lambda: operator._sync is not None and operator._sync.serves("env-1"))
            reply = client.delete("/v1/environments/env-1")
            assert (reply.status_code, reply.json()["error"]["code"]) == (409, "builders")
            assert "environment manager" in reply.json()["error"]["message"]
            assert operator._graphs.get("env-1") is not None
            assert client.delete("/v1/environments/mine").status_code == 202
            builder.say(store="another, which lost what it had")
            wait("the news", lambda: operator._sync is not None and not operator._sync.serves("env-1"))
            assert client.delete("/v1/environments/env-1").status_code == 202
            wait("404", lambda: client.get("/v1/status/env-1").status_code == 404)
