"""The files that a prepared folder was made from, by the digest of their bytes, so that none joins it twice.

They stand in sources.json, which the digest of the data leaves out: the same rows in another file format are
the same data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..files import sha256_file

FILE = "sources.json"


@dataclass(frozen=True)
class Sources:
    """Name and SHA-256 of each file; complete=False: the folder holds rows of files that are not recorded."""

    files: tuple[tuple[str, str], ...]
    complete: bool = True

    @classmethod
    def of_files(cls, paths: Iterable[Path]) -> Sources:
        """Read these files for their digests, each once."""
        paths = list(paths)
        digests = {path: sha256_file(path) for path in dict.fromkeys(paths)}
        return cls(tuple((str(path), digests[path]) for path in paths))

    @classmethod
    def open(cls, folder: Path) -> Sources:
        """What a prepared folder says, nothing where it has no record; InputError for a damaged one."""
        path = folder / FILE
        if not path.is_file():
            return cls((), complete=False)
        try:
            record = json.loads(path.read_bytes())
            files = tuple((str(entry["file"]), str(entry["sha256"])) for entry in record["files"])
            return cls(files, bool(record["complete"]))
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{path}: damaged; remove it to append all the same, which then cannot notice repeated files"
            ) from None

    def save(self, folder: Path) -> None:
        """Write them, by names without folders."""
        files = [{"file": Path(name).name, "sha256": digest} for name, digest in self.files]
        text = json.dumps({"complete": self.complete, "files": files}, indent=1)
        (folder / FILE).write_text(text, encoding="utf-8")

    def joined_by(self, new: Sources) -> Sources:
        """These and new ones."""
        return Sources((*self.files, *new.files), self.complete)

    def refuse(self, new: Sources, folder: Path) -> None:
        """InputError for the first new file with the bytes of one in `folder` or of an earlier new one."""
        known = {digest: f"{name!r}, which {folder} holds already" for name, digest in self.files}
        for name, digest in new.files:
            if digest in known:
                raise InputError(
                    f"{name}: has the same bytes as {known[digest]}, so its rows would count twice; leave it "
                    "out, or allow that with --allow-repeat (allow_repeat=True in Python)"
                )
            known[digest] = f"{name!r}, which is given too"
