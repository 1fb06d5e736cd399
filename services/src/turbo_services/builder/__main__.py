"""Run the builder."""

from turbo_services.builder.app import BuilderSettings, build
from turbo_services.common.server import run


def main() -> None:
    """Serve until SIGTERM."""
    raise SystemExit(run("builder", BuilderSettings, build))


if __name__ == "__main__":
    main()
