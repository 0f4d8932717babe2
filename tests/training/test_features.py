"""Features of texts: how the vectors of tokens become one, and the classifier that reads them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_folders import ENCODERS, UNTRAINABLE, add_modules, edit_json, write_decoder, write_folder
from transformers import AutoModel, AutoTokenizer

from sweep.config import FeaturesConfig
from sweep.data import Subset, Subsets
from sweep.errors import ModelError
from sweep.models.frozen import Frozen, load_frozen
from sweep.models.pooling import find_pooling
from sweep.plan import FeaturesRef, ModelRef, Recipe
from sweep.preflight.inputs import resolve_model
from sweep.training import fits
from sweep.training.baselines import run_on_features
from sweep.training.features import compute_features, load_features_model
from sweep.training.fits import FEATURE_STRENGTHS
from sweep.training.text_features import TextFeatures

TEXTS = ["what a day", "a day", "what a much longer day", "day", "a much longer day a day"]
RECIPE = Recipe(16, 2, 12, "float32", 0.1, 1.0, None, 1, max_batch_tokens=64)


def write_encoder(folder: Path, kind: str = "bert") -> Path:
    torch.manual_seed(0)
    return write_folder(folder, (ENCODERS.get(kind) or UNTRAINABLE[kind][0])())


def load(folder: Path) -> Frozen:
    return load_frozen(ModelRef("m", str(folder), "x"), str(folder))


def compute(folder: Path, pooling: str, normalized: bool = False, texts: Any = TEXTS) -> Any:
    """Return the features of ``texts`` as an array."""
    ref = FeaturesRef(ModelRef("m", str(folder), "x"), pooling, normalized, RECIPE)
    return compute_features(ref, load(folder), texts).take(texts)


def read_states(folder: Path, text: str, reduce: Callable[[Any], Any]) -> Any:
    """Return what ``reduce`` makes of the vectors of one text's tokens, without any padding."""
    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        return reduce(AutoModel.from_pretrained(folder).eval()(ids[:, :12])[0][0]).numpy()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("models")
    return {"bert": write_encoder(parent / "bert"), "llama": write_decoder(parent / "llama")}


@pytest.mark.parametrize("kind", ["bert", "llama"])
@pytest.mark.parametrize(
    ("pooling", "reduce"),
    [
        ("mean", lambda states: states.mean(0)),
        ("last", lambda states: states[-1]),
        ("cls", lambda states: states[0]),
    ],
)
def test_features_are_those_of_each_text_alone(
    folders: dict[str, Path], kind: str, pooling: str, reduce: Callable[[Any], Any]
) -> None:
    expected = [read_states(folders[kind], text, reduce) for text in TEXTS]
    np.testing.assert_allclose(compute(folders[kind], pooling), expected, atol=1e-5)


@pytest.mark.parametrize(("kind", "pooling"), [("bert", "mean"), ("llama", "last")])
def test_encoder_is_averaged_and_of_a_decoder_the_last_token_is_read(
    folders: dict[str, Path], kind: str, pooling: str
) -> None:
    folder = folders[kind]
    np.testing.assert_array_equal(compute(folder, "auto"), compute(folder, pooling))


@pytest.mark.parametrize("kind", ["distilbert", "xlnet", "t5"])
def test_other_encoders_are_averaged_too(tmp_path: Path, kind: str) -> None:
    folder = write_encoder(tmp_path / kind, kind)
    np.testing.assert_array_equal(compute(folder, "auto"), compute(folder, "mean"))


@pytest.mark.parametrize("kind", ["opt, narrow", "bloom", "neox"])
def test_of_other_decoders_the_last_token_is_read_too(tmp_path: Path, kind: str) -> None:
    folder = write_decoder(tmp_path / "m", kind)
    np.testing.assert_array_equal(compute(folder, "auto"), compute(folder, "last"))


def test_text_of_one_token_has_features(folders: dict[str, Path]) -> None:
    assert compute(folders["llama"], "auto", texts=[""]).shape == (1, 32)


def test_folder_of_sentence_transformers_is_read_as_it_says(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "bert")
    add_modules(folder, {"pooling_mode_cls_token": True}, "Normalize")
    entry = FeaturesConfig(features=str(folder))
    first = [read_states(folder, text, lambda states: states[0]) for text in TEXTS]
    unit = [vector / np.linalg.norm(vector) for vector in first]
    found = compute(folder, *find_pooling(entry, resolve_model(0, entry.model)))
    np.testing.assert_allclose(found, unit, atol=1e-5)


