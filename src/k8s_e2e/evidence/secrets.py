"""What may be written of an object: no Secret's value, no literal credential, equality still visible.

A Secret keeps its keys; each value becomes ``[redacted:<secret>/<key>:<12 hex digits>]``, a hash salted per run with a
salt that stays in the state directory. The values themselves teach the `Redactor`, so that they are found in logs.
"""

import base64
import binascii
import hashlib
import hmac
import json
import os
import re
import secrets as random_bytes
from pathlib import Path
from typing import Any

import msgspec

from k8s_e2e.base import files
from k8s_e2e.base.redaction import Redactor

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_PUBLIC_KEYS = {"ca.crt", "tls.crt", "namespace", "username", "user", "host", "port", "database", "name", "type", "url"}
_LONGEST = 16384  # a longer value is a bundle, and is not looked for in logs
_SECRET_NAME = re.compile(r"(?i)(passw|secret|token|api_?key|private_?key|credential)")
_NESTED = {"auth", "password", "identitytoken", "registrytoken"}


class Cleaner:
    """Makes objects fit to be written. ``redactor`` learns every Secret value that passes through."""

    def __init__(self, salt: bytes, redactor: Redactor | None = None) -> None:
        self.redactor = redactor or Redactor()
        self._salt = salt

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

    def patterns(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Return ``obj`` with the redactor run over its JSON text, or string by string where that could break it.

        Only a private key is looked for beyond the end of a string.
        """
        text = msgspec.json.encode(obj).decode()
        if "PRIVATE KEY-----" in text:
            each: dict[str, Any] = self._each_string(obj)
            return each
        redacted = self.redactor.text(text)
        if redacted == text:
            return obj
        try:
            value: dict[str, Any] = msgspec.json.decode(redacted)
        except msgspec.DecodeError:
            value = self._each_string(obj)
        return value

    def token(self, name: str, value: bytes) -> str:
        """Return what stands for ``value``: equal values of one run have equal hashes."""
        digest = hmac.new(self._salt, value, hashlib.sha256).hexdigest()[:12]
        return f"[redacted:{name.replace(':', '_').replace(']', '_')}:{digest}]"

    def _clean_secret(self, secret: dict[str, Any], annotations: dict[str, str] | None) -> None:
        name = (secret.get("metadata") or {}).get("name", "secret")
        for field in ("data", "stringData"):
            values = secret.get(field)
            if not isinstance(values, dict):
                continue
            for key, value in values.items():
                raw = _decoded(value) if field == "data" else str(value).encode()
                if not raw.startswith(b"[redacted:"):
                    self._learn(f"{name}/{key}", key, raw)
                    values[key] = self.token(f"{name}/{key}", raw)
        if annotations and LAST_APPLIED in annotations:
            annotations[LAST_APPLIED] = self.token(f"{name}/last-applied", annotations[LAST_APPLIED].encode())

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
        self.redactor.add(label, text)
        if text.startswith("{"):
            for value in _nested(text):
                self.redactor.add(label, value)

    def _env(self, variable: dict[str, Any]) -> None:
        name, value = str(variable.get("name", "")), variable.get("value")
        if isinstance(value, str) and len(value) > 1 and _SECRET_NAME.search(name) and not _harmless(value):
            variable["value"] = self.token(name, value.encode())

    def _each_string(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.redactor.text(value)
        if isinstance(value, dict):
            return {key: self._each_string(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._each_string(item) for item in value]
        return value


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
