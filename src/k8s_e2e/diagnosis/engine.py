"""Diagnosis of one run: every rule family over the sealed files, ranked, written to `findings.json`."""

from k8s_e2e.base import files
from k8s_e2e.diagnosis.facts import Facts
from k8s_e2e.diagnosis.observed import Observed
from k8s_e2e.diagnosis.ranking import rank
from k8s_e2e.diagnosis.rules import FAMILIES
from k8s_e2e.model.layout import RunDir
from k8s_e2e.model.story import Findings


def diagnose(run: RunDir) -> Findings:
    """Work out why the run ended as it did, write `findings.json` and return it.

    A pure function of the sealed files: the same files give the same bytes. What is missing is a blind spot.
    """
    found = examine(Facts(Observed(run)))
    files.write_json(run.findings, found)
    return found


def examine(facts: Facts) -> Findings:
    """Return the findings of one run, best explanation first; nothing is written."""
    facts.observed.everything()
    candidates = [candidate for family in FAMILIES for candidate in family(facts)]
    findings = rank(facts, candidates)
    blind_spots = [f"{path}: {why}" for path, why in sorted(facts.observed.blind_spots.items())]
    return Findings(findings=findings, blind_spots=blind_spots)
