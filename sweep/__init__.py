"""Fine-tune language models on balanced subsets of texts, and say which one to choose."""

from sweep.searchpath import leave_current_folder

__version__ = "0.1.0"

# Before any other import: each of them could find a file of the user's.
leave_current_folder(__path__[0])
