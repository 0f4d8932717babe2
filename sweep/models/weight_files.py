"""The weight files of a model folder, chosen as transformers' loader chooses them, and checked by
headers and index alone: kilobytes of gigabytes are read."""

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

# A file begins with a length of 8 bytes and that much JSON
# (https://huggingface.co/docs/safetensors); the library accepts no longer header.
LENGTH_BYTES, MOST_HEADER = 8, 100_000_000


@dataclass(frozen=True)
class Tensor:
    """A tensor in a header: number format, shape, and the position where its bytes end."""

    type: str
    shape: tuple[int, ...]
    end: int


Header = Mapping[str, Tensor]


def choose_entry(names: Collection[str], allow_pickle: bool) -> str | None:
    """Return the file that loading starts from, the weights or their index; None if missing."""
    order = (SAFE, SAFE_INDEX, *((PICKLE, PICKLE_INDEX) if allow_pickle else ()))
    return next((name for name in order if name in names), None)


def read_weights(folder: Path, names: Collection[str], allow_pickle: bool) -> Header:
    """Return the tensors of ``folder``'s weights, but none of pickled ones. Some of its file
    ``names`` may not be on this machine yet.

    Raises ModelError that names the file which is missing, truncated, damaged or not what its name
    says, or says why nothing here can be loaded.
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
    """Return the safetensors files that loading reads; raise ModelError if it cannot find them."""
    entry, parts = _read_entry(folder, names, allow_pickle=False)
    return sorted(set(parts.values())) or [entry]


def is_complete(folder: Path, names: Collection[str]) -> bool:
    """Return whether all safetensors files that loading reads are on this machine."""
    try:
        return all((folder / name).is_file() for name in list_weight_files(folder, names))
    except ModelError:
        return False


def _read_entry(
    folder: Path, names: Collection[str], allow_pickle: bool
) -> tuple[str, Mapping[str, str]]:
    """Return the file that loading starts from and, if it is an index, the file of each tensor."""
    entry = choose_entry(names, allow_pickle)
    if entry is None:
        raise ModelError(explain_no_weights(folder, names))
    is_index = entry.endswith(".json") and is_here(folder / entry)
    return entry, read_index(folder / entry) if is_index else {}


def read_index(file: Path) -> dict[str, str]:
    """Return the file of each tensor in an index; raise ModelError if it is damaged."""
    parts = read_json(file).get("weight_map")
    if not isinstance(parts, dict) or not parts or not all(map(_is_name, parts.values())):
        raise ModelError(
            f"{file} does not map tensors to files (weight_map); download it again with the weights"
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
    """Raise ModelError if a file lacks a tensor that the index lists there."""
    for tensor, name in parts.items():
        if headers.get(name) and tensor not in headers[name]:
            raise ModelError(
                f"{folder / name} lacks {truncate(tensor, 60)}, which {entry} lists there; index "
                "and weights are of different models: download both again"
            )


def check_file(file: Path) -> Header:
    """Return the tensors of a safetensors file, but none of a pickled one; raise ModelError if the
    file is damaged or incomplete."""
    start = read_start(file)
    if file.name.endswith(PICKLE_SUFFIXES):
        # PyTorch's files are ZIP archives, which end with their table of contents.
        if not start or (start.startswith(b"PK") and not zipfile.is_zipfile(file)):
            raise ModelError(f"{file} is truncated or empty; download it again")
        return {}
    header, begin = read_header(file)
    named, here = max(tensor.end for tensor in header.values()), file.stat().st_size - begin
    if here < named:
        raise ModelError(
            f"{file} is truncated: its header announces {named} bytes of weights, but it "
            f"has {here}; download it again"
        )
    _let_library_check(file)
    return header


def read_header(file: Path) -> tuple[Header, int]:
    """Return the tensors in the header of a safetensors file, and the position where their bytes
    begin; raise ModelError if it is not readable."""
    start, size = read_start(file), file.stat().st_size
    if not size:
        raise ModelError(f"{file} is empty; download it again")
    if size <= LENGTH_BYTES:
        raise ModelError(f"{file} is truncated within its header; download it again")
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    if start[LENGTH_BYTES : LENGTH_BYTES + 1] != b"{" or length > MOST_HEADER:
        pickled = start.startswith((b"PK", b"\x80"))
        kind = (
            "a pickle under another name; convert it" if pickled else "damaged; download it again"
        )
        raise ModelError(f"{file} is not a safetensors file, but {kind}")
    if size < LENGTH_BYTES + length:
        raise ModelError(f"{file} is truncated within its header; download it again")
    with file.open("rb") as opened:
        opened.seek(LENGTH_BYTES)
        header = _parse_header(opened.read(length))
    if not header:
        raise ModelError(f"{file} has a damaged header; download it again")
    return header, LENGTH_BYTES + length


def _parse_header(text: bytes) -> Header:
    """Return the tensors in a header, none if it is damaged."""
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
    """Raise ModelError for what the library refuses: gaps, overlaps, sizes that do not match."""
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
            f"{folder} holds {format_names(safe, 2, 100)} but no {SAFE_INDEX}, which maps "
            "tensors to files; download it into the folder"
        )
    if safe:
        return (
            f"{folder} holds {safe[0]}, but loaders look for {SAFE}; rename it if it is the "
            "complete model in the format of transformers"
        )
    pickled = sorted(name for name in names if name.endswith(PICKLE_SUFFIXES))
    if pickled:
        return (
            f"{folder} holds only pickled weights under names that loaders do not look for "
            f"({format_names(pickled, 2)}); save the model again with save_pretrained"
        )
    others = sorted(name for name in names if name.endswith((".gguf", *OTHER_FRAMEWORKS)))
    if others:
        return (
            f"{folder} holds no weights that can be fine-tuned here, only "
            f"{format_names(others, 2)}; use the model's *.safetensors"
        )
    below = sorted(file.parent.name for file in folder.glob("*/*.safetensors"))
    if below:
        return (
            f"{folder} holds no weights (*.safetensors), but its folder {below[0]} does; move them "
            "beside config.json"
        )
    return f"{folder} holds no weights (*.safetensors); add them"
