"""Which exact weights a model path stands for, resolved without loading them."""

import hashlib
import re
from pathlib import Path

from sweep.config import ModelConfig
from sweep.data import CONNECT_SECONDS, explain_offline
from sweep.errors import ModelError, first_line
from sweep.models.folder import explain_missing_config, explain_unreadable, has_tokenizer
from sweep.models.tiny_configs import TINY_FAMILIES, TINY_PREFIX, TINY_VERSION

COMMIT = re.compile(r"[0-9a-f]{40}")

SAMPLED_BLOCKS, BLOCK_BYTES = 64, 65_536


def is_local(path: str) -> bool:
    """Return whether ``path`` means a path on this machine rather than a Hub id."""
    if path.startswith(("/", "./", "../", "~")):
        return True
    try:
        return Path(path).exists()
    except OSError:  # the name is too long, or this user may not read the folder
        return False


def resolve_revision(model: ModelConfig) -> str:
    """Return the commit, or content hash, that pins ``model``; raise ModelError if there is none.

    A tiny family is pinned by its version, a folder by a hash of its files, a Hub id by the
    configured revision or else by the commit of ``main`` now (or when it was cached).
    """
    if model.path.startswith(TINY_PREFIX):
        return _tiny_revision(model.path.removeprefix(TINY_PREFIX))
    if is_local(model.path):
        return hash_folder(Path(model.path).expanduser())
    return _hub_revision(model.path, model.revision)


def _tiny_revision(family: str) -> str:
    if family not in TINY_FAMILIES:
        raise ModelError(
            f"grid.models: there is no tiny family {family!r}; choose one of "
            f"{', '.join(TINY_FAMILIES)}"
        )
    return f"{family}-v{TINY_VERSION}"


def hash_folder(folder: Path) -> str:
    """Return a hash of the files in a model folder.

    Small files are hashed completely, large ones by their size and 64 evenly spread blocks of
    64 KiB, so that gigabytes take milliseconds: any training step changes every block of a weight
    file. Raises ModelError if there is no config.json or a file cannot be read.
    """
    try:
        return _hash_files(folder)
    except OSError as error:
        file = Path(error.filename) if error.filename else folder
        raise ModelError(f"grid.models: {explain_unreadable(file, error)}") from None


def _hash_files(folder: Path) -> str:
    if not (folder / "config.json").is_file():
        raise ModelError(f"grid.models: {explain_missing_config(folder)}")
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
    if revision and COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi, constants  # only a Hub model needs it

    name = revision or "main"
    cached = hub_folder(path) / "refs" / name
    try:
        if not constants.HF_HUB_OFFLINE:
            return str(HfApi().model_info(path, revision=revision, timeout=10).sha)
        problem, fetch = explain_offline()
        remedy = f"check the name, or {fetch}"
    except Exception as error:  # the library raises all kinds: network, gated, missing
        if is_gated(error):
            raise ModelError(explain_gated("grid.models", path)) from None
        problem, remedy = first_line(error), "check the name, the network and HF_TOKEN"
    if cached.is_file():
        return cached.read_text().strip()
    raise ModelError(
        f"grid.models: {path!r} is neither a folder nor found on the Hugging Face Hub ({problem}); "
        f"{remedy}"
    )


def hub_folder(path: str) -> Path:
    """Return where the Hub's cache would keep the repository ``path``."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE, f"models--{path.replace('/', '--')}")


def find_hub_config(key: str, path: str, revision: str) -> Path:
    """Return the cached config.json of a Hub model, downloaded if it is not cached yet.

    Raises ModelError with the remedy: for a gated model the page with its terms, offline the
    missing files. ``key`` is the model's key in the configuration.
    """
    from huggingface_hub import constants, hf_hub_download

    snapshot = hub_folder(path) / "snapshots" / revision
    if constants.HF_HUB_OFFLINE:
        missing = list_missing(snapshot)
        if missing:
            reason, remedy = explain_offline()
            raise ModelError(
                f"{key}: {path!r} is incomplete in the cache: {', '.join(missing)} missing, and "
                f"{reason}; {remedy}, or point path to a folder"
            )
        return snapshot / "config.json"
    if (snapshot / "config.json").is_file():
        return snapshot / "config.json"
    try:
        return Path(hf_hub_download(path, "config.json", revision=revision, etag_timeout=10))
    except Exception as error:  # the library raises all kinds: network, gated, missing
        if is_gated(error):
            raise ModelError(explain_gated(key, path)) from None
        raise ModelError(
            f"{key}: config.json of {path!r} at revision {revision} cannot be downloaded from the "
            f"Hugging Face Hub ({first_line(error)}); check the name, the revision, the network "
            "and HF_TOKEN"
        ) from None


def list_missing(snapshot: Path) -> list[str]:
    """Return which parts of a model a cached snapshot lacks, in words."""
    names = {file.name for file in snapshot.iterdir()} if snapshot.is_dir() else set()
    parts = {
        "config.json": "config.json" in names,
        "weights (*.safetensors)": any(n.endswith((".safetensors", ".bin")) for n in names),
        "tokenizer": has_tokenizer(names),
    }
    return [part for part, there in parts.items() if not there]


def is_gated(error: BaseException) -> bool:
    """Return whether the Hub refused because the terms of the model have not been accepted."""
    return type(error).__name__ == "GatedRepoError"


def explain_gated(key: str, path: str) -> str:
    return (
        f"{key}: {path!r} is gated: accept its terms at https://huggingface.co/{path}, and set "
        "HF_TOKEN to a token of the account that accepted them"
    )


def list_hub_files(path: str, revision: str, snapshot: Path) -> frozenset[str] | None:
    """Return the file names of a Hub model at ``revision``, or those in its cached ``snapshot``
    when offline; None if the Hub does not list them.

    None does not allow pickles: loading insists on safetensors by itself.
    """
    from huggingface_hub import HfApi, constants  # only a Hub model needs it

    if constants.HF_HUB_OFFLINE:
        return frozenset(file.name for file in snapshot.iterdir())
    try:
        found = HfApi().model_info(path, revision=revision, timeout=CONNECT_SECONDS).siblings
    except Exception:  # the library raises all kinds; the model's config.json is here already
        return None
    # Files in subfolders are other formats of the model, which are not loaded.
    return frozenset(file.rfilename for file in found or () if "/" not in file.rfilename)
