"""The cluster's certificates: two authorities and what Kubernetes' "PKI certificates and requirements" page asks for.

EC P-256 throughout: all of it takes some hundredths of a second, where RSA would take seconds.
"""

import base64
import datetime as dt
import ipaddress
import json
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from k8s_e2e.cluster.local.layout import DOMAIN, KUBERNETES_IP, NODE, NODE_IP

_VALID = dt.timedelta(days=3650)
_SKEW = dt.timedelta(minutes=10)  # a clock that is a little off must not make them invalid

USERS = {
    "admin": ("kubernetes-admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "kubelet": (f"system:node:{NODE}", "system:nodes"),
    "kube-proxy": ("system:kube-proxy", ""),
}
"""Kubeconfigs that are made: name -> (user, group)."""


class Pair(NamedTuple):
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key as unencrypted PKCS #8 PEM."""
        return _private_pem(self.key)


def authority(name: str) -> Pair:
    """Return a self-signed certificate authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = _builder(subject, key, issuer=subject).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    return Pair(builder.add_extension(usage, critical=True).sign(key, hashes.SHA256()), key)


def issue(ca: Pair, user: str, group: str = "", *, server_names: tuple[str, ...] = ()) -> Pair:
    """Return a client certificate for ``user``, or with ``server_names`` (DNS names and addresses) a server's."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
    if group:
        names.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    purpose: ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH if server_names else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(x509.Name(names), key, issuer=ca.certificate.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False)
    )
    if server_names:
        names_of_server = x509.SubjectAlternativeName([_name(each) for each in server_names])
        builder = builder.add_extension(names_of_server, critical=False)
    return Pair(builder.sign(ca.key, hashes.SHA256()), key)


def write(directory: Path, *, server: str) -> Pair:
    """Write every certificate, key and component kubeconfig into ``directory`` (0700, files 0600).

    ``server`` is the API server's URL for the components. Returns the authority, for further kubeconfigs.
    """
    directory.mkdir(mode=0o700)
    ca, front_proxy = authority("kubernetes-ca"), authority("front-proxy-ca")
    kubernetes = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}")
    api_names = (*kubernetes, "localhost", NODE, "127.0.0.1", KUBERNETES_IP, NODE_IP)
    pairs = {
        "ca": ca,
        "front-proxy-ca": front_proxy,
        "apiserver": issue(ca, "kube-apiserver", server_names=api_names),
        "kubelet-server": issue(
            ca, f"system:node:{NODE}", "system:nodes", server_names=(NODE, "localhost", "127.0.0.1", NODE_IP)
        ),
        "apiserver-kubelet-client": issue(ca, "kube-apiserver-kubelet-client"),
        "front-proxy-client": issue(front_proxy, "front-proxy-client"),
    }
    for name, (user, group) in USERS.items():
        pair = issue(ca, user, group)
        pairs[name] = pair
        _secret(directory / f"{name}.kubeconfig", kubeconfig(ca, pair, server=server, name="local"))
    for name, pair in pairs.items():
        _secret(directory / f"{name}.crt", pair.certificate_pem)
        _secret(directory / f"{name}.key", pair.key_pem)
    signer = ec.generate_private_key(ec.SECP256R1())  # of service account tokens
    _secret(directory / "sa.key", _private_pem(signer))
    public = signer.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _secret(directory / "sa.pub", public)
    return ca


def kubeconfig(ca: Pair, user: Pair, *, server: str, name: str) -> bytes:
    """Return a kubeconfig (JSON is YAML) whose only context is called ``name``."""
    encoded = {
        label: base64.b64encode(pem).decode()
        for label, pem in (("ca", ca.certificate_pem), ("crt", user.certificate_pem), ("key", user.key_pem))
    }
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": encoded["ca"]}}],
            "users": [
                {
                    "name": name,
                    "user": {"client-certificate-data": encoded["crt"], "client-key-data": encoded["key"]},
                }
            ],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        },
        indent=2,
    ).encode()


def _builder(subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, issuer: x509.Name) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _secret(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
