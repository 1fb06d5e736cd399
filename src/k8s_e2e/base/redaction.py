"""Secrets are replaced before anything reaches the disk."""

import base64
import functools
import hashlib
import hmac
import json
import re
import secrets as random_bytes
import urllib.parse
from collections import Counter

# Each with the words (lower case) of which one must be there: looking for those is ten times cheaper. All but the
# private key end with their line.
_PRIVATE_KEY = re.compile(
    r"(?P<keep>)(?P<secret>-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----)"
)
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
        "named-secret",
        ("password", "passwd", "secret", "token", "api_key", "api-key", "apikey"),
        re.compile(
            r"""(?ix)\[redacted:[^\]\n]*\]|"""
            r"""(?P<keep>(?:password|passwd|secret|token|api[_-]?key)["']?[ \t]*[=:][ \t]*["']?)"""
            r"""(?P<secret>(?:[^\s"',;&}{\[\]$\\]|\\[^\s"']){6,})"""  # never half of an escaped quote
        ),
    ),
)
_TOKEN = re.compile(r"\[redacted:[^\]\n]*\]")
SHORTEST = 6  # a shorter "secret" would blank out ordinary words


class Redactor:
    """Replaces known secret values (plain, base64, URL-encoded, JSON-escaped) and secret-looking patterns.

    One secret always becomes the same token, ``[redacted:NAME:12 hex digits]``, in whatever form it stood there: the
    digits are an HMAC with ``salt``, so that equality stays visible and nothing can be guessed from it. Redactors of
    one salt agree; without one each takes its own. ``counts`` is the ledger: how many replacements per name.
    """

    def __init__(self, secrets: dict[str, str] | None = None, *, salt: bytes = b"") -> None:
        self.counts: Counter[str] = Counter()
        self._salt = salt or random_bytes.token_bytes(32)
        self._forms: dict[str, tuple[str, str]] = {}  # -> name, token; replaced as a whole: other threads read it
        self._needles: tuple[bytes, ...] = ()
        for name, value in (secrets or {}).items():
            self.add(name, value)

    def add(self, name: str, value: str, *, whole: bytes = b"") -> None:
        """Learn one secret value; values shorter than 6 characters are ignored.

        ``whole`` is what its token stands for, if ``value`` is only what of it can be found in a text.
        """
        raw = value.encode("utf-8", "surrogatepass")
        encoded = base64.b64encode(whole or raw).decode()
        if len(value) < SHORTEST or (value in self._forms and encoded in self._forms):
            return
        forms = {
            value,
            urllib.parse.quote(raw, safe=""),
            json.dumps(value)[1:-1],
            json.dumps(value, ensure_ascii=False)[1:-1],
            encoded,
            base64.b64encode(raw).decode(),
            base64.urlsafe_b64encode(raw).decode().rstrip("="),
        }
        token = self.token(name, whole or raw)
        self.take(dict.fromkeys(forms, (name, token)))

    def token(self, name: str, value: bytes) -> str:
        """Return what stands for ``value``: equal values of one salt have equal hashes."""
        digest = hmac.new(self._salt, value, hashlib.sha256).hexdigest()[:12]
        return f"[redacted:{name.replace(':', '_').replace(']', '_')}:{digest}]"

    def text(self, text: str) -> str:
        """Return ``text`` with every secret replaced."""
        text = self.known(text)
        if "PRIVATE KEY-----" in text:
            text = _PRIVATE_KEY.sub(functools.partial(self._keep_name, "private-key"), text)
        lowered = text.lower()
        patterns = [entry for entry in _PATTERNS if any(word in lowered for word in entry[1])]
        if not patterns:
            return text
        return "\n".join(self._line(line, patterns) for line in text.split("\n"))

    def known(self, text: str) -> str:
        """Return ``text`` with the learnt values replaced, and nothing that only looks like a secret."""
        found = [
            (at, at + len(form), name, token)
            for form, (name, token) in self._forms.items()
            if form in text
            for at in _places(form, text)
        ]
        if not found:
            return text
        if "[redacted:" in text:
            found += [(match.start(), match.end(), "", match[0]) for match in _TOKEN.finditer(text)]
        pieces, done = [], 0
        for start, end, name, token in sorted(found, key=lambda one: (one[0], -one[1])):
            if start >= done:
                pieces += [text[done:start], token]
                self.counts[name] += bool(name)
            done = max(done, end)  # of two that overlap both are gone
        return "".join([*pieces, text[done:]])

    def learnt(self) -> dict[str, tuple[str, str]]:
        """Return what was learnt, for another redactor of the same salt to `take`: secret values in plain text."""
        return self._forms

    def take(self, learnt: dict[str, tuple[str, str]]) -> None:
        """Learn what another redactor of the same salt has learnt."""
        self._forms = {**learnt, **self._forms}
        self._needles = tuple(form.encode("utf-8", "surrogatepass") for form in self._forms)

    def holds_known(self, data: bytes) -> bool:
        """Tell whether a learnt value stands in ``data`` (UTF-8)."""
        return any(needle in data for needle in self._needles)

    def starred(self, data: bytes) -> bytes:
        """Return ``data`` (UTF-8), no longer and no shorter, with stars in place of the learnt values."""
        for needle in self._needles:
            data = data.replace(needle, b"*" * len(needle))
        return data

    def _line(self, line: str, patterns: list[tuple[str, tuple[str, ...], re.Pattern[str]]]) -> str:
        lowered = line.lower()
        for name, words, pattern in patterns:
            if any(word in lowered for word in words):
                line = pattern.sub(functools.partial(self._keep_name, name), line)
        return line

    def _keep_name(self, name: str, match: re.Match[str]) -> str:
        secret = match["secret"]
        if secret is None or secret.startswith("[redacted:"):  # a token that stands there already
            return match[0]
        self.counts[name] += 1
        return str(match["keep"]) + self.token(name, secret.encode("utf-8", "surrogatepass"))


def _places(form: str, text: str) -> list[int]:
    places, at = [], text.find(form)
    while at >= 0:
        places.append(at)
        at = text.find(form, at + len(form))
    return places
