"""The JSON Schema of scenario files, for editors and for `k8s-e2e schema scenario`."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from k8s_e2e.scenarios.model import KINDS, ScenarioFile, Template, TemplateFile

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def scenario_schema() -> dict[str, Any]:
    """Return the JSON Schema of a scenario file or a template file.

    A key that is no step kind calls a template; which templates there are, `use` says, which no schema can follow.
    """
    models: list[type[BaseModel]] = [ScenarioFile, TemplateFile, Template, *KINDS.values()]
    _, top = models_json_schema([(model, "validation") for model in models], by_alias=True)
    definitions: dict[str, Any] = top["$defs"]
    for kind, model in KINDS.items():
        definition = definitions[model.__name__]
        definition["required"] = [kind]
    definitions["TemplateStep"] = {
        "description": "A step of a template that `use` names.",
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "not": {"anyOf": [{"required": [kind]} for kind in KINDS]},
        "additionalProperties": {"type": ["object", "null"]},
    }
    definitions["Step"] = {
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in [*(m.__name__ for m in KINDS.values()), "TemplateStep"]]
    }
    for name, part in (("ScenarioFile", "steps"), ("ScenarioFile", "cleanup")):
        definitions[name]["properties"][part]["items"] = {"$ref": "#/$defs/Step"}
    # Inside a template any value may be a `${parameter}`; what they make of a step is checked when it is used.
    definitions["Template"]["properties"]["steps"]["items"] = {"type": "object"}
    return {
        "$schema": DIALECT,
        "title": "scenario",
        "description": "A scenario, or a file with step templates.",
        "anyOf": [{"$ref": "#/$defs/ScenarioFile"}, {"$ref": "#/$defs/TemplateFile"}],
        "$defs": definitions,
    }