def test_each_text_passes_through_the_model_once(folders: dict[str, Path]) -> None:
    frozen, passed = load(folders["bert"]), []
    frozen.model.register_forward_hook(
        lambda model, given, options, output: passed.append(len(options["input_ids"])),
        with_kwargs=True,
    )
    ref = FeaturesRef(ModelRef("m", "x", "x"), "mean", False, RECIPE)
    compute_features(ref, frozen, TEXTS * 3)
    assert sum(passed) == len(TEXTS)


def test_gradients_are_not_kept_and_dropout_is_off(folders: dict[str, Path]) -> None:
    model = load(folders["bert"]).model
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_tiny_family_gives_features(subsets: Subsets) -> None:
    ref = FeaturesRef(ModelRef("m", "tiny:llama", "llama-v1"), "auto", False, RECIPE)
    texts = subsets.evaluation("test", 2).texts
    features = compute_features(ref, load_features_model(ref, subsets), texts)
    assert features.take(texts).std(0).min() > 0


def test_weights_without_a_layer_are_refused(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "bert")
    edit_json(folder / "config.json", num_hidden_layers=3)
    with pytest.raises(ModelError, match="model m's weights lack 16 of the"):
        load(folder)


def test_pickled_weights_are_loaded_only_with_permission(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "bert")
    torch.save(AutoModel.from_pretrained(folder).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(folder)
    assert load_frozen(ModelRef("m", str(folder), "x", allow_pickle=True), str(folder)).rows == 300


def make_subset(texts: list[str]) -> Subset:
    classes = tuple(number % 3 for number in range(len(texts)))
    return Subset(("a", "b", "c"), tuple(texts), classes, tuple(range(len(texts))))


@pytest.fixture(scope="module")
def parts() -> tuple[TextFeatures, Subset, Subset, Subset]:
    """Return features that tell three classes apart badly, of training, validation and test."""
    texts = [f"{split} {i}" for split in ("train", "validation", "test") for i in range(60)]
    vectors = np.random.default_rng(0).normal(size=(180, 20)).astype(np.float32)
    vectors[np.arange(180), np.arange(180) % 3] += 1.2
    features = TextFeatures({text: i for i, text in enumerate(texts)}, vectors, np.ones(180))
    return features, *(make_subset(texts[i : i + 60]) for i in (0, 60, 120))


def test_validation_chooses_the_strength_and_the_smallest_of_equals(
    parts: tuple[TextFeatures, Subset, Subset, Subset], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, alone = run_on_features(*parts), []
    for strength in FEATURE_STRENGTHS:
        monkeypatch.setattr(fits, "FEATURE_STRENGTHS", (strength,))
        alone.append(run_on_features(*parts))
    accuracies = [result["val_accuracy"] for result in alone]
    best = accuracies.index(max(accuracies))
    assert len(set(accuracies)) > 1
    assert chosen["val_accuracy"] == max(accuracies)
    assert chosen["predictions"] == alone[best]["predictions"]


def test_scale_of_a_feature_makes_no_difference(
    parts: tuple[TextFeatures, Subset, Subset, Subset],
) -> None:
    features, *subsets = parts
    scaled = features.vectors * np.logspace(-3, 3, 20, dtype=np.float32)
    other = TextFeatures(features.positions, scaled, features.seconds)
    one, two = run_on_features(features, *subsets), run_on_features(other, *subsets)
    assert one["predictions"] == two["predictions"]


def test_seconds_include_those_of_the_features(
    parts: tuple[TextFeatures, Subset, Subset, Subset],
) -> None:
    result = run_on_features(*parts)
    assert 120 < result["train_seconds"] < 130
    assert 60 < result["eval_seconds"] < 70
    assert result["wall_seconds"] == pytest.approx(result["train_seconds"] + result["eval_seconds"])


def test_features_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    folder = write_decoder(tmp_path / "m")
    model = AutoModel.from_pretrained(folder)
    model.norm.weight.data.fill_(float("nan"))
    write_folder(folder, model)
    with pytest.raises(ModelError, match="model m gives features that are not finite numbers"):
        compute(folder, "last")
