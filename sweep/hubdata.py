"""A dataset of the Hugging Face Hub as tables."""

from typing import Any

from sweep.arrowfiles import build_table
from sweep.columnar import Table
from sweep.config.schema import DataConfig
from sweep.errors import DataError, first_line, show_value
from sweep.filenames import SPLIT_NAMES, SPLITS
from sweep.hub import explain_offline


def load_from_hub(config: DataConfig) -> dict[str, Table]:
    """Load the splits of the dataset ``config.path`` at ``config.revision`` from the Hub."""
    # Slow to import, and only the Hub needs them.
    import huggingface_hub.constants
    from datasets import load_dataset

    try:
        dataset = load_dataset(config.path, config.config, revision=config.revision)
    except Exception as error:  # the library raises a dozen kinds for one cause
        reason, remedy = first_line(error), "check the name and the network"
        if huggingface_hub.constants.HF_HUB_OFFLINE:
            why, fetch = explain_offline()
            reason, remedy = f"{reason}; {why}", f"check the name, or {fetch}"
        raise DataError(
            f"data.path: the dataset {show_value(config.path)} cannot be loaded from the Hugging "
            f"Face Hub ({reason}); {remedy}, or use data.source=files"
        ) from error
    names = {split: _find_hub_split(dataset, split, config) for split in SPLITS}
    return {
        split: build_table(
            f"{config.path} (split {name})",
            dataset[name].with_format("arrow")[:],
            dataset[name].features.arrow_schema,
        )
        for split, name in names.items()
        if name
    }


def _find_hub_split(dataset: Any, split: str, config: DataConfig) -> str | None:
    """Return the name of ``split`` in ``dataset``; None if it has to be cut from training."""
    chosen = {str(key): name for key, name in (config.splits or {}).items()}
    wanted, usual = chosen.get(split), SPLIT_NAMES[split]
    if split in chosen and wanted is None:
        return None
    name = next((name for name in ((wanted,) if wanted else usual) if name in dataset), None)
    if name is None and (wanted or split == "train"):
        raise DataError(
            f"data.splits: {config.path!r} has the splits {', '.join(dataset)} and none named "
            f"{wanted or ' or '.join(usual)}; name one of these in data.splits.{split}"
        )
    return name
