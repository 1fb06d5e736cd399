"""The cache and the queues: nothing is lost, nothing old comes back, nobody waits for a large neighbour."""

import threading
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from turbo_operator.core import names
from turbo_operator.store import _REMEMBERED_DELETES, Store, graphs_of, same_but_status
from turbo_operator.workqueue import FairPool, WorkQueue


def _obj(name: str, version: int, uid: str | None = None, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}, **more}


def _versions(store: Store) -> dict[str, str]:
    return {obj["metadata"]["name"]: obj["metadata"]["resourceVersion"] for obj in store.all()}


def test_r05_a_list_replaces_the_cache() -> None:
    """What a relist no longer has is gone from the cache, and listeners hear of it."""
    heard: list[tuple[str, bool, bool]] = []
    store = Store("ConfigMap", "v1", lambda _, old, new: heard.append(("", old is not None, new is not None)))
    store.replace([_obj("a", 1), _obj("b", 2)], 2)
    heard.clear()
    store.replace([_obj("b", 2), _obj("c", 5)], 9)
    assert _versions(store) == {"b": "2", "c": "5"}
    assert sorted(heard) == [("", False, True), ("", True, False)]


def test_r07_the_cache_is_never_older_than_our_own_write() -> None:
    """A watch event or a list from before our write or delete changes nothing."""
    store = Store("ConfigMap", "v1")
    store.replace([_obj("a", 1)], 1)
    store.put(_obj("a", 10))
    store.put(_obj("a", 5))
    store.put(_obj("new", 11))
    store.replace([_obj("a", 5)], 7)
    assert _versions(store) == {"a": "10", "new": "11"}
    store.remove("a", "uid-a")
    store.put(_obj("a", 12))
    assert _versions(store) == {"new": "11"}
    store.replace([_obj("a", 10), _obj("new", 11)], 11)
    assert _versions(store) == {"new": "11"}
    store.put(_obj("a", 20, uid="another"))
    store.remove("a", "uid-a")
    assert _versions(store) == {"new": "11", "a": "20"}


def test_r05_a_list_whose_versions_went_back_is_taken_as_it_is() -> None:
    """After a backup was restored, neither higher versions nor deletions from before hide what is there."""
    store = Store("ConfigMap", "v1")
    store.replace([_obj("a", 90), _obj("b", 95), _obj("c", 96)], 100)
    store.remove("c", "uid-c")
    store.replace([_obj("a", 40), _obj("c", 50)], 60, anew=True)
    assert _versions(store) == {"a": "40", "c": "50"}
    store.put(_obj("c", 61))
    assert _versions(store) == {"a": "40", "c": "61"}


def test_r04_a_late_event_does_not_bring_back_what_is_gone() -> None:
    """After its deletion an object stays gone, also if an event from before arrives after it or without it."""
    store = Store("ConfigMap", "v1")
    store.put(_obj("a", 1))
    store.remove("a", "uid-a")
    store.put(_obj("a", 5))
    store.remove("b", "uid-b")
    store.put(_obj("b", 5))
    assert _versions(store) == {}
    store.put(_obj("a", 9, uid="another"))
    assert _versions(store) == {"a": "9"}


def test_r24_the_store_remembers_so_many_deletions_and_no_more() -> None:
    """Late events come soon: what was deleted last is known to be gone, what was deleted long ago is forgotten."""
    store = Store("ConfigMap", "v1")
    for n in range(2 * _REMEMBERED_DELETES):
        store.remove(f"a{n}", f"uid-{n}")
    assert len(store._gone) == _REMEMBERED_DELETES
    store.put(_obj("late", 1, uid=f"uid-{_REMEMBERED_DELETES}"))
    assert _versions(store) == {}


_EVENTS = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["put", "delete"])), max_size=12)


@given(_EVENTS, st.randoms(use_true_random=False))
def test_r04_late_double_and_reordered_events_end_in_the_same_cache(history: list[Any], random: Any) -> None:
    """Whatever order events arrive in, and however often, a final list leaves exactly what is there."""
    events: list[tuple[str, dict[str, Any]]] = []
    truth: dict[str, dict[str, Any]] = {}
    for version, (name, verb) in enumerate(history, start=1):
        if verb == "put":
            uid = truth[name]["metadata"]["uid"] if name in truth else f"{name}-{version}"
            truth[name] = _obj(name, version, uid)
            events.append(("put", truth[name]))
        elif name in truth:
            events.append(("remove", truth.pop(name)))
    shuffled = [event for event in events for _ in range(random.choice([0, 1, 1, 2]))]
    random.shuffle(shuffled)
    store = Store("ConfigMap", "v1")
    for verb, obj in shuffled:
        if verb == "put":
            store.put(obj)
        else:
            store.remove(obj["metadata"]["name"], obj["metadata"]["uid"])
    store.replace(truth.values(), len(history) + 1)
    assert _versions(store) == {name: obj["metadata"]["resourceVersion"] for name, obj in truth.items()}


