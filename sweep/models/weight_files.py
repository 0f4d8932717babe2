"""The weight files of a model folder, chosen as transformers' loader chooses them, and checked by
their headers and index: of gigabytes, kilobytes are read."""

import json
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from sweep.errors import ModelError, first_line, format_names, truncate
from sweep.models.folder import explain_unreadable, is_here, read_json, read_start

SAFE, SAFE_INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
OTHER_FRAMEWORKS = (".h5", ".msgpack", ".onnx", ".ckpt.index", ".mlmodel", ".ot")

# A length of 8 bytes, then that much JSON (https://huggingface.co/docs/safetensors); the library
# itself takes no longer header.
LENGTH_BYTES, MOST_HEADER = 8, 100_000_000


@dataclass(frozen=True)
class Tensor:
    """What a header says of one tensor: number format, shape, and where its bytes end."""

    type: str
    shape: tuple[int, ...]
    end: int


Header = Mapping[str, Tensor]


def choose_entry(names: Collection[str], allow_pickle: bool) -> str | None:
    """Return the file that loading begins with: the weights or their index; None: there is none."""
    order = (SAFE, SAFE_INDEX, *((PICKLE, PICKLE_INDEX) if allow_pickle else ()))
    return next((name for name in order if name in names), None)


def read_weights(folder: Path, names: Collection[str], allow_pickle: bool) -> Header:
    """Return the tensors of ``folder``'s weights, none for pickled ones; of its file ``names`` some
    may not be here yet.

    Raises ModelError that says which file is missing, cut, damaged or not what its name says, or
    why nothing here can be loaded.
    """
    entry, parts = _read_entry(folder, names, allow_pickle)
    files = sorted(set(parts.values())) or [entry]
    missing = [name for name in files if name not in names and not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"{folder} lacks {len(missing)} of the {len(files)} weight files that {entry} names "
            f"({format_names(missing, 3, 100)}); download them into it"
        )
    headers = {name: check_file(folder / name) for name in files if is_here(folder / name)}
    _check_parts(folder, entry, parts, headers)
    return {name: tensor for header in headers.values() for name, tensor in header.items()}


def list_weight_files(folder: Path, names: Collection[str]) -> list[str]:
    """Return the safetensors files that are loaded; raise ModelError if they cannot be told."""
    entry, parts = _read_entry(folder, names, allow_pickle=False)
    return sorted(set(parts.values())) or [entry]


def is_complete(folder: Path, names: Collection[str]) -> bool:
    """Return whether all safetensors that are loaded are on this machine."""
    try:
        return all((folder / name).is_file() for name in list_weight_files(folder, names))
    except ModelError:
        return False


def _read_entry(
    folder: Path, names: Collection[str], allow_pickle: bool
) -> tuple[str, Mapping[str, str]]:
    """Return the file that loading begins with and, of an index, the file of each tensor."""
    entry = choose_entry(names, allow_pickle)
    if entry is None:
        raise ModelError(explain_no_weights(folder, names))
    is_index = entry.endswith(".json") and is_here(folder / entry)
    return entry, read_index(folder / entry) if is_index else {}


def read_index(file: Path) -> dict[str, str]:
    """Return the file of each tensor, by an index; raise ModelError if it is damaged."""
    parts = read_json(file).get("weight_map")
    if not isinstance(parts, dict) or not parts or not all(map(_is_name, parts.values())):
        raise ModelError(
            f"{file} names no file for each tensor (weight_map); download it again with the weights"
        )
    return parts


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _check_parts(
    folder: Path,
    entry: str,
    parts: Mapping[str, str],
    headers: Mapping[str, Mapping[str, object]],
) -> None:
    """Raise ModelError if a file lacks a tensor that the index says it holds."""
    for tensor, name in parts.items():
        if headers.get(name) and tensor not in headers[name]:
            raise ModelError(
                f"{folder / name} lacks {truncate(tensor, 60)}, which {entry} says it holds; index "
                "and weights are of different models: download both again"
            )


