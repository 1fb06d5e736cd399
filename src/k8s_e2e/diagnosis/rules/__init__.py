"""The rule families: each module's ``find(facts)`` yields what it can prove, and nothing else."""

from collections.abc import Callable, Iterator

from k8s_e2e.diagnosis.facts import Candidate, Facts
from k8s_e2e.diagnosis.rules import (
    configuration,
    crash,
    image,
    operator,
    pipeline,
    probes,
    rollout,
    scheduling,
    test_side,
)

Family = Callable[[Facts], Iterator[Candidate]]

FAMILIES: tuple[Family, ...] = (
    image.find,
    crash.find,
    configuration.find,
    scheduling.find,
    operator.find,
    probes.find,
    rollout.find,
    test_side.find,
    pipeline.find,
)
