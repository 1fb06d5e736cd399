"""The kit's only door to httpx, so that its successor is a change of one line."""

import httpx
from httpx import Client, HTTPError, ReadTimeout, Response, TimeoutException, TransportError

__all__ = [
    "Client",
    "HTTPError",
    "ReadTimeout",
    "Response",
    "TimeoutException",
    "TransportError",
    "api_client",
    "client",
    "internet_client",
]


def client(base_url: str = "", *, timeout_s: float = 10.0, verify: bool | str = True) -> Client:
    """Return an HTTP client that ignores proxies (everything it talks to is on loopback) unless told otherwise.

    ``timeout_s`` bounds each of connect, read and write. The caller closes it.
    """
    return httpx.Client(base_url=base_url, timeout=timeout_s, verify=verify, trust_env=False, follow_redirects=False)


def internet_client(*, connect_s: float, timeout_s: float) -> Client:
    """Return an HTTP client for hosts outside: it respects proxies and follows redirects. The caller closes it."""
    return httpx.Client(timeout=httpx.Timeout(timeout_s, connect=connect_s), follow_redirects=True)


def api_client(*, connect_s: float, timeout_s: float) -> Client:
    """Return an HTTP client for an API outside that is sent credentials: proxies respected, no redirect followed.

    The caller closes it.
    """
    return httpx.Client(timeout=httpx.Timeout(timeout_s, connect=connect_s), follow_redirects=False)
