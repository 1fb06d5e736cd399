"""Prometheus metrics of the operator, served at /metrics."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

ACTIONS = Counter("turbo_operator_actions", "Finished actions", ["action", "kind", "outcome"])
WRITE_SECONDS = Histogram("turbo_operator_write_duration_seconds", "Duration of a write, answer included", ["kind"])
RECONCILES = Counter("turbo_operator_reconciles", "Reconciles of an APIGraph", ["result"])
RECONCILE_SECONDS = Histogram("turbo_operator_reconcile_duration_seconds", "Duration of a reconcile")
QUEUE_DEPTH = Gauge("turbo_operator_queue_depth", "Keys that are due", ["queue"])
LISTS = Counter("turbo_operator_lists", "Complete lists taken in", ["kind"])
WATCH_ERRORS = Counter("turbo_operator_watch_errors", "Errors of list and watch", ["kind"])
BUILDER_POLLS = Counter("turbo_operator_builder_polls", "Polls of the builder", ["result"])
STATUS_WRITES = Counter("turbo_operator_status_writes", "Writes of an APIGraph's status", ["outcome"])
EVENTS = Counter("turbo_operator_events", "Kubernetes Events by what became of them", ["outcome"])
"""Outcomes: posted, failed, and dropped for want of room in the queue."""


class GraphPhases(Collector):
    """APIGraphs by phase, counted by `count` whenever they are asked for."""

    def __init__(self) -> None:
        self.count: Callable[[], Mapping[str, int]] = dict

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The numbers as they are now."""
        family = GaugeMetricFamily("turbo_operator_graphs", "APIGraphs by phase", labels=["phase"])
        for phase, count in self.count().items():
            family.add_metric([phase], count)
        yield family


GRAPHS = GraphPhases()
REGISTRY.register(GRAPHS)
