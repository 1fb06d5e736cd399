"""What a name, a host, a path and the like may look like, as a pattern and in words."""

import re
from dataclasses import dataclass

from turbo_operator.core import names


@dataclass(frozen=True, slots=True)
class Rule:
    """What a text may be.

    Attributes:
        pattern: Matches all of it.
        words: The same for people; completes "'...' is not".
    """

    pattern: re.Pattern[str]
    words: str

    def allows(self, text: str) -> bool:
        """Whether a text is so."""
        return self.pattern.fullmatch(text) is not None


PACKAGE_NAME = Rule(
    re.compile(r"(@[a-z0-9-]+/)?[a-z0-9][a-z0-9._/-]{0,127}"),
    "a package name: lower-case letters, digits, '.', '_', '/' and '-', at most 128, the first a letter or digit; "
    "a scope such as @acme/ may stand before it",
)
LABEL_VALUE = Rule(
    re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"),
    "a label value: letters, digits, '.', '_' and '-', at most 63, the first and the last a letter or digit",
)
IMAGE = Rule(
    re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}"),
    "an image reference: letters, digits, '.', '_', ':', '/', '@' and '-', at most 512, the first a letter or digit",
)
DNS_NAME = Rule(
    re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"),
    "a DNS name: lower-case letters, digits and '-' between dots, at most 63 from dot to dot and 253 in all",
)
URL_PATH = Rule(
    re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*"),
    "a URL path: '/', then letters, digits, '/' and any of . _ ~ ! $ & ' ( ) * + , ; = : @ % -",
)
_CONFIG_KEY = re.compile(r"[A-Za-z0-9._-]{1,253}")
QUALIFIED_NAME = re.compile(
    r"(?:(?=[^/]{1,253}/)(?P<prefix>[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*)/)?"
    r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
)
OWN_ANNOTATIONS = frozenset({names.ANNOTATION_PROBE_PATH, names.ANNOTATION_PROBE_PORT})


def annotation_complaint(key: str) -> str | None:
    """Why pods cannot have an annotation of that key, None if they can."""
    match = QUALIFIED_NAME.fullmatch(key)
    if match is None:
        return "is not a valid annotation key"
    prefix = match["prefix"] or ""
    if key in OWN_ANNOTATIONS:
        return None
    if prefix == names.GROUP or prefix.endswith(f".{names.GROUP}"):
        return f"is reserved (known: {', '.join(sorted(OWN_ANNOTATIONS))})"
    if prefix in {"kubernetes.io", "k8s.io"} or prefix.endswith((".kubernetes.io", ".k8s.io")):
        return "is reserved for Kubernetes"
    return None


def config_key_complaint(key: str) -> str | None:
    """Why a ConfigMap cannot hold an environment variable of that name, None if it can."""
    if _CONFIG_KEY.fullmatch(key) is None or key == "." or key.startswith(".."):
        return "is not a valid environment variable name for a ConfigMap (letters, digits, '-', '_' and '.')"
    return None
