"""Fine-tune language models on balanced subsets of texts, and say which one to choose."""

__version__ = "0.1.0"
