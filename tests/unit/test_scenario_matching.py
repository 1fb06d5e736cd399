"""Subset matching, coming to rest, and the words for what is missing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8s_e2e.scenarios import matching, references
from k8s_e2e.scenarios.settled import unsettled

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
)


@given(values)
def test_everything_matches_itself_and_nothing_is_left_to_show(value):
    """A value holds itself, and the part of it that it speaks of is all of it."""
    assert matching.differences(value, value) == []
    assert matching.diff(value, matching.part(value, value)) == ""


@given(st.dictionaries(st.text(max_size=3), values, max_size=5), st.data())
def test_a_mapping_holds_each_of_its_parts(value, data):
    """Keys that are not asked for do not matter."""
    kept = data.draw(st.sets(st.sampled_from(sorted(value)))) if value else set()
    assert matching.differences({key: value[key] for key in kept}, value) == []


@given(st.lists(st.integers(), min_size=1, max_size=6), st.randoms())
def test_the_order_of_a_list_does_not_matter(items, random):
    """Each expected item needs an item of its own, anywhere."""
    shuffled = list(items)
    random.shuffle(shuffled)
    assert matching.differences(shuffled, items) == []
    assert matching.differences([*items, items[0]], items) != []


@pytest.mark.parametrize(
    ("expected", "actual", "words"),
    [
        ({"a": 1}, {"a": 2}, "a is 2, expected 1"),
        ({"a": {"b": 1}}, {"a": {}}, "a.b is missing, expected 1"),
        ({"a": None}, {"a": 1}, "a is 1, expected nothing"),
        ({"a": []}, {"a": [1]}, "a is [1], expected []"),
        ({"a": "1"}, {"a": 1}, 'a is 1, expected "1"'),
        ({"a": True}, {"a": 1}, "a is 1, expected true"),
        ({"a": {}}, {"a": []}, "a is [], expected {}"),
        ({"x.y/z": 1}, {}, '["x.y/z"] is missing, expected 1'),
        ({"c": [{"name": "m", "v": 1}]}, {"c": [{"name": "m", "v": 2}]}, "c[m].v is 2, expected 1"),
        ({"c": [1, 2]}, {"c": [1]}, "c[1] is missing, expected 2"),
    ],
)
def test_what_differs_is_named_by_its_path(expected, actual, words):
    """Each difference says where, what is, and what was expected."""
    assert matching.summary(matching.differences(expected, actual)) == words


def test_many_differences_are_counted():
    """One line shows three of them."""
    found = matching.differences(dict.fromkeys("abcde", 1), {})
    assert matching.summary(found).endswith("(and 2 more)")


def test_a_diff_shows_both_sides_of_what_was_asked_for_only():
    """Keys that nobody asked for are not in the way."""
    expected = {"status": {"availableReplicas": 2}}
    actual = matching.part(expected, {"status": {"availableReplicas": 1, "other": 9}, "spec": {}})
    assert matching.diff(expected, actual, title="Deployment web").splitlines() == [
        "--- expected",
        "+++ Deployment web",
        " status:",
        "-  availableReplicas: 2",
        "+  availableReplicas: 1",
    ]


def test_the_nearest_miss_differs_least_and_is_called_most_alike():
    """Among equally wrong objects the more similar name wins."""

    def pod(name, *, ready):
        return {"metadata": {"name": name}, "status": {"ready": ready}}

    wanted = {"metadata": {"name": "web-1"}, "status": {"ready": True}}
    assert matching.nearest(wanted, [pod("db", ready=False), pod("web-2", ready=True)])["metadata"]["name"] == "web-2"
    assert matching.nearest(wanted, [pod("db", ready=True), pod("web-2", ready=True)])["metadata"]["name"] == "web-2"
    assert matching.nearest(wanted, []) is None


def deployment(generation=2, observed=2, replicas=1, **status):
    """Return a Deployment with this status."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d", "generation": generation},
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": observed, **status},
    }


@pytest.mark.parametrize(
    ("obj", "words"),
    [
        (deployment(replicas=1, updatedReplicas=1, availableReplicas=1), ""),
        (deployment(replicas=0), ""),
        (deployment(observed=1, updatedReplicas=1, availableReplicas=1), "its status is of generation 1"),
        (deployment(replicas=1, updatedReplicas=1, availableReplicas=2), ""),
        (deployment(replicas=2, updatedReplicas=1, availableReplicas=2), "1 of 2 replicas updated"),
        (deployment(updatedReplicas=1, availableReplicas=1) | {"kind": "Deployment"}, ""),
        (deployment(updatedReplicas=1), "0 of 1 replicas available"),
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}, ""),
        (
            {"apiVersion": "x/v1", "kind": "X", "metadata": {"generation": 3}, "status": {"observedGeneration": 2}},
            "its status is of generation 2, the object is at 3",
        ),
        (
            {
                "apiVersion": "apps/v1",
                "kind": "DaemonSet",
                "metadata": {"generation": 1},
                "status": {"observedGeneration": 1, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2},
            },
            "0 of 2 replicas available",
        ),
    ],
)
def test_an_object_has_come_to_rest_when_its_rollout_is_finished(obj, words):
    """A status of an older generation, and a rollout under way, are not accepted."""
    assert words in unsettled(obj) if words else unsettled(obj) == ""


def test_old_replicas_keep_a_rollout_from_being_finished():
    """One replica too many is a pod of the old template."""
    obj = deployment(replicas=1, updatedReplicas=1, availableReplicas=1)
    obj["status"]["replicas"] = 2
    assert unsettled(obj) == "rollout: 1 old replica is still there"
    obj["status"]["replicas"] = 3
    assert unsettled(obj) == "rollout: 2 old replicas are still there"


def lookup(name):
    """Know a few names."""
    values = {"n": 3, "none": None, "text": "a", "list": [1]}
    if name not in values:
        raise references.Unknown(name)
    return values[name]


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ("${n}", 3),
        ("v${n}", "v3"),
        ("${list}!", "[1]!"),
        ({"a": "${none}", "b": None, "c": "${text}"}, {"b": None, "c": "a"}),
        (["${none}", "${text}"], ["a"]),
        ({"${text}": 1}, {"a": 1}),
        ("$${n}", "${n}"),
        ("$5 ${text}", "$5 a"),
        ({"script": {"run": "${n}", "env": {"N": "${n}"}}}, {"script": {"run": "${n}", "env": {"N": 3}}}),
    ],
)
def test_references_are_replaced_by_values(tree, expected):
    """A lone reference keeps its value's type, null takes its key along, `$${` is a plain `${`."""
    assert references.resolve(tree, lookup) == expected


def test_an_unknown_name_is_an_error_unless_it_may_be_known_later():
    """Templates leave what is not theirs."""
    with pytest.raises(references.Unknown):
        references.resolve("${x}", lookup)
    assert references.resolve({"a": "${x} ${n} $${n}"}, lookup, partial=True) == {"a": "${x} 3 $${n}"}
