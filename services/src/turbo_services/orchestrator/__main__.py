"""Run the orchestrator."""

from turbo_services.common.server import run
from turbo_services.orchestrator.app import OrchestratorSettings, build


def main() -> None:
    """Serve until SIGTERM."""
    raise SystemExit(run("orchestrator", OrchestratorSettings, build))


if __name__ == "__main__":
    main()
