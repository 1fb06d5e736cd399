"""What may be written of an object: no Secret's value, no literal credential, equality still visible.

A Secret keeps its keys; each value becomes ``[redacted:<secret>/<key>:<12 hex digits>]``, a hash salted per run with a
salt that stays in the state directory. The values themselves teach the `Redactor`, so that they are found in logs.
"""

import base64
import binascii
import copy
import json
import os
import re
import secrets as random_bytes
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from k8s_e2e.base import files
from k8s_e2e.base.redaction import Redactor
from k8s_e2e.platform.kube import ApiError, Kube

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_PUBLIC_KEYS = {"ca.crt", "tls.crt", "namespace", "username", "user", "host", "port", "database", "name", "type", "url"}
_LONGEST = 16384  # a longer value is a bundle, and is not looked for in logs
_SECRET_NAME = re.compile(r"(?i)(passw|secret|token|api_?key|private_?key|credential)")
_NESTED = {"auth", "password", "identitytoken", "registrytoken"}


class Cleaner:
    """Makes objects fit to be written. ``redactor`` learns every Secret value that passes through.

    Cleaners of one ``salt`` agree on what stands for a value; without one each takes its own.
    """

    def __init__(self, salt: bytes = b"") -> None:
        self.redactor = Redactor(salt=salt)

    def clean(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Return ``obj`` (changed in place) without secret values: Secrets, last-applied, env literals, patterns."""
        annotations = (obj.get("metadata") or {}).get("annotations")
        if obj.get("kind") == "Secret":
            self._clean_secret(obj, annotations)
        if annotations:
            if LAST_APPLIED in annotations:
                annotations[LAST_APPLIED] = self._clean_applied(annotations[LAST_APPLIED])
            annotations.update({key: self.redactor.text(value) for key, value in annotations.items()})
        data = obj.get("data")
        if obj.get("kind") == "ConfigMap" and isinstance(data, dict):
            data.update({key: self.redactor.text(value) for key, value in data.items() if isinstance(value, str)})
        _walk_env(obj, self._env)
        return self.patterns(obj)

    def shown(self, obj: Any, name: str = "") -> Any:
        """Return what of ``obj`` may be shown: of a Secret, or what is asked of one, a copy with tokens for values.

        Values that are equal have equal tokens if the Secrets have one name; ``name`` is that of one that says none.
        """
        if not isinstance(obj, Mapping) or obj.get("kind") != "Secret":
            return obj
        secret = copy.deepcopy(dict(obj))
        annotations = (secret.get("metadata") or {}).get("annotations")
        self._clean_secret(secret, annotations if isinstance(annotations, dict) else None, name)
        return secret

    def learn(self, obj: Mapping[str, Any]) -> None:
        """Teach the redactor the values of ``obj`` if it is a Secret."""
        self.shown(obj)

    def patterns(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Return ``obj`` with the redactor run over its JSON text, or string by string where that could break it."""
        text = msgspec.json.encode(obj).decode()
        redacted = self.json_text(text)
        value: dict[str, Any] = obj if redacted == text else msgspec.json.decode(redacted)
        return value

    def json_text(self, text: str, redact: Callable[[str], str] | None = None) -> str:
        """Return a JSON text redacted (by ``redact``, else the redactor) that is still JSON.

        Only a private key is looked for beyond the end of a string: there, and where a token would break the text,
        each string is redacted by itself.

        Raises:
            msgspec.DecodeError: it was no JSON.
        """
        redact = redact or self.redactor.text
        if "PRIVATE KEY-----" not in text:
            redacted = redact(text)
            if redacted == text:
                return text
            with suppress(msgspec.DecodeError):
                msgspec.json.decode(redacted)
                return redacted
        return msgspec.json.encode(_each_string(msgspec.json.decode(text), redact)).decode()

    def _clean_secret(self, secret: dict[str, Any], annotations: dict[str, str] | None, name: str = "") -> None:
        name = name or (secret.get("metadata") or {}).get("name") or "secret"
        for field in ("data", "stringData"):
            values = secret.get(field)
            if not isinstance(values, dict):
                continue
            for key, value in values.items():
                if not isinstance(value, str):  # what is asked of a Secret may be anything
                    continue
                raw = _decoded(value) if field == "data" else value.encode()
                if not raw.startswith(b"[redacted:"):
                    self._learn(f"{name}/{key}", key, raw)
                    values[key] = self.redactor.token(f"{name}/{key}", raw)
        if annotations and LAST_APPLIED in annotations:
            annotations[LAST_APPLIED] = self.redactor.token(f"{name}/last-applied", annotations[LAST_APPLIED].encode())

    def _clean_applied(self, text: str) -> str:
        try:
            applied = json.loads(text)
        except ValueError:
            return text
        _walk_env(applied, self._env)
        return json.dumps(applied, separators=(",", ":"))

    def _learn(self, label: str, key: str, raw: bytes) -> None:
        if key.lower() in _PUBLIC_KEYS or len(raw) > _LONGEST:
            return
        try:
            text = raw.decode().strip()
        except UnicodeDecodeError:
            return
        self.redactor.add(label, text, whole=raw)
        if text.startswith("{"):
            for value in _nested(text):
                self.redactor.add(label, value)

    def _env(self, variable: dict[str, Any]) -> None:
        name, value = str(variable.get("name", "")), variable.get("value")
        if isinstance(value, str) and len(value) > 1 and _SECRET_NAME.search(name) and not _harmless(value):
            variable["value"] = self.redactor.token(name, value.encode())


def _each_string(value: Any, redact: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: _each_string(item, redact) for key, item in value.items()}
    if isinstance(value, list):
        return [_each_string(item, redact) for item in value]
    return value


def taught(kube: Kube, namespace: str, directory: Path) -> Cleaner:
    """Return a cleaner with the salt kept in ``directory`` that knows the Secrets there are in ``namespace`` now."""
    cleaner = Cleaner(run_salt(directory))
    with suppress(ApiError):  # not allowed, or not answered: what is not known now is looked for when it is
        for secret in kube.list("v1", "Secret", namespace)["items"]:
            cleaner.learn({"kind": "Secret", **secret})
    return cleaner


def run_salt(directory: Path) -> bytes:
    """Return the salt kept in ``directory`` (the run's place in the state directory, 0600), made on first use."""
    path = directory / "salt"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = directory / f"salt.{os.getpid()}"
        files.write(fresh, random_bytes.token_bytes(32), mode=0o600)
        try:
            os.link(fresh, path)  # the first one wins
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_bytes()


def _decoded(value: Any) -> bytes:
    try:
        return base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError):
        return str(value).encode()


def _nested(text: str) -> list[str]:
    """Return the credentials inside a JSON document such as ``.dockerconfigjson``."""
    try:
        waiting: list[Any] = [json.loads(text)]
    except ValueError:
        return []
    found = []
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            found += [item for key, item in value.items() if key.lower() in _NESTED and isinstance(item, str)]
            waiting += [item for item in value.values() if isinstance(item, (dict, list))]
    return found


def _walk_env(obj: Any, visit: Any) -> None:
    """Call ``visit`` with every ``{"name", "value"}`` entry of a list named ``env``, wherever it stands."""
    waiting = [obj]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += [item for item in value if isinstance(item, (dict, list))]
        elif isinstance(value, dict):
            for key, item in value.items():
                if key == "env" and isinstance(item, list):
                    for variable in item:
                        if isinstance(variable, dict):
                            visit(variable)
                elif isinstance(item, (dict, list)):
                    waiting.append(item)


def _harmless(value: str) -> bool:
    """Tell a switch, a number or a path from a credential."""
    return value.lower() in ("true", "false") or value.isdigit() or value.startswith(("/", "[redacted:"))
