"""Folders kept at a URI: a local path, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX.

A folder counts once its manifest is there, for an object store has neither rename nor half
objects: the files go first, the manifest last; on the way out the manifest goes first.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import ArrowException
from pyarrow.fs import FileSelector, FileSystem, FileType

from sweep.config import holds_password
from sweep.errors import StorageError, first_line

FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
PART_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Storage:
    """Where folders are kept; ``root`` is the path inside ``files``."""

    uri: str
    files: FileSystem
    root: str

    def write_folder(self, name: str, source: Path) -> None:
        """Keep the files of ``source`` as ``name``, in place of what was there before.

        ``source`` is flat. Its own ``manifest.json``, if any, is not taken over: one is made here,
        with the checksum of every file. Raises StorageError if the place does not take it.
        """
        try:
            self.delete_folder(name)
            self.files.create_dir(self._place(name), recursive=True)
            sums = {}
            for file in sorted(source.iterdir()):
                if file.is_file() and file.name != MANIFEST:
                    sums[file.name] = self._upload(file, f"{name}/{file.name}")
            self._write_manifest(name, sums)
        except (OSError, ArrowException) as error:
            raise StorageError(
                f"{self.uri}: {name} cannot be written ({first_line(error)}); see that the place "
                "exists, has room, and lets this machine write"
            ) from error

    def _upload(self, file: Path, name: str) -> str:
        digest = hashlib.blake2b()
        with file.open("rb") as source, self.files.open_output_stream(self._place(name)) as target:
            while part := source.read(PART_BYTES):
                digest.update(part)
                target.write(part)
        return format_digest(digest)

    def _write_manifest(self, name: str, sums: dict[str, str]) -> None:
        place = self._place(f"{name}/{MANIFEST}")
        # A local file can be seen half written, an object cannot.
        beside = f"{place}.part" if self.files.type_name == "local" else place
        with self.files.open_output_stream(beside) as target:
            target.write(dump_manifest(sums).encode())
        if beside != place:
            self.files.move(beside, place)

    def read_folder(self, name: str, target: Path) -> bool:
        """Bring ``name`` into the new folder ``target``; return whether it was whole.

        What is not whole is not brought: no manifest, a file missing, or a checksum that differs.
        Raises StorageError if the place does not answer.
        """
        sums = parse_manifest(self._read(f"{name}/{MANIFEST}"))
        if sums is None:
            return False
        target.mkdir(parents=True)
        whole = all(
            self._download(f"{name}/{file}", target / file) == known for file, known in sums.items()
        )
        if whole:
            (target / MANIFEST).write_text(dump_manifest(sums))
        return whole

    def _read(self, name: str) -> bytes | None:
        try:
            with self.files.open_input_stream(self._place(name)) as source:
                return bytes(source.read())
        except FileNotFoundError:
            return None
        except (OSError, ArrowException) as error:
            raise self._silent(error) from error

    def _download(self, name: str, target: Path) -> str | None:
        digest = hashlib.blake2b()
        try:
            with self.files.open_input_stream(self._place(name)) as source, target.open("wb") as to:
                while part := source.read(PART_BYTES):
                    digest.update(part)
                    to.write(part)
        except FileNotFoundError:
            return None
        except (OSError, ArrowException) as error:
            raise self._silent(error) from error
        return format_digest(digest)

    def list_folders(self, inside: str) -> list[str]:
        """Return the names of the whole folders right below ``inside``, sorted; empty if none."""
        try:
            found = self.files.get_file_info(
                FileSelector(self._place(inside), recursive=True, allow_not_found=True)
            )
        except (OSError, ArrowException) as error:
            raise self._silent(error) from error
        names = [
            entry.path.removeprefix(f"{self.root}/").removesuffix(f"/{MANIFEST}")
            for entry in found
            if entry.type == FileType.File and entry.base_name == MANIFEST
        ]
        return sorted(name for name in names if name.rpartition("/")[0] == inside)

    def delete_folder(self, name: str) -> None:
        """Remove ``name``, its manifest first: what is half removed must not count."""
        place = self._place(name)
        try:
            if self.files.get_file_info(f"{place}/{MANIFEST}").type == FileType.File:
                self.files.delete_file(f"{place}/{MANIFEST}")
            if self.files.get_file_info(place).type == FileType.Directory:
                self.files.delete_dir(place)
        except (OSError, ArrowException) as error:
            raise self._silent(error) from error

    def _place(self, name: str) -> str:
        if not FOLDER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a folder below {self.uri}")
        return f"{self.root}/{name}"

    def _silent(self, error: Exception) -> StorageError:
        return StorageError(
            f"{self.uri}: does not answer ({first_line(error)}); see that it exists and that this "
            "machine may read and write there"
        )


def open_storage(place: str) -> Storage:
    """Return the storage at ``place``: a path, or an s3:// or gs:// URI.

    Keys come from where the cloud's own tools look for them, never from ``place``: the role of the
    machine, the environment, ~/.aws. AWS_ENDPOINT_URL names another server that speaks S3.
    Raises StorageError if ``place`` is neither, or holds a password.
    """
    scheme, mark, _ = place.partition("://")
    if holds_password(place):
        # The message must not repeat it: it would end up in logs.
        raise StorageError("the storage's URI holds a user name or password; take them out of it")
    if mark and scheme not in ("file", "s3", "gs"):
        raise StorageError(f"{place}: is no storage; name a path, s3://BUCKET/X or gs://BUCKET/X")
    if not mark:
        place = Path(place).expanduser().absolute().as_uri()
    try:
        files, root = FileSystem.from_uri(place)
    except (OSError, ArrowException, ValueError) as error:
        raise StorageError(f"{place}: cannot be opened ({first_line(error)})") from error
    return Storage(place, files, root.rstrip("/"))


MANIFEST = "manifest.json"
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def checksum(file: Path) -> str:
    """Return the checksum of a file, as a manifest holds it."""
    with file.open("rb") as source:
        return format_digest(hashlib.file_digest(source, hashlib.blake2b))


def format_digest(digest: Any) -> str:
    """Return a BLAKE2b digest (what ``hashlib.blake2b()`` makes) as a manifest holds it."""
    return str(digest.hexdigest())[:32]


def dump_manifest(sums: dict[str, str]) -> str:
    """Return the text of a manifest: file name -> checksum."""
    return json.dumps(sums)


def parse_manifest(text: str | bytes | None) -> dict[str, str] | None:
    """Return file name -> checksum, or None if ``text`` is no manifest.

    The names come from outside: one that could lead out of the folder is not believed.
    """
    try:
        sums: Any = json.loads(text) if text is not None else None
    except ValueError:
        return None
    known = isinstance(sums, dict) and all(map(FILE_NAME.fullmatch, sums))
    return sums if known else None
