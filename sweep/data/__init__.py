"""Texts and their labels: from files, the Hugging Face Hub or the built-in corpus to balanced,
nested subsets.

``files`` reads any layout of files as tables; ``sources`` and ``hub`` find the tables of a dataset;
``columns``, ``labels`` and ``rows`` make rows of them, ``corpus`` a ``Corpus`` of rows;
``subsets`` draws what each cell trains on, and ``check`` accounts for what was left out.
Imports sweep.storage, sweep.config and below, and never torch, transformers, peft or ray.
"""

from sweep.data.check import build_account
from sweep.data.corpus import Corpus
from sweep.data.files.names import SPLITS
from sweep.data.files.raw_bytes import is_read_differently
from sweep.data.hub import CONNECT_SECONDS, explain_offline, go_offline_if_silent
from sweep.data.rows import Row, SplitSource
from sweep.data.sources import load_corpus
from sweep.data.subsets import CellData, Subset, Subsets, build_subsets, draw_subsets
from sweep.data.synthetic import build_synthetic_corpus
from sweep.data.texts import TextColumns, read_texts

__all__ = [
    "CONNECT_SECONDS",
    "SPLITS",
    "CellData",
    "Corpus",
    "Row",
    "SplitSource",
    "Subset",
    "Subsets",
    "TextColumns",
    "build_account",
    "build_subsets",
    "build_synthetic_corpus",
    "draw_subsets",
    "explain_offline",
    "go_offline_if_silent",
    "is_read_differently",
    "load_corpus",
    "read_texts",
]
