"""What all services have in common: health, errors, OpenAPI, settings, packaging."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from turbo_services.builder.app import BuilderSettings
from turbo_services.common.settings import SettingsError, load

from .conftest import Platform

SERVICES = ("registry", "builder", "envmanager", "gateway", "console", "petstore", "orchestrator")
ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "services" / "src" / "turbo_services"


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_health_metrics_and_openapi(platform: Platform, name: str) -> None:
    """The four pages of operation answer on each service."""
    http = getattr(platform, name).http
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").status_code == 200
    assert "http_requests_total" in http.get("/metrics").text
    assert http.get("/openapi.json").json()["openapi"] == "3.1.0"


@pytest.mark.parametrize(
    ("service", "method", "path", "content", "headers", "status"),
    [
        ("registry", "POST", "/v1/packages", b"{", {"content-type": "application/json"}, 400),
        ("registry", "POST", "/v1/packages", b"[]", {"content-type": "application/json"}, 400),
        ("registry", "POST", "/v1/packages", b"", {}, 400),
        ("registry", "POST", "/v1/packages", b'{"pakage": {}}', {"content-type": "application/json"}, 400),
        ("registry", "POST", "/v1/packages", b"\xff", {"content-type": "application/json; charset=utf-8"}, 400),
        ("registry", "POST", "/v1/packages", b"{}", {"content-type": "text/plain"}, 415),
        ("registry", "POST", "/v1/packages", b" " * (4 * 1024 * 1024 + 1), {"content-type": "application/json"}, 413),
        ("registry", "PUT", "/v1/packages", b"", {}, 405),
        ("registry", "GET", "/v1/packages?colour=red", b"", {}, 400),
        ("registry", "GET", "/v1/packages?page_size=0", b"", {}, 400),
        ("registry", "GET", "/v1/nothing", b"", {}, 404),
        ("builder", "GET", "/v1/builds/none", b"", {}, 404),
        ("builder", "GET", "/v1/builds?page_token=x", b"", {}, 400),
        ("envmanager", "GET", "/v1/environments/none/status", b"", {}, 404),
        ("envmanager", "PATCH", "/v1/environments/none", b"", {}, 405),
        ("petstore", "GET", "/pets/99", b"", {}, 404),
        ("orchestrator", "GET", "/rpc/getPet?id=99", b"", {}, 404),
        ("orchestrator", "GET", "/rpc/getPet", b"", {}, 400),
    ],
)
def test_errors_have_one_form(
    platform: Platform, service: str, method: str, path: str, content: bytes, headers: dict[str, str], status: int
) -> None:
    """Every refusal has its status and a body with a code and a message; 405 says what is allowed."""
    answer = getattr(platform, service).http.request(method, path, content=content, headers=headers)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error.keys() == {"code", "message"}
    assert error["message"]
    if status == 405:
        assert "GET" in answer.headers["allow"]
    if b"pakage" in content:
        assert "pakage" in error["message"]


def test_body_that_grows_beyond_the_limit_is_refused(platform: Platform) -> None:
    """A body without an announced length is counted as it comes."""
    pieces = (b" " * 1024 * 1024 for _ in range(5))
    headers = {"content-type": "application/json"}
    assert platform.registry.http.post("/v1/packages", content=pieces, headers=headers).status_code == 413


@pytest.mark.parametrize("name", ["registry", "builder", "envmanager", "petstore", "orchestrator"])
def test_services_keep_to_their_openapi(platform: Platform, name: str) -> None:
    """Generated requests get answers that the service's own description promises, and never a 500."""
    import schemathesis  # noqa: PLC0415 - a second of imports
    from schemathesis.checks import not_a_server_error  # noqa: PLC0415
    from schemathesis.specs.openapi.checks import (  # noqa: PLC0415
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    service = getattr(platform, name)
    checks = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
    document = service.http.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=service.url)
    generate(schema, checks)


def generate(schema: Any, checks: list[Any]) -> None:
    """A few generated requests per operation."""
    from hypothesis import HealthCheck, given, settings  # noqa: PLC0415

    for operation in schema.get_all_operations():
        case = operation.ok().as_strategy()

        @given(case)
        @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
        def one(case: Any) -> None:
            case.call_and_validate(checks=checks, timeout=10)

        one()


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"PORT": "http"}, "PORT='http': Expected `int`"),
        ({"PORT": "99999"}, "PORT='99999': Expected `int` <= 65535"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL='loud'"),
        ({"REGISTRY_URL": "registry:8081"}, "REGISTRY_URL='registry:8081'"),
    ],
)
def test_wrong_setting_is_named(variables: dict[str, str], named: str) -> None:
    """A variable that does not fit is refused with its name, its value and what is expected."""
    with pytest.raises(SettingsError) as caught:
        load(BuilderSettings, variables)
    assert named in str(caught.value)


def test_settings_have_their_defaults_and_take_what_is_set() -> None:
    """Unset and empty variables are the default; the others are converted."""
    assert load(BuilderSettings, {}).port == 8082
    assert load(BuilderSettings, {"PORT": ""}).registry_url == "http://registry:8081"
    settings = load(BuilderSettings, {"PORT": "1", "LOG_LEVEL": "DEBUG", "REGISTRY_PATIENCE_S": "0.5"})
    assert (settings.port, settings.log_level, settings.registry_patience_s) == (1, "debug", 0.5)


def test_service_that_cannot_start_says_why_and_ends_with_2(launch: Any) -> None:
    """A data directory that cannot be written is told in one line."""
    registry = launch("registry", wait=False, DATA_DIR="/proc/nowhere")
    assert registry.ended() == 2
    assert [line["msg"] for line in registry.lines] == ["cannot start"]
    assert "DATA_DIR='/proc/nowhere'" in registry.lines[0]["error"]


def test_unknown_service_is_named() -> None:
    """The image's entry point refuses a name it does not have, and lists those it has."""
    command = [sys.executable, "-m", "turbo_services", "regsitry"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'regsitry'" in done.stderr
    assert "registry, builder" in done.stderr


def test_every_pin_is_the_one_of_the_whole_project() -> None:
    """The image holds the versions that the tests ran with."""

    def pins(path: Path) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", path.read_text(), re.MULTILINE))

    image, everything = pins(ROOT / "services" / "requirements.lock"), pins(ROOT / "requirements.lock")
    assert image
    assert image.items() <= everything.items()


def test_httpx_is_imported_in_one_module() -> None:
    """The HTTP client can be exchanged in one place."""
    pattern = re.compile(r"^\s*(import|from) httpx", re.MULTILINE)
    users = [p.relative_to(SOURCES).as_posix() for p in SOURCES.rglob("*.py") if pattern.search(p.read_text())]
    assert users == ["common/peers.py"]


@pytest.mark.parametrize("name", ["envmanager", "gateway", "console"])
def test_imports_are_lean(name: str) -> None:
    """No service pulls in gRPC or test tools, and only those with state pull in the database library."""
    code = (
        f"import sys, turbo_services.common.server, turbo_services.{name}.app,"
        "opentelemetry.exporter.otlp.proto.http.trace_exporter;"
        "print([m for m in ('grpc', 'sqlalchemy', 'sqlalchemy.orm', 'jinja2', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = {"envmanager": ["sqlalchemy"], "gateway": [], "console": ["jinja2"]}
    assert done.stdout.strip() == str(expected[name])
