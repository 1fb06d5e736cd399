"""What the API server refused the run itself: its account lacks a right, and the platform has nothing to do with it."""

import re
from typing import NamedTuple

from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.model.run import RunRecord

_OWN = re.compile(  # `platform.kube.ApiError` begins with the request; what a controller says does not
    r'[A-Z]+ /apis?/\S*: 403 \w*: [^\n]*?User "([^"]+)" cannot (\w+) resource "([^"]+)" in API group "([^"]*)"'
)


class Refusal(NamedTuple):
    """``user`` as the server knows it, ``what`` it may not do (``patch deployments.apps``), and the whole answer."""

    user: str
    what: str
    message: str

    @property
    def account(self) -> str:
        """NAMESPACE/NAME of a ServiceAccount, empty for any other user."""
        parts = self.user.split(":")
        return "/".join(parts[2:]) if parts[:2] == ["system", "serviceaccount"] else ""


def own(facts: Facts) -> Refusal | None:
    """Return what the failing step, or stage, was refused by the API server."""
    failure = facts.failure
    if failure is None:
        return None
    step, stage = failure.step, failure.stage
    for text in (step.message, step.hopeless) if step is not None else (stage.error if stage else "",):
        if match := _OWN.search(text):
            group = f".{match[4]}" if match[4] else ""
            return Refusal(match[1], f"{match[2]} {match[3]}{group}", text)
    return None


def role_command(record: RunRecord, *words: str) -> str:
    """Return the command that prints the Role for the scenarios of this run; ``words`` are its name and options."""
    asked = record.parameters.get("scenarios") or ()
    return record.command(*words, *(word for name in asked for word in ("--scenarios", str(name))))