def test_objects_are_found_by_graph_through_label_or_owner() -> None:
    """An object that lost its label is still found by its owner, and the other way round."""
    store = Store("ConfigMap", "v1")
    owner = [{"apiVersion": names.GRAPH_API_VERSION, "kind": names.GRAPH_KIND, "name": "env-1", "uid": "u"}]
    labels = {names.LABEL_MANAGED_BY: names.MANAGER, names.LABEL_ENVIRONMENT: "env-1"}
    for name, extra in (("owned", {"ownerReferences": owner}), ("labelled", {"labels": labels}), ("foreign", {})):
        obj = _obj(name, 1)
        obj["metadata"] |= extra
        store.put(obj)
    assert {obj["metadata"]["name"] for obj in store.of_graph("env-1")} == {"owned", "labelled"}
    store.remove("owned", None)
    assert {obj["metadata"]["name"] for obj in store.of_graph("env-1")} == {"labelled"}
    assert graphs_of({"metadata": {"name": "x"}}) == set()


def test_only_what_a_plan_reads_counts_as_a_change() -> None:
    """A new status or rollout revision asks for no plan; a new label or spec does."""
    old = _obj("a", 1, spec={"x": 1}, status={"n": 1})
    new = _obj("a", 2, spec={"x": 1}, status={"n": 2})
    new["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "2"}
    assert same_but_status(old, new)
    assert not same_but_status(old, _obj("a", 3, spec={"x": 2}))
    assert not same_but_status(old, None)


def test_a_key_added_while_in_work_comes_again() -> None:
    """Changes during a reconcile are not missed, and one key is never in work twice."""
    queue = WorkQueue("t")
    queue.add("a")
    queue.add("a")
    assert queue.get() == "a"
    queue.add("a")
    queue.add("b")
    assert queue.get() == "b"
    queue.done("a")
    assert queue.get() == "a"
    queue.stop()
    assert queue.get() is None


def test_only_keys_that_are_due_count_as_waiting() -> None:
    """A key that comes again in five minutes is no backlog; the metric is counted when it is read."""
    queue = WorkQueue("counted")
    queue.add("later", 300)
    queue.add("now")
    queue.add("overdue", -1)
    queue.add("overdue too", -1)
    assert queue.get() == "overdue"
    depth = REGISTRY.get_sample_value("turbo_operator_queue_depth", {"queue": "counted"})
    assert depth == 2


def test_an_earlier_time_wins_and_backoff_doubles() -> None:
    """A delayed key added at once is due at once; failures wait 0.8 s, 1.6 s, ... and start over after a success."""
    queue = WorkQueue("t")
    queue.add("a", 60)
    queue.add("a")
    assert queue.get() == "a"
    assert [queue.failed("a") for _ in range(3)] == [0.8, 1.6, 3.2]
    queue.succeeded("a")
    assert queue.failed("a") == 0.8


def test_r26_a_large_graph_does_not_keep_a_small_one_waiting() -> None:
    """A task of another graph is next in turn, however many tasks wait before it."""
    pool = FairPool(1, "t")
    gate = threading.Event()
    order: list[str] = []
    pool.submit("large", lambda: gate.wait(10))
    futures = [pool.submit("large", partial(order.append, str(n))) for n in range(100)]
    small = pool.submit("small", partial(order.append, "small"))
    gate.set()
    small.result(10)
    for future in futures:
        future.result(10)
    assert order.index("small") <= 2
    assert pool.stop(5)


def test_r23_a_stopped_pool_finishes_what_runs_and_cancels_the_rest() -> None:
    """Writes in flight end; writes not begun are given up at once."""
    pool = FairPool(1, "t")
    begun, cancelled, ended = threading.Event(), threading.Event(), []

    def slow() -> None:
        begun.set()
        cancelled.wait(30)  # by the stop, which this outlasts
        ended.append(1)

    running = pool.submit("g", slow)
    waiting = pool.submit("g", lambda: ended.append(2))
    waiting.add_done_callback(lambda _: cancelled.set())
    assert begun.wait(30)
    assert pool.stop(5)
    assert running.done()
    assert waiting.cancelled()
    assert ended == [1]
    assert pool.submit("g", slow).cancelled()
