"""What the image is made of, and what a start costs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from turbo_operator.settings import Settings, SettingsError, load, parse_duration

OPERATOR = Path(__file__).parents[1]
SOURCES = OPERATOR / "src" / "turbo_operator"


def test_every_pin_is_the_one_of_the_whole_project() -> None:
    """The image holds the versions that the tests ran with."""

    def pins(path: Path) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", path.read_text(), re.MULTILINE))

    image, everything = pins(OPERATOR / "requirements.lock"), pins(OPERATOR.parent / "requirements.lock")
    assert image
    assert image.items() <= everything.items()


def _loaded() -> set[str]:
    code = (
        "import sys, json, turbo_operator.imports as i; i.import_all();"
        "print(json.dumps([getattr(m, '__file__', None) or '' for m in list(sys.modules.values())]))"
    )
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return {path.partition("/site-packages/")[2] for path in json.loads(output) if "/site-packages/" in path}


def test_nothing_that_runs_is_left_out_of_the_image() -> None:
    """No module that k8s mode loads belongs to a distribution or directory the Dockerfile removes."""
    dockerfile = (OPERATOR / "Dockerfile").read_text()
    uninstalled = re.search(r"--quiet \\\n(.*?)&& cd", dockerfile, re.DOTALL)
    removed = re.search(r"rm -rf (.*?) \\\n", dockerfile)
    assert uninstalled
    assert removed
    modules = {"python-dateutil": "dateutil", "pyyaml": "yaml", "websocket-client": "websocket", "attrs": "attr"}
    gone = {modules.get(name, name.replace("-", "_")) for name in re.findall(r"[a-z][a-z-]+", uninstalled[1])}
    directories = {f"kubernetes/{name}" for name in removed[1].split()}
    loaded = _loaded()
    assert any(path.startswith("kubernetes/client/") for path in loaded)
    assert not {path for path in loaded if path.partition("/")[0] in gone}
    assert not {path for path in loaded if any(path.startswith(f"{directory}/") for directory in directories)}


def test_the_light_import_leaves_the_real_package_usable() -> None:
    """After the operator loaded its parts, `import kubernetes` gives the whole package."""
    code = (
        "from turbo_operator.kube import package; package.transport_class(); package.incluster_module();"
        "import kubernetes, kubernetes.config;"
        "print(kubernetes.client.CoreV1Api.__name__, kubernetes.config.load_kube_config.__name__)"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["CoreV1Api", "load_kube_config"]


def test_threads_may_load_the_parts_at_the_same_time() -> None:
    """No thread meets the stand-ins of another, or loses its own half-way."""
    code = (
        "import sys, threading; sys.setswitchinterval(1e-6);"
        "from concurrent.futures import ThreadPoolExecutor; from turbo_operator.kube import package;"
        "loads = [package.transport_class, package.incluster_module, package.configuration_class] * 4;"
        "begin = threading.Barrier(len(loads));"
        "list(ThreadPoolExecutor(len(loads)).map(lambda load: (begin.wait(), load()), loads))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_core_is_pure() -> None:
    """The core imports neither I/O, nor a clock, nor chance, nor anything outside of itself."""
    allowed = {"collections", "dataclasses", "decimal", "hashlib", "json", "re", "typing", "turbo_operator"}
    for path in (SOURCES / "core").glob("*.py"):
        for module in re.findall(r"^\s*(?:from|import) ([\w.]+)", path.read_text(), re.MULTILINE):
            assert module.split(".")[0] in allowed, f"{path.name} imports {module}"
            if module.startswith("turbo_operator"):
                assert module.startswith("turbo_operator.core"), f"{path.name} imports {module}"


def test_settings_have_the_documented_defaults_and_names() -> None:
    """Every variable of the page is read; unset ones have their defaults."""
    assert load({}) == Settings(builder_url="http://builder:8082", namespace=load({}).namespace)
    environ = {
        "OPERATOR_MODE": "k8s",
        "OPERATOR_NAMESPACE": "ns",
        "BUILDER_URL": "http://b:1/",
        "POLL_INTERVAL": "1m30s",
        "STUB_IMAGE": "stub:1",
        "LOG_LEVEL": "DEBUG",
        "PORT": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
        "KUBECONFIG": "/k",
        "HOST": "127.0.0.1",
    }
    expected = Settings("k8s", "ns", "http://b:1", 90.0, "stub:1", "debug", "127.0.0.1", 1, "/k", "http://c:4318")
    assert load(environ) == expected
    assert load({"BUILDER_URL": ""}).builder_url is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPERATOR_MODE", "prod"),
        ("LOG_LEVEL", "loud"),
        ("PORT", "http"),
        ("PORT", "70000"),
        ("BUILDER_URL", "builder:8082"),
        ("POLL_INTERVAL", "30"),
        ("POLL_INTERVAL", "0s"),
        ("POLL_INTERVAL", "-1s"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    """An unusable value is one clear error that names the variable."""
    with pytest.raises(SettingsError, match=name):
        load({name: value})


def test_a_wrong_setting_ends_the_process_with_2() -> None:
    """The process says in one JSON line what is wrong, and exits 2."""
    environment = {"PATH": os.environ["PATH"], "OPERATOR_MODE": "prod"}
    command = [sys.executable, "-m", "turbo_operator"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 2
    assert "OPERATOR_MODE='prod'" in json.loads(done.stdout)["error"]
    assert done.stderr == ""


def test_durations_are_go_style() -> None:
    """Units add up; fractions are allowed."""
    assert parse_duration("1h2m3s") == 3723
    assert parse_duration("1.5s") == 1.5
    assert parse_duration("250ms") == 0.25


def _manifests(file: str) -> list[dict[str, Any]]:
    text = (OPERATOR.parent / "infra" / "k8s" / "base" / file).read_text()
    return [document for document in yaml.safe_load_all(text) if document]


def test_r21_never_two_writers() -> None:
    """One replica, and the old pod is gone before the new one starts."""
    deployment = next(d for d in _manifests("operator-deployment.yaml") if d["kind"] == "Deployment")
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == "turbo-operator"
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= 15


def test_rights_are_namespaced_and_least() -> None:
    """A Role, no ClusterRole; no wildcard, no secrets, no pods, and no verb that the code does not use."""
    documents = _manifests("operator-rbac.yaml")
    assert [d["kind"] for d in documents] == ["ServiceAccount", "Role", "RoleBinding"]
    assert not any("namespace" in d["metadata"] for d in documents)
    rights = {resource: set(rule["verbs"]) for rule in documents[1]["rules"] for resource in rule["resources"]}
    children = {"get", "list", "watch", "create", "patch", "delete"}
    assert rights == {
        "apigraphs": children,
        "apigraphs/status": {"patch"},
        "configmaps": children,
        "services": children,
        "deployments": children,
        "events": {"create"},
    }


def test_the_crd_describes_every_field() -> None:
    """`kubectl explain` has a sentence for each field of the spec and the status."""
    crd = _manifests("apigraph-crd.yaml")[0]["spec"]
    assert crd["names"]["shortNames"] == ["ag"]
    (version,) = crd["versions"]
    columns = [column["name"] for column in version["additionalPrinterColumns"] if not column.get("priority")]
    assert columns == ["Phase", "Root Package", "Environment", "Age"]

    def undescribed(schema: dict[str, Any], path: str) -> list[str]:
        found = [] if schema.get("description") else [path]
        for name, inner in schema.get("properties", {}).items():
            found += undescribed(inner, f"{path}.{name}")
        for name, inner in schema.get("items", {}).get("properties", {}).items():
            found += undescribed(inner, f"{path}[].{name}")
        return found

    properties = version["schema"]["openAPIV3Schema"]["properties"]
    assert undescribed(properties["spec"], "spec") + undescribed(properties["status"], "status") == []
