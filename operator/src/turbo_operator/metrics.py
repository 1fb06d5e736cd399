"""Prometheus metrics of the operator, served at /metrics."""

from prometheus_client import Counter, Gauge, Histogram

ACTIONS = Counter("turbo_operator_actions", "Finished actions", ["action", "kind", "outcome"])
WRITE_SECONDS = Histogram("turbo_operator_write_duration_seconds", "Duration of a write, answer included", ["kind"])
RECONCILES = Counter("turbo_operator_reconciles", "Reconciles of an APIGraph", ["result"])
RECONCILE_SECONDS = Histogram("turbo_operator_reconcile_duration_seconds", "Duration of a reconcile")
QUEUE_DEPTH = Gauge("turbo_operator_queue_depth", "Keys waiting", ["queue"])
LISTS = Counter("turbo_operator_lists", "Complete lists taken in", ["kind"])
WATCH_ERRORS = Counter("turbo_operator_watch_errors", "Errors of list and watch", ["kind"])
BUILDER_POLLS = Counter("turbo_operator_builder_polls", "Polls of the builder", ["result"])
STATUS_WRITES = Counter("turbo_operator_status_writes", "Writes of an APIGraph's status", ["outcome"])
EVENTS = Counter("turbo_operator_events", "Kubernetes Events by what became of them", ["outcome"])
"""Outcomes: posted, failed, and dropped for want of room in the queue."""
GRAPHS = Gauge("turbo_operator_graphs", "APIGraphs by phase", ["phase"])
