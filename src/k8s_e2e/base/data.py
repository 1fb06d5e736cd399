"""Where the files are that a run needs and that are no Python: notebooks, scenarios, manifests, the project profile."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def data_dir() -> Path:
    """Return the directory that holds ``notebooks/``, ``scenarios/``, ``infra/`` and ``k8s-e2e.toml``.

    The checkout's root when running from one (an editable install), else what the wheel carries.
    """
    checkout = _PACKAGE.parents[1]
    if (checkout / "pyproject.toml").is_file() and (checkout / "infra").is_dir():
        return checkout
    return _PACKAGE / "_data"
