"""The launcher ``e2e``: one environment, made once, and again when making it was interrupted."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).parents[2] / "e2e"
# In uv's place, so that nothing is downloaded: it notes its calls and installs a k8s-e2e that says its arguments.
UV = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/calls"
[ ! -e "$(dirname "$0")/broken" ] || { echo "no space left" >&2; exit 2; }
sleep 0.3
printf '#!/bin/sh\\necho ran "$@"\\n' > "$VIRTUAL_ENV/bin/k8s-e2e"
chmod +x "$VIRTUAL_ENV/bin/k8s-e2e"
"""


@pytest.fixture
def project(tmp_path):
    """A project of nothing but the launcher and the files it looks at."""
    top = tmp_path / "project"
    for name in ("", "operator", "services"):
        (top / name).mkdir(parents=True)
        (top / name / "pyproject.toml").touch()
    (top / "requirements.lock").touch()
    shutil.copy(LAUNCHER, top / "e2e")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "uv").write_text(UV)
    (tools / "uv").chmod(0o755)
    return top


def launch(project):
    """Start ``./e2e up``."""
    tools = project.parent / "tools"
    env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "K8S_E2E_PYTHON": sys.executable}
    return subprocess.Popen([project / "e2e", "up"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_at_once_make_one_environment(project):
    """Of two that start at once one sets up, the other waits, and both run; half an environment is made anew."""
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / ".venv" / "bin" / "python").symlink_to("gone")
    ended = []
    for each in [launch(project), launch(project)]:
        out, err = each.communicate(timeout=120)
        ended.append((each.returncode, out, err))
    assert [(code, out) for code, out, _ in ended] == [(0, "ran up\n")] * 2, ended
    assert len((project.parent / "tools" / "calls").read_text().splitlines()) == 2  # dependencies, the project
    assert (project / ".venv" / "bin" / "pip").exists()


def test_a_set_up_that_fails_is_exit_code_3(project):
    """Whatever fails while the environment is made, the code is 3, the last line says what to do, and nothing runs."""
    (project.parent / "tools" / "broken").touch()
    child = launch(project)
    out, err = child.communicate(timeout=120)
    assert (child.returncode, out) == (3, "")
    assert "no space left" in err
    assert err.splitlines()[-1].startswith(f"e2e: could not set up {project / '.venv'}")
