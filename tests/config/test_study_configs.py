"""The studies that are shipped: their size, their pinned weights, and that they plan."""

import re
from pathlib import Path

import pytest

from sweep.config import Config, load_config
from sweep.data import Corpus, Row, Subsets
from sweep.plan import build_plan

FOLDER = Path(__file__).parents[2] / "sweep_configs"
STUDIES = {  # cells, trials
    "goemotions": (48, 384),
    "local_gpu": (48, 192),
    "pilot": (8, 32),
    "encoders": (28, 112),
    "laptop": (6, 16),
}
COUNTS = {  # GoEmotions' single-label rows: train, validation, test
    "admiration": (2710, 326, 348), "approval": (1873, 258, 236), "gratitude": (1857, 261, 260),
    "amusement": (1652, 208, 186), "annoyance": (1451, 164, 194), "love": (1427, 173, 160),
    "disapproval": (1402, 212, 195), "curiosity": (1389, 164, 176), "anger": (1025, 109, 131),
    "optimism": (861, 119, 107), "confusion": (858, 102, 97), "joy": (853, 106, 93),
    "sadness": (817, 84, 102), "surprise": (720, 95, 87), "disappointment": (709, 91, 88),
    "caring": (649, 96, 86), "grief": (39, 6, 2), "neutral": (12_823, 1592, 1606),
}  # fmt: skip


@pytest.fixture(scope="module")
def subsets() -> Subsets:
    """A corpus with the labels and counts of GoEmotions and made-up texts."""
    return Subsets(
        Corpus(
            {
                split: [
                    Row(f"{split} {label} {number}", (label,))
                    for label, counts in COUNTS.items()
                    for number in range(counts[position])
                ]
                for position, split in enumerate(("train", "validation", "test"))
            }
        )
    )


@pytest.fixture(params=STUDIES)
def study(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def config(study: str) -> Config:
    return load_config(FOLDER / f"{study}.yaml")


def test_study_has_the_cells_and_trials_it_claims(
    study: str, config: Config, subsets: Subsets
) -> None:
    cells, trials = STUDIES[study]
    revisions = {model.name: str(model.revision) for model in config.grid.models}
    plan = build_plan(config, subsets, revisions)
    assert len({cell.cell_id for cell in plan.cells}) == cells
    assert len({spec.trial_id for spec in plan.trials}) == trials


def test_its_comments_give_the_number_of_trials(study: str) -> None:
    _, trials = STUDIES[study]
    comments = (FOLDER / f"{study}.yaml").read_text().split("\nname:")[0]
    assert re.search(rf"\b{trials} trials", re.sub(r"\s+", " ", comments))


# Whose commit nobody has told us, and who has no safetensors at the one that is pinned.
UNPINNED, PICKLED = {"jhu-clsp/ettin-decoder-150m"}, {"microsoft/deberta-v3-base"}


def test_every_commit_is_pinned(config: Config) -> None:
    pins = {m.path: m.revision for m in config.grid.models if m.path not in UNPINNED}
    pins |= {"data": config.data.revision}
    assert all(re.fullmatch(r"[0-9a-f]{40}", pin or "") for pin in pins.values())
    assert len(set(pins.values())) == len(pins)


def test_weights_are_safetensors_and_code_is_ours(config: Config) -> None:
    models = config.grid.models
    assert not any(model.trust_remote_code for model in models)
    assert all(model.path in PICKLED for model in models if model.allow_pickle)


def test_goemotions_and_local_gpu_are_one_study() -> None:
    full, local = (load_config(FOLDER / f"{name}.yaml") for name in ("goemotions", "local_gpu"))
    assert (full.data, full.grid, full.asha) == (local.data, local.grid, local.asha)


def test_goemotions_compares_four_families() -> None:
    paths = [model.path for model in load_config(FOLDER / "goemotions.yaml").grid.models]
    assert paths == [
        "Qwen/Qwen2.5-1.5B",
        "meta-llama/Llama-3.2-1B",
        "openai-community/gpt2-xl",
        "google/gemma-3-1b-pt",
    ]


def test_every_gated_model_comes_with_the_page_to_accept() -> None:
    for path in FOLDER.glob("*.yaml"):
        for line in path.read_text().splitlines():
            gated = re.search(r"path: ((?:meta-llama|google)/(?!.*go_emotions)\S+)", line)
            if gated:
                assert f"https://huggingface.co/{gated[1]}" in path.read_text()


def test_pilot_needs_no_token() -> None:
    paths = [model.path for model in load_config(FOLDER / "pilot.yaml").grid.models]
    assert not [path for path in paths if path.startswith(("meta-llama/", "google/"))]
