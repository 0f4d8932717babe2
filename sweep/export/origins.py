"""What the cards of the base model and of the dataset say: a license, languages, else nothing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sweep.config import DataConfig
from sweep.export.winner import has_hub_base
from sweep.models.sources import is_local
from sweep.models.tiny_configs import TINY_PREFIX
from sweep.plan import TrialSpec

CARD_NAME = "README.md"
FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)
# Ids of the Hub: a license such as apache-2.0, a language such as en or zh-Hant.
LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]{0,60}")
LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")
LICENSE_NAME = re.compile(r"[\w.-]{1,96}", re.ASCII)
DATASET = re.compile(r"[\w.-]+(?:/[\w.-]+)?", re.ASCII)
# The Hub's id for a license that has none; its name and its address stand beside it.
OTHER = "other"


@dataclass(frozen=True)
class Origins:
    """What is known of where a model comes from; empty where no card says it."""

    license: Mapping[str, str] = field(default_factory=dict)
    """The keys ``license``, and for ``other`` ``license_name`` and ``license_link``, of the base
    model's card, in the Hub's words."""
    languages: tuple[str, ...] = ()
    """Of the dataset's card, in the Hub's words."""


def find_origins(spec: TrialSpec, data: DataConfig) -> Origins:
    """Return what the cards say: those in folders and in the Hub's cache, else of the Hub itself if
    it can be reached."""
    base = spec.model.path
    if base.startswith(TINY_PREFIX):
        model: Mapping[str, Any] = {}
    elif has_hub_base(spec):
        model = _read_hub_card(base, spec.model.revision, "model")
    else:
        model = _read_card(Path(base).expanduser() / CARD_NAME)
    dataset = find_dataset(data)
    card = _read_hub_card(dataset, data.revision, "dataset") if dataset else {}
    return Origins(_take_license(model, spec), _take_languages(card))


def find_dataset(data: DataConfig) -> str | None:
    """Return the id of the dataset on the Hub; None if the texts come from elsewhere."""
    path = data.path
    if data.source != "hub" or path is None or is_local(path) or not DATASET.fullmatch(path):
        return None
    return path


def _read_hub_card(name: str, revision: str | None, kind: str) -> Mapping[str, Any]:
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(name, CARD_NAME, revision=revision, repo_type=kind, etag_timeout=10)
    except Exception:  # the library raises all kinds; without a card nothing is known
        return {}
    return _read_card(Path(path))


def _read_card(path: Path) -> Mapping[str, Any]:
    """Return the metadata of a card; empty if there are none, or they cannot be read."""
    try:
        found = FRONT_MATTER.match(path.read_text(encoding="utf-8"))
        tree = yaml.safe_load(found.group(1)) if found else None
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _take_license(card: Mapping[str, Any], spec: TrialSpec) -> dict[str, str]:
    license_id = card.get("license")
    if not isinstance(license_id, str) or not LICENSE.fullmatch(license_id.lower()):
        return {}
    found = {"license": license_id.lower()}
    if found["license"] != OTHER:
        return found
    name, link = card.get("license_name"), card.get("license_link")
    if not isinstance(name, str) or not LICENSE_NAME.fullmatch(name):
        return {}
    found["license_name"] = name
    if isinstance(link, str) and re.fullmatch(r"https://[\w./~%#?=-]+", link, re.ASCII):
        found["license_link"] = link
    elif has_hub_base(spec) and isinstance(link, str) and LICENSE_NAME.fullmatch(link):
        # A file of the base model, not of the export.
        base, revision = spec.model.path, spec.model.revision
        found["license_link"] = f"https://huggingface.co/{base}/blob/{revision}/{link}"
    return found


def _take_languages(card: Mapping[str, Any]) -> tuple[str, ...]:
    found = card.get("language")
    listed = [found] if isinstance(found, str) else found
    if not isinstance(listed, list):
        return ()
    # YAML 1.1 reads Norwegian's "no" as false.
    named = ["no" if each is False else each for each in listed]
    if not all(isinstance(each, str) and LANGUAGE.fullmatch(each) for each in named):
        return ()
    return tuple(named)
