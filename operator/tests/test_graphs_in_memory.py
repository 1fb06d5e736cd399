"""Where dev mode keeps APIGraphs."""

import threading

import pytest
from harness import Harness, RecordingApplier
from specs import component, spec

from turbo_operator.core.desired import Object


def test_a_status_written_meanwhile_does_not_undo_a_new_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spec acknowledged while a status of the old one is being written is still there afterwards."""
    harness = Harness(RecordingApplier(), start=False)
    name = harness.put(spec(component()))
    before = harness.graphs.get(name)
    assert before is not None
    get = harness.graphs.get
    newer = threading.Thread(target=harness.put, args=(spec(component(), build="build-2"),))

    def get_and_be_overtaken(name: str) -> Object | None:
        found = get(name)
        monkeypatch.setattr(harness.graphs, "get", get)
        newer.start()
        newer.join(0.3)  # as long as a lock holds it up it cannot end
        return found

    monkeypatch.setattr(harness.graphs, "get", get_and_be_overtaken)
    result = harness.writer.write_status(before, {"phase": "Running"})
    assert result.obj is not None
    newer.join(10)
    harness.graphs.put(result.obj)
    after = harness.graphs.get(name)
    assert after is not None
    assert after["spec"]["buildId"] == "build-2"
