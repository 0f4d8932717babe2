"""What people and machines put into files: odd texts, odd numbers, odd trees."""

import math
from typing import Any

import yaml
from hypothesis import strategies as st
from pydantic import BaseModel

from sweep.config import Config, Section

ODD_TEXTS = (
    "", " ", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", "C:\\x", "\x00", "a\x00b", "\n",
    "a\nb", "a\r\nb", "\t", "\x1b[31mred", "\x7f", "\x85", "\u2028", "a\u2029b", "\u202eevil",
    "\u200f", "\ufeff", "\ud800", "a\udcffb", "\U0001f600", "e\u0301", "\u00b2", "\u0663",
    "x" * 300, "y" * 5000, "~", "~nobody/x", "-", "--out", "null", "true", "no", "1e5", "1e-4",
    "-1", ".nan", ".inf", "1_000", "0x10", "1:30", "2001-01-01", "*a", "&a x", "!x", "%", "@",
    "`", "{", "[", "a: b", "# c", "'", '"', "=", ",", "tiny:", "tiny:llama", "tiny:\n",
    "con", "a" * 100,
    "a..b", ".hidden", "NUL", "joy,anger", "['joy', 'anger']", '["joy"]', "[", "[]", "[[1]]",
)  # fmt: skip
ODD_NUMBERS = (
    0, 1, -1, 2, 3, 7, 16, 255, 2**31 - 1, 2**31, 2**32, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64,
    10**18, 10**30, 10**400, -(10**400), 0.0, -0.0, 0.1, 0.5, 0.999999999, 1.0, 1.0000000001, 1.5,
    5e-324, 1e-310, 1e-5, 1e17, 1e300, 1.7e308, -1e308, math.inf, -math.inf, math.nan,
)  # fmt: skip
ANY_TEXT = st.characters(codec=None)  # surrogates and all

texts = st.sampled_from(ODD_TEXTS) | st.text(ANY_TEXT, max_size=12)
plain_texts = texts.filter(lambda text: not any("\ud800" <= char <= "\udfff" for char in text))
numbers = st.sampled_from(ODD_NUMBERS) | st.integers(-5, 4000) | st.floats()
scalars = st.none() | st.booleans() | numbers | texts
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | numbers, inner, max_size=4),
    max_leaves=8,
)


def list_keys(model: type[BaseModel] = Config) -> list[tuple[str | int, ...]]:
    """Return every path into the configuration: ``("train", "batch_size")`` and so on."""
    paths: list[tuple[str | int, ...]] = []
    for name, field in model.model_fields.items():
        paths.append((name,))
        for section in _sections(field.annotation):
            is_list = name in ("models", "baselines")
            step: tuple[str | int, ...] = (name, 0) if is_list else (name,)
            paths += [(*step, *rest) for rest in list_keys(section)]
    return paths


def _sections(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in _sections(part)]


KEYS = list_keys()

yaml_parts = st.sampled_from(
    ["a", "b", "grid", "name:", "models:", "data", "-", ":", ",", "[", "]", "{", "}", "&", "*",
     "&a",
     "*a", "!", "!!", "!!int", "!!float", "!!timestamp", "!!binary", "!!set", "!!omap", "!!pairs",
     "!!python/name:os", "!!str", "!!bool", "!!null", "|", ">", "'", '"', "#", "%", "---", "...",
     "?", "<<", "<<:", "~", "1", "0x", "0b", "1:", "1e5", ".inf", "2001-99-99", "=", "\\",
     "\\ud800", "\n", "\n  ", " ", "", "\t", "\r", "\x85", "\u2028", "!!int ''", "!!float ''"]
)  # fmt: skip
parts = st.sampled_from([str(part) for path in KEYS for part in path] + ["1", "9" * 5000]) | texts
dotted = st.sampled_from([".".join(map(str, path)) for path in KEYS]) | st.lists(
    parts, max_size=4
).map(".".join)
values = st.one_of(
    trees.map(lambda tree: yaml.safe_dump(tree, default_flow_style=True)),
    st.lists(yaml_parts, max_size=5).map(" ".join),
    scalars.map(str),
)
