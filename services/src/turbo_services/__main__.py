"""Run one service: ``turbo-service NAME``, or without a name the one in TURBO_SERVICE.

All seven share one image; each tag sets TURBO_SERVICE.
"""

import importlib
import os
import sys
from typing import Final

SERVICES: Final = ("registry", "builder", "envmanager", "gateway", "console", "petstore", "orchestrator")


def main() -> None:
    """Import and run only the service that is asked for: the others' imports would cost start-up time."""
    name = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("TURBO_SERVICE", "")
    if name not in SERVICES:
        sys.stderr.write(f"turbo-service: no service {name!r}; one of: {', '.join(SERVICES)}\n")
        raise SystemExit(2)
    importlib.import_module(f"turbo_services.{name}.__main__").main()


if __name__ == "__main__":
    main()
