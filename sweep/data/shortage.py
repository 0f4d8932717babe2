"""Why a corpus cannot give a subset, in one sentence: what was left out, and what to do."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sweep.data.corpus import Corpus
from sweep.data.pools import Pool
from sweep.errors import format_names, format_value
from sweep.storage.account import Reason, format_reason, join_phrases

# More labels than these make a sentence that nobody reads.
SHOWN_LABELS = 5
OTHER_SPLIT = {Reason.IN_TEST: "test", Reason.IN_VALIDATION: "validation"}
FIXABLE = (*OTHER_SPLIT, Reason.CONFLICTING_LABELS)
"""Reasons that a change of the data files takes away, so that the rows count."""


@dataclass(frozen=True)
class Supply:
    """What there is to draw from, without the rows that are left out."""

    pools: Mapping[str, Pool]
    order: tuple[str, ...]
    order_is_given: bool
    cut: tuple[str, ...]
    """The splits that were cut from training."""
    cut_off: Mapping[str, int]
    """How many training rows with each label alone were cut for other splits."""
    places: Mapping[str, str]
    """The file that the rows of each split stand in, or the split's name."""

    def count_left_out(self, split: str, labels: Collection[str]) -> Counter[Reason]:
        """Return how many rows of ``split`` with these labels are left out, by reason."""
        total: Counter[Reason] = Counter()
        for label in labels:
            total += self.pools[split].by_label.get(label, Counter())
        return total

    def find_served(self, per_label: int) -> list[str]:
        """Return the labels with ``per_label`` training texts and one of each other split."""
        needs = {"train": per_label, "validation": 1, "test": 1}
        return [
            label
            for label in self.order
            if all(self.pools[split].size(label) >= need for split, need in needs.items())
        ]


def measure_supply(
    corpus: Corpus, pools: Mapping[str, Pool], order: tuple[str, ...], order_is_given: bool
) -> Supply:
    """Return what sentences about ``pools`` need to know of ``corpus``."""
    rows = (row for split in corpus.cut for row in corpus.splits[split])
    cut_off = Counter(row.labels[0] for row in rows if len(row.labels) == 1)
    places = {split: _find_place(corpus, split) for split in corpus.splits}
    return Supply(pools, order, order_is_given, corpus.cut, cut_off, places)


def _find_place(corpus: Corpus, split: str) -> str:
    source = corpus.sources.get("train" if split in corpus.cut else split)
    if source is None or not source.files:
        return f"the {split} split"
    more = f" and {len(source.files) - 1} more" if len(source.files) > 1 else ""
    return source.files[0] + more


def explain_label_order(
    corpus: Corpus, name: str, excluded: Collection[str], known: Collection[str]
) -> str:
    """Return why ``name`` cannot stand in ``data.label_order``."""
    start = f"data.label_order: {format_value(name)}"
    rows = [row for row in corpus.splits["train"] if name in row.labels]
    if name in excluded and any(len(row.labels) == 1 for row in rows):
        rest = ", ".join(sorted(set(excluded) - {name}))
        return (
            f"{start} is left out by data.exclude_labels; set data.exclude_labels=[{rest}], or "
            "take it out of data.label_order"
        )
    why = f" ({format_reason(Reason.SEVERAL_LABELS, len(rows))})" if rows else ""
    return (
        f"{start} labels no training text on its own{why}; take it out, the labels are "
        f"{format_names(sorted(known))}"
    )


def explain_few_labels(supply: Supply, asked: int) -> str:
    """Return why there are fewer labels than ``asked``."""
    have = len(supply.order)
    named = f"{have}: {format_names(supply.order)}"
    start, most = f"grid.n_labels: {asked} labels asked, but", f"take at most {have}"
    if supply.order_is_given:
        remedy = f"{most}, or name more there" if have > 1 else "name more there"
        return f"{start} data.label_order names {named}; {remedy}"
    excluded = _list_single(supply, Reason.EXCLUDED_LABEL)
    beside = _list_beside(supply)
    notes = [f"data.exclude_labels leaves out {format_names(excluded)}"] if excluded else []
    notes += [f"{format_names(beside)} only in rows with several labels"] if beside else []
    note = f" ({'; '.join(notes)})" if notes else ""
    remedies = [most] if have > 1 else []
    everything = have + len(excluded)
    if excluded and everything >= asked:
        remedies.append("set data.exclude_labels=[]")
    elif excluded and everything > 1:
        remedies.append(f"take at most {everything} and set data.exclude_labels=[]")
    if beside and have + len(beside) >= asked:
        remedies.append("give more rows a single label (those with several do not count)")
    otherwise = "a classifier needs two: name another column in data.label_column"
    return f"{start} the data have {named}{note}; {', or '.join(remedies) or otherwise}"


def _list_single(supply: Supply, reason: Reason) -> list[str]:
    by_label = supply.pools["train"].by_label
    return sorted(label for label, reasons in by_label.items() if reasons[reason])


def _list_beside(supply: Supply) -> list[str]:
    """Return the labels that no training row has alone."""
    by_label = supply.pools["train"].by_label
    several = (label for label, reasons in by_label.items() if set(reasons) == {"several_labels"})
    return sorted(label for label in several if label not in supply.order)


def explain_few_texts(supply: Supply, labels: Sequence[str], n_samples: int, per_label: int) -> str:
    """Return which of ``labels`` have fewer than ``per_label`` training texts, and why."""
    sizes = {label: supply.pools["train"].size(label) for label in labels}
    short = [label for label in labels if sizes[label] < per_label]
    listed = [
        f"{format_names([label])} has {sizes[label]}{_explain_size(supply, label)}"
        for label in short[:SHOWN_LABELS]
    ]
    listed += [f"{len(short) - SHOWN_LABELS} more have too few"] * (len(short) > SHOWN_LABELS)
    remedies = _list_training_remedies(supply, sizes, short, per_label)
    return (
        f"grid.n_samples: {n_samples} samples over {len(labels)} labels need {per_label} "
        f"training texts of each, but {', '.join(listed)}; {', or '.join(remedies)}"
    )


