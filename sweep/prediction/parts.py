"""A Parquet file that grows in parts: each is kept once written, and all become one at the end."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sweep.errors import RunFolderError, explain_cause
from sweep.storage.atomic import replace_file

MANIFEST = "manifest.json"
# The key of the target's Parquet metadata under which stands what its rows depend on.
METADATA_KEY = b"sweep.prediction"


class Parts:
    """The parts of the table that ``target`` will be, in ``target.partial``.

    A part that is there has all its rows. What the rows depend on stands beside them, so that no
    two different tables are mixed, and in the target, so that a finished one is recognized.
    """

    def __init__(self, target: Path, content: Mapping[str, object]) -> None:
        """``content`` says what the rows depend on. Raises RunFolderError if ``target`` is anything
        but the finished table of this content, or if parts of other content are in its place."""
        self._target, self._folder = target, target.with_name(f"{target.name}.partial")
        self._content = json.loads(json.dumps(content))
        self.finished = self._is_target_ours()
        """Whether the target is there already, with all its rows."""
        if target.exists() and not self.finished:
            raise RunFolderError(f"{target}: exists; choose another --out, or delete it")
        path = self._folder / MANIFEST
        try:
            if self.finished:
                self._remove_own_parts(path)
                return
            if path.exists():
                if not self._is_own(path):
                    raise RunFolderError(
                        f"{self._folder}: holds parts for another model, file or column; delete "
                        "it, or choose another --out"
                    )
                return
            self._folder.mkdir(parents=True, exist_ok=True)
            with replace_file(path) as file:
                file.write(json.dumps(self._content).encode())
        except (OSError, ValueError) as error:
            raise RunFolderError(
                f"{self._folder}: cannot be used ({explain_cause(error)}); choose another --out"
            ) from None

    def _is_target_ours(self) -> bool:
        """Return whether the target is the finished table of this content."""
        try:
            found = (pq.read_schema(self._target).metadata or {}).get(METADATA_KEY)
            return found is not None and json.loads(found) == self._content
        except (OSError, ValueError):
            return False  # no file, or not one of ours

    def _is_own(self, manifest: Path) -> bool:
        return bool(json.loads(manifest.read_text(encoding="utf-8")) == self._content)

    def _remove_own_parts(self, manifest: Path) -> None:
        """Remove parts that were still there when an earlier call was killed."""
        # Without a manifest, it was killed as it removed them.
        if self._folder.is_dir() and (not manifest.exists() or self._is_own(manifest)):
            shutil.rmtree(self._folder)

    def _name(self, number: int) -> Path:
        return self._folder / f"{number:06}.parquet"

    def has(self, number: int) -> bool:
        """Return whether the part is there."""
        return self._name(number).exists()

    def write(self, number: int, table: pa.Table) -> None:
        """Keep a part; raise RunFolderError if the disk is full."""
        self._write(self._name(number), [table], table.schema)

    def join(self, count: int) -> None:
        """Write ``count`` parts as one file at the target, and remove them."""
        tables = (pq.read_table(self._name(number)) for number in range(count))
        first = next(tables)
        content = {METADATA_KEY: json.dumps(self._content).encode()}
        schema = first.schema.with_metadata(content)
        self._write(self._target, [first, *tables], schema)
        shutil.rmtree(self._folder)

    def _write(self, path: Path, tables: list[pa.Table], schema: pa.Schema) -> None:
        try:
            with replace_file(path) as file, pq.ParquetWriter(file, schema) as writer:
                for table in tables:
                    writer.write_table(table)
        except OSError as error:
            raise RunFolderError(
                f"{path}: cannot be written ({explain_cause(error)}); make room, then run the same "
                "command again: it goes on where it stopped"
            ) from None
