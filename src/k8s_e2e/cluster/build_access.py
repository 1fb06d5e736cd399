"""What an image build needs from this machine to reach package registries, and must not keep.

Behind a corporate proxy or mirror the host's pip configuration and certificate authorities are what makes `pip`
work. They reach a build as two secrets that its Dockerfile may mount; neither ends up in a layer::

    RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf --mount=type=secret,id=ca_bundle pip install ...
"""

import configparser
import contextlib
import os
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

PIP_CONF, CA_BUNDLE = "pip_conf", "ca_bundle"
_CA_IN_BUILD = f"/run/secrets/{CA_BUNDLE}"
# pip's options that say where packages come from, and how to get there
_OPTIONS = (
    "index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "proxy", "timeout", "default-timeout",
    "retries",
)  # fmt: skip
_SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
)
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


class BuildAccess(msgspec.Struct, frozen=True):
    """What one build may see: the text of the first secret, the file of the second, directories that pip looks into."""

    pip_conf: str
    ca_bundle: Path | None
    directories: tuple[Path, ...]

    @contextlib.contextmanager
    def secrets(self, folder: Path) -> Iterator[dict[str, Path]]:
        """Yield secret id -> file; what is written is 0600 in a directory of its own in ``folder``, removed at the end.

        For builders that read secrets from files alone.
        """
        with tempfile.TemporaryDirectory(prefix="k8s-e2e-build-", dir=folder) as own:
            written = Path(own, "pip.conf")
            written.touch(mode=0o600)
            written.write_text(self.pip_conf)
            yield {PIP_CONF: written, **({CA_BUNDLE: self.ca_bundle} if self.ca_bundle else {})}


def granted(*, directories: bool, environment: Mapping[str, str] | None = None) -> BuildAccess:
    """Return what a build gets of this machine's access.

    ``directories``: whether the builder can show directories of this machine to a build; else they are left out.
    """
    variables = os.environ if environment is None else environment
    options = pip_options(variables)
    bundle = ca_bundle(variables)
    links = options.pop("find-links", "").split()
    local = tuple(Path(link) for link in links if link.startswith("/") and Path(link).is_dir())
    remote = [link for link in links if "://" in link and not link.startswith("file:")]
    shown = [*remote, *(str(path) for path in local if directories)]
    if shown:
        options["find-links"] = "\n    ".join(shown)
    if bundle:
        options["cert"] = _CA_IN_BUILD
    text = "[global]\n" + "".join(f"{name} = {value}\n" for name, value in sorted(options.items()))
    return BuildAccess(text, bundle, local if directories else ())


def pip_options(variables: Mapping[str, str]) -> dict[str, str]:
    """Return those options of the host's pip that say where packages come from: files first, then ``PIP_...``."""
    options: dict[str, str] = {}
    for path in _config_files(variables):
        parser = configparser.RawConfigParser()
        with contextlib.suppress(configparser.Error, OSError, UnicodeDecodeError):  # pip tells its user itself
            parser.read(path)
        for section in ("global", "install"):
            if parser.has_section(section):
                options |= {name: value for name, value in parser.items(section) if name in _OPTIONS}
    for name in _OPTIONS:
        if value := variables.get(f"PIP_{name.upper().replace('-', '_')}"):
            options[name] = value
    return options


def ca_bundle(variables: Mapping[str, str]) -> Path | None:
    """Return the certificate authorities that this machine trusts, as a PEM file; None where it has none."""
    named = (variables.get(name, "") for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
    default = ssl.get_default_verify_paths().cafile
    for candidate in (*named, *_SYSTEM_BUNDLES, default):
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    return None


def _config_files(variables: Mapping[str, str]) -> list[Path]:
    home = Path(variables.get("HOME", "/root"))
    config = Path(variables.get("XDG_CONFIG_HOME") or home / ".config")
    own = variables.get("PIP_CONFIG_FILE")
    if own == os.devnull:  # pip's word for "read none"
        return []
    usual = [Path("/etc/pip.conf"), home / ".pip" / "pip.conf", config / "pip" / "pip.conf"]
    return [*usual, Path(own)] if own else usual
