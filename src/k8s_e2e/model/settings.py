"""Settings of the kit itself: directories and deadlines, each from the environment (``K8S_E2E_...``) or its default."""

import os
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from k8s_e2e.base.errors import UsageError

_PREFIX = "K8S_E2E_"


def _xdg(variable: str, fallback: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / fallback) / "k8s-e2e"


class Settings(BaseSettings):
    """All settings; durations in seconds."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, extra="ignore")

    cache_dir: Path = Field(default_factory=lambda: _xdg("XDG_CACHE_HOME", ".cache"))
    """What can be made again: binaries, packages, images."""
    state_dir: Path = Field(default_factory=lambda: _xdg("XDG_STATE_HOME", ".local/state"))
    """Clusters and their credentials; mode 0700."""
    bin_dir: Path | None = None
    """A directory with ready-made cluster binaries; asked before every other source."""
    mirror_url: str = ""
    """Where official releases are fetched from instead of their own hosts (same paths below it)."""
    offline: bool = False
    """Never download releases; build or use what is there."""
    kind_node_image: str = ""
    """The node image of clusters that kind makes, where the pinned one is not wanted: a mirror's, another version's."""
    no_install: bool = False
    """Never install system packages."""

    up_timeout_s: float = 180.0
    """A cluster that is not ready by then has failed."""
    component_timeout_s: float = 90.0
    """A component of the local cluster that is not healthy by then has failed."""
    down_timeout_s: float = 30.0
    build_timeout_s: float = 3600.0
    """One binary or image build."""
    download_timeout_s: float = 600.0
    load_timeout_s: float = 300.0
    rollout_timeout_s: float = 180.0
    """All deployments of the platform available."""
    step_timeout_s: float = 60.0
    """A wait or assert that does not say its own."""
    request_timeout_s: float = 10.0
    gate_timeout_s: float = 30.0
    """Traces complete at Jaeger."""
    collect_timeout_s: float = 120.0
    publish_timeout_s: float = 90.0
    """The whole exchange with GitHub's API, pauses that its rate limits ask for included."""
    stage_timeout_s: float = 5400.0
    """A stage's own watchdog; long enough for the builds of a first run (`build_timeout_s`) and what comes after."""


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        UsageError: a variable has a value that is not of its kind; it is named.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        variable = f"{_PREFIX}{first['loc'][0]}".upper()
        message = f"{variable}={first['input']}: {first['msg']}"
        raise UsageError(message, hint=f"set another value, or unset {variable}") from error
