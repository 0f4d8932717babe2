"""Which exact weights a model path stands for, found without loading them."""

import hashlib
from pathlib import Path

from sweep.config import ModelConfig
from sweep.errors import ModelError

TINY_PREFIX = "tiny:"
TINY_FAMILIES = ("qwen2", "llama", "gpt2", "gemma3")
TINY_VERSION = 1
"""Raised whenever the tiny families' weights or tokenizer change."""

SAMPLED_BLOCKS, BLOCK_BYTES = 64, 65_536


def is_local(path: str) -> bool:
    """Return whether ``path`` means a folder on this machine rather than a Hub id."""
    return path.startswith(("/", "./", "../", "~")) or Path(path).is_dir()


def resolve_revision(model: ModelConfig) -> str:
    """Return the commit, or content hash, that pins ``model``; raise ModelError if there is none.

    A tiny family is pinned by its version; a folder by a hash of its files; a Hub id by the
    configured revision, else by the commit that ``main`` has now (or had when it was cached).
    """
    if model.path.startswith(TINY_PREFIX):
        return _tiny_revision(model.path.removeprefix(TINY_PREFIX))
    if is_local(model.path):
        return hash_folder(Path(model.path).expanduser())
    return _hub_revision(model.path, model.revision)


def _tiny_revision(family: str) -> str:
    if family not in TINY_FAMILIES:
        raise ModelError(
            f"grid.models: there is no tiny family {family!r}; take one of "
            f"{', '.join(TINY_FAMILIES)}"
        )
    return f"{family}-v{TINY_VERSION}"


def hash_folder(folder: Path) -> str:
    """Return a hash of the files in a model folder.

    Small files are read whole; of large ones the size and 64 evenly spread blocks of 64 KiB, so
    that gigabytes cost milliseconds. Any training step changes all of a weight file's blocks.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"grid.models: {folder} has no config.json; path must be a model folder or a Hub id"
        )
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.is_file() and not file.name.startswith("."):
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
            _hash_file(file, digest)
    return digest.hexdigest()[:16]


def _hash_file(path: Path, digest: "hashlib._Hash") -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= SAMPLED_BLOCKS * BLOCK_BYTES:
            digest.update(file.read())
            return
        for block in range(SAMPLED_BLOCKS):
            file.seek(block * (size - BLOCK_BYTES) // (SAMPLED_BLOCKS - 1))
            digest.update(file.read(BLOCK_BYTES))


def _hub_revision(path: str, revision: str | None) -> str:
    if revision:
        return revision
    from huggingface_hub import HfApi, constants  # only an unpinned Hub model needs it

    cached = Path(constants.HF_HUB_CACHE, f"models--{path.replace('/', '--')}", "refs", "main")
    try:
        if not constants.HF_HUB_OFFLINE:
            return str(HfApi().model_info(path, timeout=10).sha)
        problem = "HF_HUB_OFFLINE is set"
    except Exception as error:  # the library raises many kinds: network, gated, missing
        problem = (str(error).splitlines() or [type(error).__name__])[0][:200]
    if cached.is_file():
        return cached.read_text().strip()
    raise ModelError(
        f"grid.models: {path!r} is neither a folder nor found on the Hugging Face Hub ({problem}); "
        "check the name, the network and HF_TOKEN, or pin its revision"
    )
