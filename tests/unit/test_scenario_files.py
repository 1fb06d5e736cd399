"""Scenario files: what is read, what is refused, and where the refusal says the fault is."""

import json
import re
from pathlib import Path

import jmespath
import jsonschema
import pytest

from k8s_e2e.base.errors import UsageError
from k8s_e2e.model.profile import Profile, ServicePort, TraceSource, load_profile
from k8s_e2e.scenarios import loader, reference, source
from k8s_e2e.scenarios.model import KINDS
from k8s_e2e.scenarios.schema import scenario_schema
from k8s_e2e.scenarios.values import seconds

ROOT = Path(__file__).resolve().parents[2]
STEP = "http: {service: web, path: /}"


@pytest.fixture
def profile(tmp_path):
    """A profile whose only service is `web`, with traces and an empty scenario directory."""
    (tmp_path / "scenarios").mkdir()
    services = (ServicePort(name="web", port=80),)
    traces = TraceSource(service="jaeger")
    return Profile(root=tmp_path, name="p", overlay="o", namespace="n", services=services, traces=traces)


def write(profile, text, name="one.yaml"):
    """Write a file into the scenario directory."""
    path = profile.root / profile.scenario_dir / name
    path.write_text(text)
    return path


def refused(profile, text):
    """Write a scenario that must be refused, and return the error's one line without the directory."""
    path = write(profile, text)
    with pytest.raises(UsageError) as error:
        loader.load(["one"], profile)
    assert "\n" not in str(error.value)
    return str(error.value).replace(f"{path.parent}/", "")


def steps(*lines):
    """Return a scenario with these steps, the first in line 3."""
    return "name: one\nsteps:\n" + "".join(f"  - {line}\n" for line in lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: one\nsteps: [\n", "one.yaml:3: not YAML"),
        ("\tname: one\n", "one.yaml:1: not YAML"),
        ("", "one.yaml:1: there is no mapping"),
        ("just text\n", "one.yaml:1: there is no mapping"),
        ("name: one\nname: two\nsteps: []\n", "one.yaml:2: key 'name' stands twice (first in line 1)"),
        (f"name: one\nsteps:\n  - {STEP}\n---\nname: two\n", "not YAML"),
        (f"name: one\nstepz:\n  - {STEP}\n", "one.yaml:2: unknown key 'stepz'; did you mean 'steps'?"),
        ("name: one\n", "one.yaml:1: key 'steps' is missing"),
        ("name: one\nsteps: []\n", "one.yaml:2: steps: list should have at least 1 item"),
        (f"name: One!\nsteps:\n  - {STEP}\n", "one.yaml:1: name: string should match pattern"),
        (steps("htpp: {service: web, path: /}"), "one.yaml:3: unknown step kind 'htpp'; did you mean 'http'?"),
        (steps("name: nothing"), "one.yaml:3: the step has no kind; known: http, wait"),
        (steps("just text"), "one.yaml:3: steps.0: input should be a valid dictionary"),
        (steps(f"{{{STEP}, script: {{run: ls}}}}"), "one.yaml:3: a step is one thing, this is http and script"),
        (
            steps("http: {service: web, path: /, metod: GET}"),
            "one.yaml:3: unknown key 'http.metod'; did you mean 'method'",
        ),
        (steps("http:\n      service: web\n      path: /\n      metod: GET"), "one.yaml:6: unknown key 'http.metod'"),
        (steps("http: {service: web}"), "one.yaml:3: key 'http.path' is missing"),
        (steps("http: {service: weeb, path: /}"), "one.yaml:3: no service 'weeb'"),
        (steps("http: {service: web, path: nowhere}"), "one.yaml:3: http.path: string should match"),
        (steps(f"{{{STEP}, timeout: 5}}"), "one.yaml:3: timeout: not a duration such as 90s"),
        (steps(f"{{{STEP}, timeout: soon}}"), "one.yaml:3: timeout: not a duration such as 90s"),
        (steps(f"{{{STEP}, capture: {{id: 'a['}}}}"), "one.yaml:3: capture.id: not JMESPath"),
        (steps(f"{{{STEP}, capture: {{1a: id}}}}"), "one.yaml:3: '1a' cannot be a name"),
        (steps("http: {service: web, path: '/${env}'}"), "one.yaml:3: ${env} has no value here; known here: run.id"),
        (steps("http: {service: web, path: '/${run.idd}'}"), "one.yaml:3: ${run.idd} has no value here"),
        (steps("assert: {kind: Pod, metadata: {name: a}}"), "one.yaml:3: key 'assert.apiVersion' is missing"),
        (steps("assert: {apiVersion: v1, kind: Pod, metadata: {}}"), "metadata needs a name or labels"),
        (steps("wait: {http: {service: web, path: /}}"), "one.yaml:3: wait: until or expect must be given"),
        (steps("wait: {until: a}"), "one.yaml:3: wait: either http or object must be given"),
        (steps("trace: {of: nothing}"), "one.yaml:3: no earlier step that sends a request is called 'nothing'"),
        (f"name: one\nuse: [words.yaml]\nsteps:\n  - {STEP}\n", "one.yaml:2: cannot read words.yaml: No such file"),
    ],
)
def test_wrong_files_are_refused_in_one_line_with_the_place(profile, text, words):
    """Whatever is wrong in a file, its line and what is wrong there are said."""
    assert words in refused(profile, text)


