"""Features of texts as a baseline reads them; light, since the driver holds them, too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TextFeatures:
    """One float32 vector (texts, width) of each text, and the seconds that it took (texts,) on
    ``cpus`` CPUs."""

    positions: Mapping[str, int]
    vectors: NDArray[np.float32]
    seconds: NDArray[np.float64]
    cpus: int = 1

    def take(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of ``texts`` in their order; raise KeyError for an unknown text."""
        return np.take(self.vectors, self._find(texts), axis=0)

    def sum_seconds(self, texts: Sequence[str]) -> float:
        return float(self.seconds[self._find(texts)].sum())

    def join(self, other: "TextFeatures") -> "TextFeatures":
        """Return these features and those of the texts of ``other``, none of which is here."""
        more = {text: len(self.positions) + i for text, i in other.positions.items()}
        vectors = np.concatenate([self.vectors, other.vectors])
        seconds = np.concatenate([self.seconds, other.seconds])
        return TextFeatures({**self.positions, **more}, vectors, seconds, self.cpus)

    def _find(self, texts: Sequence[str]) -> NDArray[np.intp]:
        return np.array([self.positions[text] for text in texts], dtype=np.intp)
