"""Generates the tables of docs/configuration.md, and the JSON schema for editors, from the schema
of the configuration.

    python -m tools.reference
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic.json_schema import GenerateJsonSchema

from sweep.config import Config

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "configuration.md"
SCHEMA = ROOT / "sweep_configs" / "schema.json"
MARKER = "<!-- From here on `make docs` writes this page, from the docstrings of the schema. -->\n"

# YAML 1.1 reads 1e-4 as text; the loader accepts such text for a number.
NUMBER_TEXT = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
# Pydantic keeps the Python names of bounds that follow a validator of ours.
BOUNDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
}
# Upper bounds from here on only keep numbers sane; the page does not mention them.
SANE = 10**6
LOWER = {"minimum": "≥", "exclusiveMinimum": ">"}
UPPER = {"maximum": "≤", "exclusiveMaximum": "<"}
WORDS = {
    "string": "text",
    "null": "`null`",
    "integer": "integer",
}

Schema = dict[str, Any]


class Key(NamedTuple):
    """A row of the page's tables."""

    name: str
    kind: str
    default: str
    meaning: str


class Generator(GenerateJsonSchema):
    """Pydantic's generator, without titles that repeat the keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def build_schema() -> Schema:
    """Return the JSON schema of a configuration file."""
    tree = Config.model_json_schema(schema_generator=Generator)
    for section in filter(lambda part: "$ref" in part, tree["properties"].values()):
        # A section's default holds the defaults of its keys as YAML writes them.
        for key, value in section.pop("default", {}).items():
            tree["$defs"][_name_of(section)]["properties"][key]["default"] = value
    adapted: Schema = _adapt(tree)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | adapted


def _name_of(section: Schema) -> str:
    return str(section["$ref"]).rpartition("/")[2]


def _adapt(tree: Any) -> Any:
    """Return ``tree`` with the JSON names of bounds, numbers also as text, and descriptions on one
    line."""
    if isinstance(tree, list):
        return [_adapt(part) for part in tree]
    if not isinstance(tree, dict):
        return tree
    adapted = {BOUNDS.get(key, key): _adapt(part) for key, part in tree.items()}
    if isinstance(adapted.get("description"), str):
        adapted["description"] = " ".join(adapted["description"].replace("``", "`").split())
    if adapted.get("type") == "number":
        adapted |= {"type": ["number", "string"], "pattern": NUMBER_TEXT}
    return adapted


def list_sections(schema: Schema) -> Iterator[tuple[str, str, list[Key]]]:
    """Yield the name, the meaning and the keys of each section, first of the top level."""
    alone = {key: part for key, part in schema["properties"].items() if "$ref" not in part}
    yield "", "", list(_list_keys({"properties": alone}, schema["$defs"], ""))
    for name, part in schema["properties"].items():
        if name not in alone:
            section = schema["$defs"][_name_of(part)]
            yield name, section["description"], list(_list_keys(section, schema["$defs"], name))


def _list_keys(section: Schema, others: Schema, above: str) -> Iterator[Key]:
    for name, part in section["properties"].items():
        key = f"{above}.{name}" if above else name
        required = name in section.get("required", ())
        default = "required" if required else f"`{_write_yaml(part['default'])}`"
        yield Key(key, describe_type(part), default, part["description"])
        below = _find_section(part)
        if below:
            yield from _list_keys(others[below], others, f"{key}.N" if "items" in part else key)


def _find_section(part: Schema) -> str:
    """Return the name of the section below this key; empty if there is none."""
    items = part.get("items", {})
    forms = [part, items, *items.get("oneOf", []), *part.get("anyOf", [])]
    return next((_name_of(form) for form in forms if "$ref" in form), "")


def _write_yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return text.strip().removesuffix("...").strip()


def describe_type(schema: Schema) -> str:
    """Return what a key takes, in words."""
    return _join(list(dict.fromkeys(_list_forms(schema))))


def _list_forms(schema: Schema) -> Iterator[str]:
    forms = schema.get("anyOf") or schema.get("oneOf") or []
    if any("uniform" in form.get("properties", {}) for form in forms):
        yield f"[search space](#search-spaces){_describe_bounds(forms[0])}"
    elif any("pattern" in form for form in forms) and "enum" in forms[0]:
        yield from (WORDS["string"], *_list_forms({"anyOf": forms[2:]}))  # suggestions, then any
    elif len(forms) == 2 and forms[1].get("items") == forms[0]:
        yield from (_describe_form(forms[0]), "a list of them")
    elif forms:
        yield from (word for form in forms for word in _list_forms(form))
    elif schema.get("enum"):
        yield from (f"`{value}`" for value in schema["enum"])
    elif schema.get("type") == "boolean":
        yield from ("`true`", "`false`")
    elif schema:
        yield _describe_form(schema)


def _describe_form(form: Schema) -> str:
    if "$ref" in form:
        return "the keys below"
    if "const" in form:
        return f"`{form['const']}`"
    if form["type"] == "array":
        return f"list of {_describe_items(form['items'])}"
    if form["type"] == "object":
        names = ", ".join(f"`{name}`" for name in form.get("propertyNames", {}).get("enum", []))
        keys = f"keys {names}" if names else "keys of your own"
        return f"{keys} ({describe_type(form['additionalProperties'])} each)"
    kind = "number" if isinstance(form["type"], list) else WORDS[form["type"]]
    return kind + _describe_bounds(form)


def _describe_items(items: Schema) -> str:
    if "$ref" in items:
        return "the keys below, N from 0"
    kind = describe_type(items)
    if kind == WORDS["string"]:
        return "texts"
    return re.sub("number|integer", r"\g<0>s", kind, count=1)


def _describe_bounds(form: Schema) -> str:
    low = [(form[key], sign) for key, sign in LOWER.items() if key in form]
    high = [(form[key], sign) for key, sign in UPPER.items() if form.get(key, SANE) < SANE]
    # A type and a key of that type may both have a lower bound; the tighter one counts.
    tightest = sorted(low, key=lambda bound: (bound[0], bound[1] == ">"))[-1:]
    bounds = [f"{sign} {value:,}" for value, sign in [*tightest, *high]]
    return f" {' and '.join(bounds)}" if bounds else ""


def _join(words: list[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def write_tables(schema: Schema) -> str:
    """Return the generated part of the page: a table for each section."""
    parts = []
    for name, meaning, keys in list_sections(schema):
        head = f"## `{name}`\n\n{meaning}\n" if name else "## The top level\n"
        rows = [" | ".join(("", f"`{k.name}`", k.kind, k.default, k.meaning, "")) for k in keys]
        table = ["| key | type | default | meaning |", "|---|---|---|---|", *map(str.strip, rows)]
        parts.append("\n".join([head, *table]) + "\n")
    return "\n".join(parts)


def write_page(page: str, schema: Schema) -> str:
    """Return ``page`` with its generated part replaced."""
    return f"{page.partition(MARKER)[0]}{MARKER}\n{write_tables(schema)}"


def write_schema(schema: Schema) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    schema = build_schema()
    SCHEMA.write_text(write_schema(schema), encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(write_page(page, schema), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)} and {SCHEMA.relative_to(ROOT)} are up to date")


if __name__ == "__main__":
    main()
