"""Where trials keep their checkpoints and results: a local or shared folder, or a cloud URI.

`pyarrow.fs`, a dependency of Ray, handles them all. A file is written whole or not at all: a file
system renames a temporary file, an object store puts it atomically.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

from study.addresses import redact
from study.errors import UsageError
from study.files import reading, write_whole, writing


@dataclass(frozen=True, slots=True)
class Storage:
    """A root for trial files; picklable, so that workers open it by themselves."""

    root: str  # absolute path, or a URI such as `s3://bucket/study`

    @classmethod
    def at(cls, address: str | Path) -> Storage:
        """Resolve a path or URI given by the user.

        Raises:
            UsageError: If the URI's scheme is not one that pyarrow can open.
        """
        text = str(address)
        if "://" not in text:
            return cls(str(Path(text).expanduser().resolve()))
        try:
            fs.FileSystem.from_uri(text)
        except (ValueError, OSError) as error:
            # Not chained: the original error may quote the URI with its keys.
            raise UsageError(
                f"--storage {text.split('://', 1)[0]}://...: cannot be opened "
                f"({redact(error, text)}); give a folder that all nodes share, or an s3:// or "
                "gs:// URI"
            ) from None
        return cls(text)

    def probe(self) -> None:
        """Write and delete a file, so that an unwritable storage is found before any trial runs.

        Raises:
            UsageError: If that fails.
        """
        name = f"probe-{os.getpid()}"
        try:
            self.write(name, b"")
            self.delete(name)
        except OSError as error:
            raise UsageError(
                f"--storage: cannot be written ({redact(error, self.root)}); give a folder that "
                "all nodes share, or an s3:// or gs:// URI"
            ) from None

    def folder(self, *parts: str) -> Storage:
        """Return the storage of a subfolder."""
        # Options of an object store, such as its region, stay after the path.
        path, mark, options = (
            self.root.partition("?") if "://" in self.root else (self.root, "", "")
        )
        return Storage("/".join([path.rstrip("/"), *parts]) + mark + options)

    def _open(self, name: str) -> tuple[fs.FileSystem, str]:
        filesystem, path = fs.FileSystem.from_uri(self.root)
        return filesystem, f"{path}/{name}"

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all.

        Raises:
            DiskError: If the storage does not take it.
        """
        filesystem, path = self._open(name)
        if isinstance(filesystem, fs.LocalFileSystem):
            write_whole(Path(path), content)
            return
        with writing(f"{self.root}/{name}", len(content)):
            filesystem.create_dir(path.rsplit("/", 1)[0], recursive=True)
            with filesystem.open_output_stream(path) as stream:
                stream.write(content)

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or None where there is no such file.

        Raises:
            DiskError: If the storage does not give it.
        """
        filesystem, path = self._open(name)
        with reading(f"{self.root}/{name}"):
            if filesystem.get_file_info(path).type != fs.FileType.File:
                return None
            with filesystem.open_input_stream(path) as stream:
                return bytes(stream.read())

    def holds(self, name: str) -> bool:
        """Whether there is such a file."""
        filesystem, path = self._open(name)
        return bool(filesystem.get_file_info(path).type == fs.FileType.File)

    def delete(self, name: str) -> None:
        """Delete a file if it is there."""
        filesystem, path = self._open(name)
        if filesystem.get_file_info(path).type == fs.FileType.File:
            filesystem.delete_file(path)
