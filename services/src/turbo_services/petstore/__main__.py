"""Run the petstore."""

from turbo_services.common.server import run
from turbo_services.petstore.app import PetstoreSettings, build


def main() -> None:
    """Serve until SIGTERM."""
    raise SystemExit(run("petstore", PetstoreSettings, build))


if __name__ == "__main__":
    main()