def test_a_capture_is_known_to_later_steps_and_to_cleanup_only(profile):
    """A name may be used after the step that captures it, not before."""
    capture = "{http: {service: web, path: /}, capture: {env: id}}"
    use = "http: {service: web, path: '/${env}'}"
    write(profile, steps(capture, use) + f"cleanup:\n  - {use}\n")
    assert len(loader.load(["one"], profile)[0].steps) == 2
    assert "one.yaml:3: ${env} has no value here" in refused(profile, steps(use, capture))


def test_a_shell_script_keeps_its_own_references(profile):
    """`${...}` in `script.run` is the shell's and is neither checked nor replaced."""
    write(profile, steps('script: {run: "echo ${HOME}", env: {RUN: "${run.id}"}}'))
    (step,) = loader.load(["one"], profile)[0].steps
    assert step.tree["script"]["run"] == "echo ${HOME}"


def test_scalars_are_those_of_json(profile):
    """Dates, clock times, `yes` and versions are text; numbers, true and null are what they look like."""
    path = write(profile, "a: 2026-01-02\nb: 10:30\nc: yes\nd: 1.0.0\ne: 12\nf: true\ng: null\nh: 1.5\ni: 007\nj: ~\n")
    expected = {"a": "2026-01-02", "b": "10:30", "c": "yes", "d": "1.0.0", "e": 12, "f": True, "g": None}
    assert source.read(path) == {**expected, "h": 1.5, "i": "007", "j": None}


WORDS = """
templates:
  publish:
    required: [name]
    defaults: {image: null, env: {}, as: id}
    steps:
      - name: publish ${name}
        http:
          service: web
          path: /packages/${name}
          json: {name: "${name}", runtime: {image: "${image}", env: "${env}"}, run: "${run.id}"}
        capture: {"${as}": id}
  both:
    required: [name]
    steps:
      - publish: {name: "${name}-a", as: first}
      - publish: {name: "${name}-b", env: {X: "${first}"}}
  circle:
    steps: [{circle: {}}]
"""


def with_words(profile, *lines):
    """Return a scenario that uses WORDS, its first step in line 4."""
    write(profile, WORDS, "words.yaml")
    return "name: one\nuse: [words.yaml]\nsteps:\n" + "".join(f"  - {line}\n" for line in lines)


def test_templates_expand_to_steps_with_their_parameters(profile):
    """Parameters keep their type, null ones take their key along, run-time names stay, keys are replaced, too."""
    write(profile, with_words(profile, "{publish: {name: users, env: {A: 1}}, name: make it}", "both: {name: x}"))
    made, first, second = loader.load(["one"], profile)[0].steps
    assert (made.name, first.name, second.name) == ("make it", "publish x-a", "publish x-b")
    assert made.tree["http"]["json"] == {"name": "users", "runtime": {"env": {"A": 1}}, "run": "${run.id}"}
    assert first.tree["capture"] == {"first": "id"}
    assert second.tree["http"]["json"]["runtime"]["env"] == {"X": "${first}"}
    assert str(second.mark).endswith("one.yaml:5")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("publish: {nam: a}", "one.yaml:4: unknown parameter 'nam' of publish; did you mean 'name'?"),
        ("publish: {}", "one.yaml:4: publish needs name"),
        ("publish: text", "one.yaml:4: publish takes parameters: {name, image, env, as}"),
        (
            "{publish: {name: a}, expect: {status: 1}}",
            "one.yaml:4: unknown key 'expect'; a publish step has only `name`",
        ),
        ("circle: {}", "templates call each other in a circle"),
        ("publish: {name: '${nobody}'}", "one.yaml:4: ${nobody} has no value here (in the template: words.yaml:"),
        ("publish: {name: a, env: {A: '${nobody}'}}", "one.yaml:4: ${nobody} has no value here; known here"),
        ("publish: {name: a, as: 1a}", "one.yaml:4: '1a' cannot be a name (in the template: words.yaml:"),
        ("publsh: {name: a}", "one.yaml:4: unknown step kind 'publsh'; did you mean 'publish'?"),
    ],
)
def test_wrong_template_calls_are_refused_with_the_place(profile, line, words):
    """A call is checked against the template's parameters, and so is what it expands to."""
    assert words in refused(profile, with_words(profile, line))


def test_a_fault_inside_a_template_is_told_with_the_template_s_line(profile):
    """What a template makes is checked, and its own file and line are named."""
    broken = "templates:\n  bad:\n    steps:\n      - http: {service: web, pth: /}\n"
    write(profile, broken, "words.yaml")
    text = "name: one\nuse: [words.yaml]\nsteps:\n  - bad: {}\n"
    assert "words.yaml:4: " in refused(profile, text)


