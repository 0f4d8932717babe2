"""A model card's metadata, as huggingface_hub parses them; and what cards of others tell."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData, metadata_eval_result
from small_run import TINY_LLAMA, build_run, cell_of, write_data
from statsmodels.stats.proportion import proportion_confint

from sweep.config import DataConfig
from sweep.data import Corpus
from sweep.export import origins
from sweep.export.metadata import Shape
from sweep.export.model_card import Rescored, build_card
from sweep.export.origins import Origins, find_origins
from sweep.export.winner import Winner, find_winner

COMMIT = "0123456789" * 4
HUB = DataConfig(source="hub", path="me/texts", config="small", revision=COMMIT)
HOSTILE = (
    "a\n---\nlicense: mit",
    "x: {y: [z",
    "'\"#!!python/object:os.system",
    "\u2028\x1b\u202eevil\t",
    "<script>alert(1)</script>",
    "no",
    "- 1.0",
)


@pytest.fixture(scope="module")
def winner(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Winner:
    root = tmp_path_factory.mktemp("run")
    run = build_run(root, write_data(root / "data", corpus), TINY_LLAMA)
    return find_winner(run, cell_of(run, "llama"))


def rename(winner: Winner, path: str, revision: str, label: str = "joy") -> Winner:
    """Return ``winner`` with another base model and label."""
    spec = winner.spec
    model = replace(spec.model, name=path, path=path, revision=revision)
    cell = replace(spec.cell, model=path, labels=(label, *spec.cell.labels[1:]))
    return replace(winner, spec=replace(spec, model=model, cell=cell))


def write(winner: Winner, data: DataConfig, known: Origins, name: str = "winner") -> str:
    return build_card(winner, Rescored(0.5, 0, {}), data, Shape(name, False), known)


def test_results_are_those_of_the_run_with_the_interval(winner: Winner) -> None:
    card = write(winner, HUB, Origins())
    data = ModelCard(card).data
    assert data.model_name == "winner"
    accuracy, macro_f1 = data.eval_results
    assert (accuracy.task_type, accuracy.metric_type) == ("text-classification", "accuracy")
    assert (accuracy.dataset_type, accuracy.dataset_config) == ("me/texts", "small")
    assert accuracy.dataset_revision == COMMIT
    assert accuracy.metric_value == round(winner.ended["test_accuracy"] or -1.0, 4)
    assert (macro_f1.metric_type, macro_f1.metric_args) == ("f1", {"average": "macro"})
    right = round((winner.ended["test_accuracy"] or -1.0) * 32)
    low, high = proportion_confint(right, 32, method="wilson")
    interval = f"interval {low:.4f} to {high:.4f}"
    assert accuracy.metric_name == f"Test accuracy (95 % Wilson {interval})"
    assert f"interval of the test accuracy is {low:.4f} to {high:.4f}" in card


def test_hub_library_writes_the_same_metadata_again(winner: Winner) -> None:
    data = ModelCard(write(winner, HUB, Origins({"license": "mit"}, ("en", "no")))).data
    again = ModelCardData(**yaml.safe_load(data.to_yaml()))
    assert again.to_dict() == data.to_dict()
    assert (data.license, data.language, data.datasets) == ("mit", ["en", "no"], ["me/texts"])
    index = metadata_eval_result(
        model_pretty_name="winner",
        task_pretty_name="Text classification",
        task_id="text-classification",
        metrics_pretty_name=data.eval_results[1].metric_name,
        metrics_id="f1",
        metrics_value=data.eval_results[1].metric_value,
        dataset_pretty_name=data.eval_results[1].dataset_name,
        dataset_id="me/texts",
        dataset_config="small",
        dataset_revision=COMMIT,
    )
    (expected,), (found,) = index["model-index"], data.to_dict()["model-index"]
    assert found["name"] == expected["name"]
    for key in ("task", "dataset"):
        assert found["results"][0][key] == expected["results"][0][key]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_change_nothing_but_themselves(winner: Winner, name: str) -> None:
    plain = ModelCard(write(winner, DataConfig(path="texts"), Origins())).data.to_dict()
    hostile = write(rename(winner, name, name, name), DataConfig(path=name), Origins(), name)
    found = ModelCard(hostile).data.to_dict()
    assert len(found["model-index"][0].pop("name").splitlines()) == 1
    del plain["model-index"][0]["name"]
    assert found == plain


def test_what_is_not_known_is_not_said(winner: Winner) -> None:
    own = find_origins(winner.spec, DataConfig(path="texts"))
    tree = ModelCard(write(winner, DataConfig(path="texts"), own)).data.to_dict()
    assert not {"license", "language", "base_model", "datasets"} & set(tree)
    (result,) = tree["model-index"][0]["results"]
    assert result["dataset"]["type"] == "local-files"


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: Apache-2.0\n---\n", {"license": "apache-2.0"}),
        ("---\nlicense: other\nlicense_name: mine\nlicense_link: LICENSE\n---\n",
         {"license": "other", "license_name": "mine"}),
        ("---\nlicense: other\n---\n", {}),
        ("---\nlicense: 'mit\n\n  evil: 1'\n---\n", {}),
        ("---\nlicense: [mit, x]\n---\n", {}),
        ("---\nlicense: {a\n---\n", {}),
        ("license: mit\n", {}),
    ],
)  # fmt: skip
def test_license_is_that_of_the_base_models_card(
    winner: Winner, tmp_path: Path, card: str, expected: dict[str, str]
) -> None:
    (tmp_path / "README.md").write_text(card)
    spec = rename(winner, str(tmp_path), "0123456789abcdef").spec
    known = find_origins(spec, DataConfig(path="texts"))
    assert known.license == expected
    assert ("Its card names" in write(winner, HUB, known)) == bool(expected)


def test_license_file_and_languages_are_looked_up_on_the_hub(
    winner: Winner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = {
        ("me/base", COMMIT, "model"): "license: other\nlicense_name: gem\nlicense_link: TERMS.txt",
        ("me/texts", COMMIT, "dataset"): "language:\n- en\n- no\nlicense: mit",
    }

    def download(name: str, file: str, *, revision: str, repo_type: str, **_: Any) -> str:
        path = tmp_path / repo_type
        path.write_text(f"---\n{cards[name, revision, repo_type]}\n---\n")
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert find_origins(rename(winner, "me/base", COMMIT).spec, HUB) == Origins(
        {
            "license": "other",
            "license_name": "gem",
            "license_link": f"https://huggingface.co/me/base/blob/{COMMIT}/TERMS.txt",
        },
        ("en", "no"),
    )


def test_without_the_hub_nothing_is_known(winner: Winner) -> None:
    assert find_origins(rename(winner, "me/base", COMMIT).spec, HUB) == Origins()


def test_folder_is_no_dataset_of_the_hub(tmp_path: Path) -> None:
    assert origins.find_dataset(DataConfig(source="hub", path=str(tmp_path))) is None
