"""Secrets are replaced before anything reaches the disk."""

import base64
import functools
import hashlib
import json
import re
import urllib.parse
from collections import Counter

# Each with the words (lower case) of which one must be there: looking for those is ten times cheaper.
_PATTERNS: tuple[tuple[str, tuple[str, ...], re.Pattern[str]], ...] = (
    ("bearer", ("bearer",), re.compile(r"(?i)(?P<keep>\bbearer[ \t]+)(?P<secret>[A-Za-z0-9._~+/=-]{8,})")),
    (
        "url-password",
        ("://",),
        re.compile(r"""(?P<keep>\b[a-z][a-z0-9+.-]*://[^\s:/@"']+:)(?P<secret>[^\s@/"']+)(?=@)"""),
    ),
    ("jwt", ("eyj",), re.compile(r"(?P<keep>)(?P<secret>\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+)")),
    (
        "github-token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
        re.compile(r"(?P<keep>)(?P<secret>\bgh[pousr]_[A-Za-z0-9]{20,})"),
    ),
    (
        "private-key",
        ("private key",),
        re.compile(r"(?P<keep>)(?P<secret>-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----)"),
    ),
    (
        "named-secret",
        ("password", "passwd", "secret", "token", "api_key", "api-key", "apikey"),
        re.compile(
            r"""(?ix)\[redacted:[^\]\n]*\]|"""
            r"""(?P<keep>\b[a-z0-9_.-]*(?:password|passwd|secret|token|api[_-]?key)["']?[ \t]*[=:][ \t]*["']?)"""
            r"""(?P<secret>[^\s"',;&}{\[\]$]{6,})"""
        ),
    ),
)
_SHORTEST = 6  # a shorter "secret" would blank out ordinary words


class Redactor:
    """Replaces known secret values (plain, base64, URL-encoded, JSON-escaped) and secret-looking patterns.

    One secret always becomes the same token, ``[redacted:NAME:6 hex digits]``, so that equality stays visible.
    ``counts`` is the ledger: how many replacements per name.
    """

    def __init__(self, secrets: dict[str, str] | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self._names: dict[str, str] = {}
        self._literal: re.Pattern[str] | None = None
        for name, value in (secrets or {}).items():
            self.add(name, value)

    def add(self, name: str, value: str) -> None:
        """Learn one secret value; values shorter than 6 characters are ignored."""
        if len(value) < _SHORTEST:
            return
        raw = value.encode()
        forms = {value, urllib.parse.quote(value, safe=""), json.dumps(value)[1:-1], base64.b64encode(raw).decode()}
        forms |= {base64.urlsafe_b64encode(raw).decode().rstrip("=")}
        self._names.update(dict.fromkeys(forms, name))
        longest_first = sorted(self._names, key=len, reverse=True)
        self._literal = re.compile("|".join(re.escape(form) for form in longest_first))

    def text(self, text: str) -> str:
        """Return ``text`` with every secret replaced."""
        if self._literal:
            text = self._literal.sub(lambda match: self._token(self._names[match[0]], match[0]), text)
        lowered = text.lower()
        for name, words, pattern in _PATTERNS:
            if any(word in lowered for word in words):
                text = pattern.sub(functools.partial(self._keep_name, name), text)
        return text

    def _keep_name(self, name: str, match: re.Match[str]) -> str:
        if match["secret"] is None:  # a token that stands there already, whose name may look like a secret's
            return match[0]
        return match["keep"] + self._token(name, match["secret"])

    def _token(self, name: str, secret: str) -> str:
        if secret.startswith("[redacted:"):
            return secret
        self.counts[name] += 1
        return f"[redacted:{name}:{hashlib.sha256(secret.encode()).hexdigest()[:6]}]"
