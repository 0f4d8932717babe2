"""Fine-tune language models on balanced text-classification subsets, and say which one to choose."""

__version__ = "0.1.0"
