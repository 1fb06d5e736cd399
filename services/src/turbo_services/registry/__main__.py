"""Run the registry."""

from turbo_services.common.server import run
from turbo_services.registry.app import RegistrySettings, build


def main() -> None:
    """Serve until SIGTERM."""
    raise SystemExit(run("registry", RegistrySettings, build))


if __name__ == "__main__":
    main()
