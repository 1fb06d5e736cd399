"""Run the envmanager."""

from turbo_services.common.server import run
from turbo_services.envmanager.app import EnvManagerSettings, build


def main() -> None:
    """Serve until SIGTERM."""
    raise SystemExit(run("envmanager", EnvManagerSettings, build))


if __name__ == "__main__":
    main()
