"""An operator in the test's own process, and its HTTP API on loopback."""

import contextlib
import threading
from collections.abc import Iterator

import httpx
import uvicorn
from sandbox import wait

from turbo_operator.__main__ import listen
from turbo_operator.api import make_app
from turbo_operator.runtime import Operator
from turbo_operator.settings import Settings


@contextlib.contextmanager
def running(settings: Settings, *, until_ready: bool = True) -> Iterator[Operator]:
    """An operator, its caches synced."""
    operator = Operator(settings)
    operator.start()
    try:
        if until_ready:
            wait("the caches", lambda: set(operator.health.checks().values()) == {"ok"})
        yield operator
    finally:
        assert operator.stop(5)


@contextlib.contextmanager
def serving(operator: Operator) -> Iterator[httpx.Client]:
    """The operator's API on a loopback port."""
    config = uvicorn.Config(make_app(operator), log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with listen(Settings(host="127.0.0.1", port=0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as client:
            yield client
        server.should_exit = True
        thread.join(5)
