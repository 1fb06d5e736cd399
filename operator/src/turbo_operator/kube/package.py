"""The parts of the official `kubernetes` package the operator uses, without the rest of it.

`import kubernetes` runs the package's `__init__`, which imports pydantic, requests-oauthlib, websocket and the
informer: 0.85 s and 20 MiB here, four seconds under a limit of 200m CPU. Configuration, transport and in-cluster
authentication need none of it. Their modules are imported here under empty stand-ins of the parent packages, which are
taken away again, so that a later `import kubernetes` finds the real package.
"""

import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_HEAVY = ("kubernetes", "kubernetes.config", "kubernetes.utils")

_loading = threading.Lock()
"""Held while stand-ins are there: the `_load` of another thread would meet them, or lose them half-way."""


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Empty packages in place of those whose `__init__` is heavy, as long as the real ones are not loaded."""
    added: list[str] = []
    if "kubernetes" not in sys.modules:
        spec = importlib.util.find_spec("kubernetes")
        if spec is None or not spec.submodule_search_locations:
            raise ImportError("the package 'kubernetes' is not installed")
        root = spec.submodule_search_locations[0]
        for name in _HEAVY:
            stand_in = ModuleType(name)
            stand_in.__path__ = ["/".join((root, *name.split(".")[1:]))]
            sys.modules[name] = stand_in
            added.append(name)
    try:
        yield
    finally:
        for name in added:
            sys.modules.pop(name, None)


def _load(module: str) -> Any:
    with _loading, _stand_ins():
        return importlib.import_module(module)


def configuration_class() -> Any:
    """`kubernetes.client.Configuration`."""
    return _load("kubernetes.client.configuration").Configuration


def transport_class() -> Any:
    """`kubernetes.client.rest.RESTClientObject`: a pooled urllib3 transport with the configuration's TLS and proxy."""
    return _load("kubernetes.client.rest").RESTClientObject


def incluster_module() -> Any:
    """`kubernetes.config.incluster_config`."""
    return _load("kubernetes.config.incluster_config")


def load_incluster_config(configuration: Any) -> None:
    """Fill `configuration` from the pod's service account; the token is read again every minute."""
    incluster_module().load_incluster_config(configuration)


def load_kube_config(configuration: Any, path: str | None) -> None:
    """Fill `configuration` from a kubeconfig file, or from the default place: the heavy part, off cluster only."""
    _load("kubernetes.config.kube_config").load_kube_config(config_file=path, client_configuration=configuration)
