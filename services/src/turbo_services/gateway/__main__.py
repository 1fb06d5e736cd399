"""Run the gateway."""

from turbo_services.common.server import run
from turbo_services.gateway.app import GatewaySettings, build


def main() -> None:
    """Serve until SIGTERM."""
    raise SystemExit(run("gateway", GatewaySettings, build, date_header=False))


if __name__ == "__main__":
    main()