def test_a_template_cannot_take_the_name_of_a_step_kind(profile):
    """The kit's own words are taken."""
    write(profile, "templates:\n  http:\n    steps: [{http: {}}]\n", "words.yaml")
    assert "words.yaml:2: a template cannot be called 'http'" in refused(
        profile, "name: one\nuse: [words.yaml]\nsteps:\n  - http: {}\n"
    )


def test_scenarios_are_found_by_name_glob_and_path(profile, tmp_path):
    """Names are files of the scenario directory; a glob leaves template files out; each scenario comes once."""
    for name in ("users", "user-groups"):
        write(profile, steps(STEP).replace("one", name), f"{name}.yaml")
    write(profile, WORDS, "words.yaml")
    elsewhere = tmp_path / "elsewhere.yml"
    elsewhere.write_text(steps(STEP).replace("one", "other"))

    def names(*wanted):
        return [scenario.name for scenario in loader.load(list(wanted), profile)]

    assert names("users") == ["users"]
    assert names("*") == ["user-groups", "users"]
    assert names("users", "user*", str(elsewhere)) == ["users", "user-groups", "other"]
    with pytest.raises(UsageError, match=r"no scenario is called 'user'.*known: user-groups, users"):
        names("user")
    with pytest.raises(UsageError, match=r"no scenario file nowhere/x.yaml"):
        names("nowhere/x.yaml")


def test_two_files_cannot_have_the_same_name_inside(profile):
    """Results are kept by name, so names must differ."""
    write(profile, steps(STEP))
    write(profile, steps(STEP), "two.yaml")
    with pytest.raises(UsageError, match="is called 'one', too"):
        loader.load(["one", "two"], profile)


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90), ("1m30s", 90), ("1.5s", 1.5), ("300ms", 0.3), ("2h", 7200), ("0", 0), (0, 0)]
)
def test_durations_are_read_as_go_writes_them(text, expected):
    """Units are needed, parts add up."""
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "s", "5", 5, "1d", "1s2", "-1s", None, True])
def test_what_is_no_duration_is_refused(text):
    """A bare number is ambiguous and is refused."""
    with pytest.raises(ValueError, match="not a duration"):
        seconds(text)


def test_the_shipped_scenarios_are_sound_and_fit_their_schema():
    """Every scenario of this repository loads, and its file is valid by the published JSON Schema."""
    profile = load_profile(ROOT / "k8s-e2e.toml")
    validator = jsonschema.Draft202012Validator(json.loads(json.dumps(scenario_schema())))
    validator.check_schema(validator.schema)
    assert {scenario.name for scenario in loader.load(["*"], profile)} >= {"users-products", "petstore"}
    for path in (ROOT / "scenarios").glob("*.yaml"):
        assert [error.message for error in validator.iter_errors(source.read(path))] == []


@pytest.mark.parametrize(
    "text", [steps("http: {service: web, path: /, metod: GET}"), steps(STEP) + "cleanupp: []\n", "name: one\n"]
)
def test_the_schema_refuses_unknown_keys(text, tmp_path):
    """Editors see the same faults as the loader."""
    path = tmp_path / "one.yaml"
    path.write_text(text)
    assert not jsonschema.Draft202012Validator(scenario_schema()).is_valid(source.read(path))


def test_the_reference_in_the_docs_is_up_to_date():
    """docs/scenarios.md holds what the models say; running `k8s_e2e.scenarios.reference` as a module mends it."""
    text = (ROOT / "docs/scenarios.md").read_text()
    assert f"{reference.BEGIN}\n\n{reference.reference()}\n{reference.END}" in text
    assert all(f"#### `{kind}`" in text for kind in KINDS)


def test_the_stations_of_the_profile_can_be_asked():
    """The chain of k8s-e2e.toml begins where a change does, and its expressions are JMESPath."""
    chain = load_profile(ROOT / "k8s-e2e.toml").chain
    assert [station.name for station in chain][:2] == ["publish", "build"]
    for station in chain:
        jmespath.compile(station.ok)
        jmespath.compile(station.seen or "@")


def test_the_examples_of_the_manual_are_sound(tmp_path):
    """What docs/scenarios.md shows is read without a complaint, scenario and templates."""
    scenario, words = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/scenarios.md").read_text(), re.DOTALL)
    (tmp_path / "scenarios").mkdir()
    services = tuple(ServicePort(name=name, port=80) for name in ("web", "registry"))
    traces = TraceSource(service="jaeger")
    profile = Profile(root=tmp_path, name="p", overlay="o", namespace="n", services=services, traces=traces)
    write(profile, words, "words.yaml")
    call = "  - publish: {name: users, version: 1.0.0}\ncleanup:"
    write(profile, "use: [words.yaml]\n" + scenario.replace("cleanup:", call))
    assert [step.kind for step in loader.load(["one"], profile)[0].steps] == [
        "apply",
        "assert",
        "http",
        "trace",
        "http",
    ]
