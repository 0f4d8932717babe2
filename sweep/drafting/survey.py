"""What there is to learn from: labels, texts per label, lengths and language."""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np

from sweep.config import DataConfig
from sweep.data import SPLITS, Corpus, Subsets, build_account, draw_subsets, load_corpus
from sweep.errors import DataError, format_names
from sweep.preflight.runtime import CHARACTERS_PER_TOKEN
from sweep.storage.account import DataAccount

# The fewest texts that a label needs in each split to be part of a study.
FEWEST = {"train": 8, "validation": 5, "test": 5}
# A held-out split in which some label has fewer texts than this is made larger.
FEW_HELD_OUT = 10
LARGER_FRACTION = 0.2
# Above this share of letters beyond a to z, texts are taken for more than English: umlauts alone
# are between one and two percent of German.
FOREIGN_SHARE = 0.005
# Texts that are looked at for their language.
SAMPLE = 2000


@dataclass(frozen=True)
class RareLabel:
    """A label without the fewest texts in some split: the texts it has there, and those it
    lacks."""

    name: str
    split: str
    have: int

    @property
    def lacks(self) -> int:
        return FEWEST[self.split] - self.have


@dataclass(frozen=True)
class Survey:
    """The data as a study can use them; labels that are too rare are excluded in ``data``."""

    data: DataConfig
    corpus: Corpus
    subsets: Subsets
    account: DataAccount
    rare: tuple[RareLabel, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, most frequent in training first."""
        return self.subsets.label_order

    def count(self, split: str, n_labels: int) -> int:
        """Return how many texts of each of the first ``n_labels`` labels a balanced split has."""
        return min(map(self.subsets.pools[split].size, self.labels[:n_labels]))

    def count_training(self, label: str) -> int:
        return self.subsets.pools["train"].size(label)

    @cached_property
    def texts(self) -> list[str]:
        """The training texts of all labels."""
        usable = self.subsets.pools["train"].usable
        return [text for label in self.labels for _, text in usable[label]]

    @cached_property
    def characters(self) -> tuple[int, int, int]:
        """The median, the 99th percentile and the maximum of the texts' lengths."""
        median, most, longest = np.percentile([len(text) for text in self.texts], [50, 99, 100])
        return int(median), int(most), int(longest)

    @cached_property
    def is_english(self) -> bool:
        """Whether almost all letters are a to z, as in English."""
        letters = [c for text in islice(self.texts, None, None, self._step) for c in text]
        letters = [c for c in letters if c.isalpha()]
        return sum(not c.isascii() for c in letters) <= FOREIGN_SHARE * len(letters)

    @property
    def _step(self) -> int:
        return max(1, len(self.texts) // SAMPLE)

    @cached_property
    def _tokens(self) -> list[float]:
        # Bytes, not characters: a Chinese character is three bytes, and about a token.
        sizes = (len(text.encode("utf-8", "replace")) for text in self.texts)
        return [size / CHARACTERS_PER_TOKEN + 2 for size in sizes]

    def choose_length(self, most: int) -> int:
        """Return how many tokens of a text to read: a fifth more than 99 % of the texts are
        estimated to have, a multiple of 16, from 32 to ``most``."""
        needed = 1.2 * float(np.percentile(self._tokens, 99))
        return min(most, max(32, 16 * math.ceil(needed / 16)))

    def share_cut(self, length: int) -> float:
        """Return the estimated share of texts that are longer than ``length`` tokens."""
        return sum(size > length for size in self._tokens) / len(self._tokens)


def survey_data(data: DataConfig) -> Survey:
    """Return what ``data`` names; raise DataError if it cannot be read, or if fewer than two labels
    have the fewest texts."""
    data = data.model_copy(update={"exclude_labels": list(data.exclude_labels)})
    corpus = load_corpus(data)
    subsets = draw_subsets(corpus, data)
    larger = _enlarge(data, corpus, subsets)
    if larger != data:
        data, corpus = larger, load_corpus(larger)
        subsets = draw_subsets(corpus, data)
    rare = [each for each in (_check(subsets, label) for label in subsets.label_order) if each]
    kept = len(subsets.label_order) - len(rare)
    if kept < 2:
        raise DataError(_explain_few(data, subsets, kept))
    if rare:
        excluded = [*data.exclude_labels, *(each.name for each in rare)]
        data = data.model_copy(update={"exclude_labels": excluded})
        subsets = draw_subsets(corpus, data)
    guessed = corpus.sources["train"].guessed if "train" in corpus.sources else ()
    account = build_account(corpus, subsets, data)
    return Survey(_pin_columns(data, account) if guessed else data, corpus, subsets, account,
                  tuple(rare))  # fmt: skip


def _enlarge(data: DataConfig, corpus: Corpus, subsets: Subsets) -> DataConfig:
    """Return ``data`` with a larger fraction for each held-out split that has few texts of some
    label, unless a fraction was chosen."""
    changes = {}
    for split in corpus.held_out:
        key = f"{split}_fraction"
        sizes = map(subsets.pools[split].size, subsets.label_order)
        if min(sizes, default=0) < FEW_HELD_OUT and key not in data.model_fields_set:
            changes[key] = LARGER_FRACTION
    return data.model_copy(update=changes)


def _check(subsets: Subsets, label: str) -> RareLabel | None:
    sizes = {split: subsets.pools[split].size(label) for split in SPLITS}
    worst = max(SPLITS, key=lambda split: FEWEST[split] - sizes[split])
    rare = RareLabel(label, worst, sizes[worst])
    return rare if rare.lacks > 0 else None


def _explain_few(data: DataConfig, subsets: Subsets, kept: int) -> str:
    needs = f"{FEWEST['train']} training, {FEWEST['validation']} validation and {FEWEST['test']}"
    pools, order = subsets.pools, subsets.label_order
    counts = format_names(
        (f"{label} {'/'.join(str(pools[split].size(label)) for split in SPLITS)}"
         for label in order), 6
    )  # fmt: skip
    return (
        f"{data.path}: a study needs two labels with {needs} test texts each, and {kept} "
        f"{'has' if kept == 1 else 'have'} them (training/validation/test: {counts}); add texts, "
        "or name another label column"
    )


def _pin_columns(data: DataConfig, account: DataAccount) -> DataConfig:
    """Return ``data`` with the columns that were found by their content."""
    train = account.splits[0]
    texts = list(train.text_columns)
    return data.model_copy(
        update={
            "text_column": texts[0] if len(texts) == 1 else texts,
            "label_column": train.label_column,
        }
    )