def _explain_size(supply: Supply, label: str) -> str:
    counts = supply.count_left_out("train", [label])
    reasons = [format_reason(reason, counts[reason]) for reason in Reason if counts[reason]]
    cut_off = supply.cut_off.get(label, 0)
    reasons += [f"{cut_off:,} cut off for {join_phrases(supply.cut)}"] if cut_off else []
    return f" (not counted: {join_phrases(reasons)})" if reasons else ""


def _list_training_remedies(
    supply: Supply, sizes: Mapping[str, int], short: Sequence[str], per_label: int
) -> list[str]:
    most = min(sizes.values()) * len(sizes)
    remedies = [f"take at most {most}"] if most else []
    if not most:
        remedies += _find_other_labels(supply, list(sizes), [per_label * len(sizes)])
    reason = _choose_fixable(supply.count_left_out("train", short))
    gains = {label: supply.count_left_out("train", [label]) for label in short}
    if reason and (not most or all(sizes[x] + gains[x][reason] >= per_label for x in short)):
        remedies.append(_fix(supply, "train", reason))
    elif _cut_less_suffices(supply, sizes, short, per_label):
        fractions = [f"data.{split}_fraction" for split in supply.cut]
        remedies.append(f"lower {join_phrases(fractions)}")
    return remedies


def _choose_fixable(counts: Counter[Reason]) -> Reason | None:
    found = [reason for reason in FIXABLE if counts[reason]]
    return max(found, key=lambda reason: counts[reason], default=None)


def _cut_less_suffices(
    supply: Supply, sizes: Mapping[str, int], short: Sequence[str], per_label: int
) -> bool:
    # However small its fraction, a split takes one text of each label.
    gains = {
        label: sum(max(supply.pools[split].size(label) - 1, 0) for split in supply.cut)
        for label in short
    }
    return all(sizes[label] + gains[label] >= per_label for label in short)


def _find_other_labels(
    supply: Supply, labels: Sequence[str], n_samples: Sequence[int]
) -> list[str]:
    """Return the remedies of fewer or other labels, where those have enough texts for each of
    ``n_samples``."""
    for fewer in range(len(labels) - 1, 1, -1):
        balanced = not any(n % fewer for n in n_samples)
        need = max(n_samples, default=fewer) // fewer
        if balanced and set(labels[:fewer]) <= set(supply.find_served(need)):
            return [f"lower grid.n_labels to {fewer}"]
    served = supply.find_served(max(n_samples, default=len(labels)) // len(labels))
    if len(served) >= len(labels):
        return [f"name labels that have enough in data.label_order ({format_names(served)})"]
    return []


def _fix(supply: Supply, split: str, reason: Reason) -> str:
    if reason not in OTHER_SPLIT:
        return f"keep one label for each text in {supply.places[split]}"
    other = OTHER_SPLIT[reason]
    place = supply.places[other]
    return (
        f"take those texts out of {place} (a split left without rows is cut from training), or "
        f"set data.splits.{other} to other data or null"
    )


def explain_missing_label(
    supply: Supply, split: str, labels: Sequence[str], n_samples: Sequence[int]
) -> str:
    """Return which of ``labels`` have no text in ``split`` (validation or test), and why;
    ``n_samples`` are the sizes that training has to give as well."""
    missing = [label for label in labels if not supply.pools[split].size(label)]
    listed = [format_value(label) for label in missing[:SHOWN_LABELS]]
    listed += [f"{len(missing) - SHOWN_LABELS} more labels"] * (len(missing) > SHOWN_LABELS)
    remedies = _find_other_labels(supply, labels, n_samples)
    remedies.append(_fill(supply, split, missing))
    return (
        f"data: the {split} split has no text labelled only {' or '.join(listed)}"
        f"{_explain_absence(supply, split, missing)}; {', or '.join(remedies)}"
    )


def _explain_absence(supply: Supply, split: str, missing: Sequence[str]) -> str:
    counts = supply.count_left_out(split, missing)
    reasons = [format_reason(reason, counts[reason]) for reason in Reason if counts[reason]]
    foreign = list_foreign(supply.pools[split])
    if reasons:
        return f" (not counted: {join_phrases(reasons)})"
    if foreign:
        return f" (its rows are labelled {format_names(foreign, SHOWN_LABELS)})"
    if split in supply.cut:
        return " (training has too few to cut one off)"
    return ""


def list_foreign(pool: Pool) -> list[str]:
    """Return the labels of a split that training does not have, the most frequent first."""
    reason = Reason.LABEL_NOT_IN_TRAINING
    found = {label: counts[reason] for label, counts in pool.by_label.items() if counts[reason]}
    return sorted(found, key=lambda label: (-found[label], label))


def _fill(supply: Supply, split: str, missing: Sequence[str]) -> str:
    """Return what gives ``split`` texts with the labels that it lacks."""
    reason = _choose_fixable(supply.count_left_out(split, missing))
    if reason:
        return _fix(supply, split, reason)
    if split in supply.cut:
        return f"give each label three or more texts in {supply.places['train']}"
    if list_foreign(supply.pools[split]):
        return f"write the labels of {supply.places['train']} and {supply.places[split]} alike"
    return (
        f"add such rows to {supply.places[split]}, or set data.splits.{split} to other data or null"
    )
