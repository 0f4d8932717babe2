"""Folders kept at a URI: a local path, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX.

A folder counts once its manifest is there, because an object store can neither rename a folder nor
show half an object. So writing puts the manifest last, and deleting removes it first.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from pyarrow import ArrowException
from pyarrow.fs import FileSelector, FileSystem, FileType

from sweep.config import holds_password
from sweep.errors import StorageError, first_line
from sweep.storage.manifest import (
    MANIFEST,
    PART_BYTES,
    Digest,
    checksum,
    dump_manifest,
    parse_manifest,
)

FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


@dataclass(frozen=True)
class Storage:
    """Where folders are kept; ``root`` is the path inside ``files``."""

    uri: str
    files: FileSystem
    root: str

    def write_folder(self, name: str, source: Path) -> None:
        """Store the files of ``source`` as ``name``, replacing what was there before.

        ``source`` is flat. The files that its ``manifest.json`` lists are stored with it; if it has
        none, all of them are, with a new manifest. Raises StorageError if the location cannot be
        written, or a file is not what the manifest says.
        """
        try:
            self.delete_folder(name)
            self.files.create_dir(self._path(name), recursive=True)
            sums = _list_files(source)
            for file, known in sums.items():
                self._upload(source / file, f"{name}/{file}", known)
            self._write_manifest(name, sums)
        except (OSError, ArrowException) as error:
            raise StorageError(
                f"{self.uri}: {name} cannot be written ({first_line(error)}); check that the "
                "location exists, has free space, and allows this machine to write"
            ) from error

    def _upload(self, file: Path, name: str, known: str) -> None:
        digest = Digest(known)
        with file.open("rb") as source, self.files.open_output_stream(self._path(name)) as target:
            while part := source.read(PART_BYTES):
                digest.update(part)
                target.write(part)
        if str(digest) != known:
            raise StorageError(
                f"{file} changed after it was written, so it is not stored; check this machine's "
                "disk"
            )

    def _write_manifest(self, name: str, sums: dict[str, str]) -> None:
        path = self._path(f"{name}/{MANIFEST}")
        # A local file can be seen half-written, an object cannot.
        beside = f"{path}.part" if self.files.type_name == "local" else path
        with self.files.open_output_stream(beside) as target:
            target.write(dump_manifest(sums).encode())
        if beside != path:
            self.files.move(beside, path)

    def read_folder(self, name: str, target: Path) -> bool:
        """Download ``name`` into the new folder ``target``; return whether it was complete.

        Incomplete means: no manifest, a missing file, or a checksum that differs. Raises
        StorageError if the location does not answer.
        """
        sums = parse_manifest(self._read(f"{name}/{MANIFEST}"))
        if sums is None:
            return False
        target.mkdir(parents=True)
        complete = all(
            self._download(f"{name}/{file}", target / file, known) for file, known in sums.items()
        )
        if complete:
            (target / MANIFEST).write_text(dump_manifest(sums))
        return complete

    def _read(self, name: str) -> bytes | None:
        try:
            with self.files.open_input_stream(self._path(name)) as source:
                return bytes(source.read())
        except FileNotFoundError:
            return None
        except (OSError, ArrowException) as error:
            raise self._unreachable(error) from error

    def _download(self, name: str, target: Path, known: str) -> bool:
        """Download a file; return whether it is there and has the checksum ``known``."""
        digest = Digest(known)
        try:
            with self.files.open_input_stream(self._path(name)) as source, target.open("wb") as to:
                while part := source.read(PART_BYTES):
                    digest.update(part)
                    to.write(part)
        except FileNotFoundError:
            return False
        except (OSError, ArrowException) as error:
            raise self._unreachable(error) from error
        return str(digest) == known

    def list_folders(self, inside: str) -> list[str]:
        """Return the names of the complete folders directly below ``inside``, sorted."""
        try:
            found = self.files.get_file_info(
                FileSelector(self._path(inside), recursive=True, allow_not_found=True)
            )
        except (OSError, ArrowException) as error:
            raise self._unreachable(error) from error
        names = [
            entry.path.removeprefix(f"{self.root}/").removesuffix(f"/{MANIFEST}")
            for entry in found
            if entry.type == FileType.File and entry.base_name == MANIFEST
        ]
        return sorted(name for name in names if name.rpartition("/")[0] == inside)

    def delete_folder(self, name: str) -> None:
        """Remove ``name``, its manifest first: a half-removed folder must not count."""
        path = self._path(name)
        try:
            if self.files.get_file_info(f"{path}/{MANIFEST}").type == FileType.File:
                self.files.delete_file(f"{path}/{MANIFEST}")
            if self.files.get_file_info(path).type == FileType.Directory:
                self.files.delete_dir(path)
        except (OSError, ArrowException) as error:
            raise self._unreachable(error) from error

    def _path(self, name: str) -> str:
        if not FOLDER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a valid folder name below {self.uri}")
        return f"{self.root}/{name}"

    def _unreachable(self, error: Exception) -> StorageError:
        return StorageError(
            f"{self.uri}: does not answer ({first_line(error)}); check that it exists and that "
            "this machine may read and write there"
        )


def open_storage(location: str) -> Storage:
    """Return the storage at ``location``: a path, or an s3:// or gs:// URI.

    Keys come from where the cloud's own tools look for them, never from ``location``: the role of
    the machine, the environment, ~/.aws. AWS_ENDPOINT_URL names another server that speaks S3.
    Raises StorageError if ``location`` is neither, or contains a password.
    """
    scheme, mark, _ = location.partition("://")
    if holds_password(location):
        # The message must not repeat it: it would end up in logs.
        raise StorageError("the storage URI contains a user name or password; remove it")
    if mark and scheme not in ("file", "s3", "gs"):
        raise StorageError(
            f"{location}: not a storage location; give a path, s3://BUCKET/X or gs://BUCKET/X"
        )
    uri = location if mark else Path(location).expanduser().absolute().as_uri()
    try:
        files, root = FileSystem.from_uri(uri)
    except (OSError, ArrowException, ValueError) as error:
        raise StorageError(f"{uri}: cannot be opened ({first_line(error)})") from error
    return Storage(uri, files, root.rstrip("/"))


def _list_files(source: Path) -> dict[str, str]:
    """Return file name -> checksum, from the manifest in ``source`` or, without one, computed."""
    if not (source / MANIFEST).exists():
        return {file.name: checksum(file) for file in sorted(source.iterdir()) if file.is_file()}
    sums = parse_manifest((source / MANIFEST).read_bytes())
    if sums is None:
        raise StorageError(f"{source / MANIFEST} is damaged; check this machine's disk")
    return sums
