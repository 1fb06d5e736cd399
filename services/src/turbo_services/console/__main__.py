"""Run the console."""

from turbo_services.common.server import run
from turbo_services.console.app import ConsoleSettings, build


def main() -> None:
    """Serve until SIGTERM."""
    raise SystemExit(run("console", ConsoleSettings, build))


if __name__ == "__main__":
    main()