def check_file(file: Path) -> Header:
    """Return the tensors of a safetensors file, none for a pickled one; raise ModelError if the
    file is damaged or not complete."""
    start = read_start(file)
    if file.name.endswith(PICKLE_SUFFIXES):
        # PyTorch's files are ZIP archives, whose list of contents stands at the end.
        if not start or (start.startswith(b"PK") and not zipfile.is_zipfile(file)):
            raise ModelError(f"{file} is cut off or empty; download it again")
        return {}
    header, begin = read_header(file)
    named, here = max(tensor.end for tensor in header.values()), file.stat().st_size - begin
    if here < named:
        raise ModelError(
            f"{file} is cut off: its header names {named} bytes of weights and {here} are there; "
            "download it again"
        )
    _let_library_check(file)
    return header


def read_header(file: Path) -> tuple[Header, int]:
    """Return the tensors in the header of a safetensors file, and how many bytes come before
    theirs; raise ModelError if it is not readable."""
    start, size = read_start(file), file.stat().st_size
    if not size:
        raise ModelError(f"{file} is empty; download it again")
    if size <= LENGTH_BYTES:
        raise ModelError(f"{file} is cut off within its header; download it again")
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    if start[LENGTH_BYTES : LENGTH_BYTES + 1] != b"{" or length > MOST_HEADER:
        pickled = start.startswith((b"PK", b"\x80"))
        kind = (
            "a pickle under another name; convert it" if pickled else "damaged; download it again"
        )
        raise ModelError(f"{file} is no safetensors file, but {kind}")
    if size < LENGTH_BYTES + length:
        raise ModelError(f"{file} is cut off within its header; download it again")
    with file.open("rb") as opened:
        opened.seek(LENGTH_BYTES)
        header = _parse_header(opened.read(length))
    if not header:
        raise ModelError(f"{file} has a damaged header; download it again")
    return header, LENGTH_BYTES + length


def _parse_header(text: bytes) -> Header:
    """Return the tensors in a header, or none if it is damaged."""
    try:
        tree = json.loads(text)
        tree.pop("__metadata__", None)
        return {
            name: Tensor(str(e["dtype"]), tuple(map(int, e["shape"])), int(e["data_offsets"][1]))
            for name, e in tree.items()
        }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def _let_library_check(file: Path) -> None:
    """Raise ModelError for what the library refuses: gaps, overlaps, sizes that do not fit."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy"):
            pass
    except SafetensorError as error:
        raise ModelError(f"{file} is damaged ({first_line(error)}); download it again") from None
    except OSError as error:
        raise ModelError(explain_unreadable(file, error)) from None


def explain_no_weights(folder: Path, names: Collection[str]) -> str:
    """Return why there are no weights to load among the file ``names`` of ``folder``."""
    safe = sorted(name for name in names if name.endswith(".safetensors"))
    if len(safe) > 1:
        return (
            f"{folder} holds {format_names(safe, 2, 100)} but no {SAFE_INDEX}, which says what "
            "lies where; download it into the folder"
        )
    if safe:
        return (
            f"{folder} holds {safe[0]}, but loaders look for {SAFE}; rename it if it is the whole "
            "model in the format of transformers"
        )
    pickled = sorted(name for name in names if name.endswith(PICKLE_SUFFIXES))
    if pickled:
        return (
            f"{folder} holds only pickled weights under names that loaders do not look for "
            f"({format_names(pickled, 2)}); save the model anew with save_pretrained"
        )
    others = sorted(name for name in names if name.endswith((".gguf", *OTHER_FRAMEWORKS)))
    if others:
        return (
            f"{folder} holds no weights that can be fine-tuned here, only "
            f"{format_names(others, 2)}; take the model's *.safetensors"
        )
    below = sorted(file.parent.name for file in folder.glob("*/*.safetensors"))
    if below:
        return (
            f"{folder} holds no weights (*.safetensors), but its folder {below[0]} does; move them "
            "beside config.json"
        )
    return f"{folder} holds no weights (*.safetensors); add them"
