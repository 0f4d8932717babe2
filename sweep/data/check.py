"""Takes the account of a corpus, and finds what of it the user should know before training."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from unicodedata import normalize

from sweep.config import DataConfig
from sweep.data.corpus import Corpus
from sweep.data.files.names import SPLITS, find_split_of
from sweep.data.pools import Pool
from sweep.data.rows import SplitSource
from sweep.data.subsets import Subsets
from sweep.errors import Finding, format_choices, format_line, format_names, format_value, truncate
from sweep.storage.account import (
    NAMED,
    DataAccount,
    LeftOut,
    Reason,
    SplitAccount,
    add_up,
    format_files,
    format_left_out,
    format_rows,
    join_phrases,
)

# A larger part than this, left out for reasons that nobody asked for, is probably a mistake.
LARGE_SHARE = 0.2
MEANT = (Reason.SEVERAL_LABELS, Reason.EXCLUDED_LABEL, Reason.NOT_IN_LABEL_ORDER)
"""Reasons that the configuration or the method gives; the others lie in the files."""
# A label column with an id in it may have as many labels as rows.
MOST_LABELS = 100
# Warnings of labels that look alike; where there are more, these show what is wrong.
MOST_ALIKE = 3

REMEDIES = {
    Reason.WITHOUT_TEXT: "check data.text_column",
    Reason.WITHOUT_LABEL: "check data.label_column",
    Reason.LABEL_NOT_IN_TRAINING: "write the labels of all splits alike",
    Reason.IN_TEST: "a text counts for one split alone, so give each its own",
    Reason.IN_VALIDATION: "a text counts for one split alone, so give each its own",
    Reason.CONFLICTING_LABELS: "keep one label for each text",
    Reason.REPEATED: "one copy of each counts; delete the others, or go on",
}


def build_account(corpus: Corpus, subsets: Subsets, config: DataConfig) -> DataAccount:
    """Return what became of the rows of ``corpus``, with remarks on what looks wrong."""
    splits = tuple(_account_split(corpus, subsets.pools[split], split, config) for split in SPLITS)
    account = DataAccount(config.source, config.split_seed, splits, tuple(map(str, corpus.unused)))
    remarks = [
        *_remark_unused(account, config),
        *_remark_split_column(corpus, account),
        *(_remark_default(account, config) if len(subsets.label_order) > 1 else ()),
        *_remark_excluded(corpus, config),
        *_remark_alike(corpus),
        *_remark_unlabelled(splits),
        *_remark_shares(splits),
    ]
    return replace(account, remarks=tuple(remarks))


def _account_split(corpus: Corpus, pool: Pool, split: str, config: DataConfig) -> SplitAccount:
    kept = len(corpus.splits[split])
    is_cut = split in corpus.cut
    cut_off = sum(len(corpus.splits[name]) for name in corpus.cut) if split == "train" else 0
    source = corpus.sources.get(split) or SplitSource(rows=0 if is_cut else kept + cut_off)
    counts = {Reason.WITHOUT_TEXT: source.without_text, Reason.WITHOUT_LABEL: source.without_label}
    for reason, rows in pool.left_out.items():
        counts[reason] = counts.get(reason, 0) + rows
    return SplitAccount(
        split=split,
        files=tuple(map(str, source.files)),
        text_columns=source.text_columns,
        label_column=source.label_column,
        read=source.rows,
        from_training=kept if is_cut else 0,
        fraction=_fraction(config, split) if is_cut else None,
        cut_off=cut_off,
        usable=sum(map(len, pool.usable.values())),
        left_out=tuple(
            LeftOut(reason, counts[reason], _count_labels(pool, reason))
            for reason in Reason
            if counts.get(reason)
        ),
    )


def _fraction(config: DataConfig, split: str) -> float:
    return config.validation_fraction if split == "validation" else config.test_fraction


def _count_labels(pool: Pool, reason: Reason) -> dict[str, int]:
    if reason not in NAMED:
        return {}
    counts = {label: each[reason] for label, each in pool.by_label.items() if each[reason]}
    ordered = sorted(counts, key=lambda label: (-counts[label], label))
    return {label: counts[label] for label in ordered[:MOST_LABELS]}


def _warn(key: str, sentence: str) -> Finding:
    return Finding("warning", key, format_line(f"{key}: {sentence}"))


def _remark_unused(account: DataAccount, config: DataConfig) -> Iterator[Finding]:
    """Tell of data files that no split uses: a warning, but for those of splits for which the user
    names another file, or null."""
    chosen = {str(split) for split in config.splits or {}}
    base = Path(config.path or "").expanduser()
    told = {path: find_split_of(Path(path).name) in chosen for path in account.unused}
    meant = [path for path in told if told[path]]
    others = [path for path in told if not told[path]]
    if others:
        keys = [f"data.splits.{split}" for split in account.cut or SPLITS]
        yield _warn(
            "data.splits",
            f"{_format_unused(others, base)}; name what a split should use in {' or '.join(keys)}",
        )
    if meant:
        sentence = f"data.splits: {_format_unused(meant, base)}, as data.splits says"
        yield Finding("note", "data.splits", format_line(sentence))


def _remark_split_column(corpus: Corpus, account: DataAccount) -> Iterator[Finding]:
    """Warn of a column that tells splits apart, where they are cut from all rows instead."""
    if corpus.split_column is not None:
        cut = join_phrases(account.cut)
        yield _warn(
            "data.splits",
            f"the column {format_value(corpus.split_column)} says which split each row is for, but "
            f"is not read, and {cut} {'is' if len(account.cut) == 1 else 'are'} cut from all rows; "
            "write the rows of each split to a file of its own",
        )


def _format_unused(paths: Sequence[str], base: Path) -> str:
    names = format_choices(_shorten(path, base) for path in paths)
    return f"{names} {'is' if len(paths) == 1 else 'are'} not used"


def _shorten(path: str, base: Path) -> str:
    # Relative to data.path, as data.splits takes it; else the name, which tells the most.
    here = Path(path).is_relative_to(base)
    return str(Path(path).relative_to(base)) if here else Path(path).name


def _remark_default(account: DataAccount, config: DataConfig) -> Iterator[Finding]:
    """Warn of labels left out though nobody asked for it; the built-in corpus is known."""
    if account.source == "synthetic" or "exclude_labels" in config.model_fields_set:
        return
    for left_out in (part for split in account.splits[:1] for part in split.left_out):
        if left_out.reason == Reason.EXCLUDED_LABEL:
            yield _warn(
                "data.exclude_labels",
                f"{format_names(left_out.labels)} is left out by default "
                f"({format_rows(left_out.rows)} of training); set data.exclude_labels=[] to keep "
                f"it, or data.exclude_labels=[{', '.join(left_out.labels)}] if that is meant",
            )


def _remark_excluded(corpus: Corpus, config: DataConfig) -> Iterator[Finding]:
    """Warn of names in ``data.exclude_labels`` that the user wrote and no row has."""
    # A resumed run's own configuration holds the default as if the user had written it.
    if config.exclude_labels == DataConfig.model_fields["exclude_labels"].default:
        return
    for name in dict.fromkeys(config.exclude_labels):
        if corpus.find_label(name) not in corpus.labels:
            yield _warn(
                "data.exclude_labels",
                f"no row has the label {format_value(name)}; "
                f"{_suggest(name, sorted(corpus.labels))}",
            )


def _remark_alike(corpus: Corpus) -> Iterator[Finding]:
    """Warn of labels that a reader would take for one: they differ in letter case or in how a
    letter with its accent is encoded."""
    groups: dict[str, list[str]] = {}
    for label in sorted(corpus.labels):
        groups.setdefault(normalize("NFKC", label).casefold(), []).append(label)
    for group in [group for group in groups.values() if len(group) > 1][:MOST_ALIKE]:
        same = len({normalize("NFC", label) for label in group}) < len(group)
        shown = [truncate(ascii(label), 60) if same else format_value(label) for label in group]
        yield _warn(
            "data",
            f"{join_phrases(shown)} count as different labels; if they are the same, write them "
            "alike",
        )


def _suggest(name: str, known: Sequence[str]) -> str:
    by_small = {label.lower(): label for label in known}
    near = difflib.get_close_matches(name.lower()[:80], by_small, n=1, cutoff=0.6)
    if near:
        return f"did you mean {format_value(by_small[near[0]])}?"
    return f"take it out, the labels are {format_names(known)}"


def _remark_unlabelled(splits: Sequence[SplitAccount]) -> Iterator[Finding]:
    """Warn of files that gave a split no row at all."""
    for split in splits:
        if split.files and split.fraction is not None:
            yield _warn(
                f"data.splits.{split.split}",
                f"{format_files(split)} has no row with a text and a label, so {split.split} is "
                f"cut from training; name data with both in data.splits.{split.split}, or set it "
                "to null",
            )


def _remark_shares(splits: Sequence[SplitAccount]) -> Iterator[Finding]:
    """Warn where much of the data is left out for reasons that lie in the files."""
    # What is cut from training has training's faults: one sentence tells of them all.
    parts = [split for split in splits if split.fraction is not None and not split.files]
    for split in splits:
        if split.fraction is None:
            group = [split, *parts] if split.split == "train" else [split]
            yield from _remark_share(group)


def _remark_share(group: Sequence[SplitAccount]) -> Iterator[Finding]:
    total = sum(split.rows for split in group)
    lost = [part for part in add_up(group) if part.reason not in MEANT]
    rows = sum(part.rows for part in lost)
    # Training without any usable row is an error, which says why.
    if rows > LARGE_SHARE * total and group[0].usable:
        worst = max(lost, key=lambda part: part.rows)
        yield _warn(
            "data",
            f"{rows:,} of the {format_rows(total)} of "
            f"{join_phrases([split.split for split in group])} ({100 * rows / total:.0f} %) are "
            f"left out: {join_phrases([format_left_out(part) for part in lost])}; "
            f"{REMEDIES[worst.reason]}",
        )
