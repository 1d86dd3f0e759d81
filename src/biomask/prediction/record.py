"""run.json of a folder of predictions, and the journal by which a killed run loses nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from biomask.data.survey import file_hash
from biomask.errors import InputError
from biomask.io.atomic import not_written
from biomask.io.files import write_text
from biomask.prediction.folder import FOLDERS, OBJECTS_FILE, OWN_FILES, Job, as_json
from biomask.stored import Selection

#: What is done since run.json was written: a line an image, so that many images cost no more each than few.
JOURNAL = "run.journal"


class Record:
    """run.json, with a journal beside it while images are being done."""

    def __init__(self, out: Path, facts: Mapping[str, Any], *, overwrite: bool) -> None:
        """Take the folder. facts: what is the same for all images; its "model_sha256" says whose results these are.

        Raises InputError for a folder with results of another model, or with files that `predict` did not write.
        """
        self.path, self._journal = out / "run.json", out / JOURNAL
        self._hashes: dict[Path, str] = {}
        before = _read(self.path)
        strange = [f for f in (*FOLDERS, *OWN_FILES) if (out / f).exists()] if before is None else []
        if strange:
            raise InputError(f"holds {', '.join(strange)} that biomask predict did not write", where=out, fix="choose another -o")
        if before is not None and not overwrite and before["model_sha256"] != facts["model_sha256"]:
            raise InputError("holds results of another model", where=out, fix="choose another -o, or --overwrite")
        images: dict[str, Any] = {}
        if before is not None and overwrite:
            self._journal.unlink(missing_ok=True)
            for folder in FOLDERS:
                shutil.rmtree(out / folder, ignore_errors=True)
            for file in (OBJECTS_FILE, *OWN_FILES):
                (out / file).unlink(missing_ok=True)
        elif before is not None:
            images = before["images"]
            for name, entry in _entries(self._journal):
                images.pop(name, None)
                if entry is not None:
                    images[name] = entry
        self.content: dict[str, Any] = {**facts, "images": images, "failed": {}}
        self.write()

    def has(self, job: Job, selection: Selection, asked: Mapping[str, Any]) -> bool:
        """Whether this very image is done, on record and on disk: another of the same name, or of the same file, is not.

        asked: what else must be the same in its entry; what an entry does not have is None.
        """
        entry = self.content["images"].get(job.name)
        if not isinstance(entry, dict) or not job.is_there():
            return False
        same = entry.get("selection") == as_json(selection) and entry.get("plane") == as_json(job.plane)
        return same and all(entry.get(k) == v for k, v in asked.items()) and entry.get("sha256") == self.hash_of(job.source)

    def hash_of(self, source: Path) -> str:
        """SHA-256 of a file, computed once a run: a file may give many planes."""
        if source not in self._hashes:
            self._hashes[source] = file_hash(source)
        return self._hashes[source]

    def done(self, name: str, facts: Mapping[str, Any]) -> None:
        """Note one image. Raises DiskFullError, or WriteError."""
        self.content["images"][name] = dict(facts)
        self._append([name, facts])

    def failed(self, name: str, message: str) -> None:
        """Note one image that could not be done. Raises DiskFullError, or WriteError."""
        if self.content["images"].pop(name, None) is not None:
            self._append([name, None])
        self.content["failed"][name] = message

    def _append(self, line: Any) -> None:
        try:
            with self._journal.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        except OSError as error:
            raise not_written(error, self._journal) from error

    def write(self) -> None:
        """Write run.json, whole or not at all; the journal is in it then."""
        write_text(self.path, json.dumps(self.content, indent=2, ensure_ascii=False))
        self._journal.unlink(missing_ok=True)


def _entries(journal: Path) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """(name, entry, or None where it is no longer done) of each whole line; what was cut off ends them."""
    try:
        lines = journal.read_bytes().split(b"\n") if journal.is_file() else []
    except OSError:
        lines = []
    for line in lines:
        try:
            name, entry = json.loads(line)
        except (ValueError, TypeError):  # also of bytes that end within a letter
            return
        if isinstance(name, str) and (entry is None or isinstance(entry, dict)):
            yield name, entry


def _read(path: Path) -> dict[str, Any] | None:
    """An earlier record; None where there is none. Raises InputError where run.json is something else."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["command"] == "predict" and isinstance(content["images"], dict) and isinstance(content["model_sha256"], str):
            return dict(content)
    except (ValueError, KeyError, TypeError, OSError):
        pass
    raise InputError("is not a record of biomask predict", where=path, fix="choose another -o")
