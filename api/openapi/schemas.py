"""Makes schemas from pydantic models, with the texts of their docstrings.

The section `Attributes:` of a docstring describes the fields, so that the code and the document
have the same text.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import (
    GenerateJsonSchema,
    JsonSchemaMode,
    JsonSchemaValue,
    models_json_schema,
)
from pydantic_core import core_schema

REFERENCE = "#/components/schemas/{model}"

#: Classes with another name in the document. Clients are generated from it, so names are stable.
_PUBLISHED_NAMES = {
    **{
        f"{name}Schema": f"Shown{name}"
        for name in (
            *("Activity", "Attempt", "Batch", "Gpu", "Job", "Key", "Limit", "Limits", "Model"),
            *("Overview", "Sums", "Traffic", "User", "Webhook", "Worker"),
        )
    },
    "WebhookSecretSchema": "WebhookSecretShown",
}

_FIELD = re.compile(r"^ {4}(\w+): ", re.MULTILINE)


def build_schemas(models: Iterable[type[BaseModel]]) -> tuple[dict[type[BaseModel], Any], Any]:
    """Return a reference to the schema of each model, and all schemas by name."""
    mode: JsonSchemaMode = "validation"
    ordered = sorted(set(models), key=lambda model: model.__qualname__)
    references, schemas = models_json_schema(
        [(model, mode) for model in ordered],
        by_alias=True,
        ref_template=REFERENCE,
        schema_generator=_Generator,
    )
    return {model: references[model, mode] for model in ordered}, schemas.get("$defs", {})


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, with descriptions of fields and without titles."""

    def normalize_name(self, name: str) -> str:
        """Return the name of a class in the document: without the ending `Schema`."""
        return super().normalize_name(_PUBLISHED_NAMES.get(name, name.removesuffix("Schema")))

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Return `null` as one more type where possible: it is shorter than `anyOf`."""
        inner = self.generate_inner(schema["schema"])
        if isinstance(inner.get("type"), str) and inner.keys().isdisjoint({"enum", "const"}):
            return {**inner, "type": [inner["type"], "null"]}
        return super().nullable_schema(schema)

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        described = super().model_schema(schema)
        model = schema["cls"]
        described.pop("title", None)
        text, _ = read_docstring(vars(model).get("__doc__"))
        if text:
            described["description"] = text
        fields = {
            name: description
            for ancestor in reversed(model.__mro__)
            if issubclass(ancestor, BaseModel) and ancestor is not BaseModel
            for name, description in read_docstring(vars(ancestor).get("__doc__"))[1].items()
        }
        for field in described["properties"].values():
            if field.get("default", ...) is None:
                del field["default"]
        for name, description in fields.items():
            field = model.model_fields[name]
            described["properties"][field.alias or name]["description"] = description
        return described


def without_defaults(schema: dict[str, Any]) -> None:
    """Remove the defaults from the schema of a body that changes only the fields it has."""
    for field in schema["properties"].values():
        field.pop("default", None)


def read_docstring(docstring: str | None) -> tuple[str, dict[str, str]]:
    """Return the text of a docstring, and the text of each entry in `Attributes:`."""
    text, _, attributes = (
        inspect.cleandoc(docstring or "").replace("`None`", "`null`").partition("\nAttributes:\n")
    )
    _, *parts = _FIELD.split(attributes)
    fields = {
        name: " ".join(description.split())
        for name, description in zip(parts[::2], parts[1::2], strict=True)
    }
    return text.strip(), fields
