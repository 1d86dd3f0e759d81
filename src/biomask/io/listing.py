"""What is in a folder: images, files that nobody reads, and the names that pair them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from biomask.errors import MissingPathError, ReadError
from biomask.io.formats import reader_of
from biomask.io.unread import FOLDERS, is_text_file, unopened, way_for
from biomask.stored import stem_of, suffix_of

#: Suffixes and names of files that lie beside images and are none.
BYSTANDERS = {"thumbs.db", "desktop.ini", ".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".geojson", ".roi", ".yaml", ".yml",
              ".toml", ".xml", ".html", ".pdf", ".doc", ".docx", ".odt", ".rtf", ".ppt", ".pptx", ".xls", ".xlsx", ".log", ".py",
              ".ipynb", ".r", ".m", ".sh", ".bat", ".ijm", ".ini", ".cfg", ".db", ".qpproj", ".qpdata", ".md5", ".sha256"}


def exists(path: Path) -> bool:
    """Whether there is such a file or folder. Raises ReadError where the system does not say."""
    try:
        path.stat()
    except PermissionError as error:
        raise unopened(path, error) from error
    except (OSError, ValueError):  # not there, a link to nowhere or itself, or a name that no disk can hold
        return False
    return True


def list_images(source: str | Path) -> list[Path]:
    """Files that a reader exists for: the file itself, or all below a folder, in name order; hidden ones left out.

    Links to files are listed as files, also broken ones, so that they are missed; links to folders are followed once.
    Raises MissingPathError, and ReadError for a folder that may not be listed.
    """
    source = Path(source)
    if not exists(source):
        raise MissingPathError("no such file or folder", where=source)
    if source.is_file():
        return [source]
    if suffix_of(source) in FOLDERS:
        raise ReadError("is one image of a format that is not read", where=source, fix=way_for(source))
    return sorted(p for p in _visible(source) if reader_of(p) is not None)


def list_unread(folder: Path) -> list[Path]:
    """Files below a folder that look like images or labels but have no reader, in name order; also zarr folders.

    What computers and people leave beside images (hidden files, Thumbs.db, notes, tables; texts without a suffix, such as
    LICENSE) is not meant, nor are annotations.
    """
    if not folder.is_dir():
        return []
    return sorted(p for p in _visible(folder) if reader_of(p) is None and p.suffix.lower() not in BYSTANDERS
                  and p.name.lower() not in BYSTANDERS and not _is_packed_annotation(p)
                  and not (not suffix_of(p) and is_text_file(p)))


def yolo_labels(folder: Path) -> list[Path]:
    """Labels of YOLO below a folder, which are not read, in name order: texts that are called as an image there is, with a class
    and four or more numbers from 0 to 1 in each line. `unread.YOLO_WAY` is what to do with them.
    """
    if not folder.is_dir():
        return []
    files = sorted(_visible(folder))
    images = {stem_of(p) for p in files if reader_of(p) is not None}
    return [p for p in files if p.suffix.lower() == ".txt" and p.stem in images and _is_yolo(p)]


def _is_yolo(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            lines = [line.split() for line in file.read(2**16).decode("ascii").splitlines()]
    except (OSError, ValueError):  # UnicodeDecodeError is a ValueError
        return False
    lines = [words for words in (lines if path.stat().st_size < 2**16 else lines[:-1]) if words]
    return bool(lines) and all(len(words) >= 5 and words[0].isdecimal() and all(map(_is_share, words[1:])) for words in lines)


def _is_share(word: str) -> bool:
    """Whether a word is a number from 0 to 1, or beyond by what rounding and outlines over the edge make."""
    try:
        return -0.1 <= float(word) <= 1.1
    except ValueError:
        return False


def _is_packed_annotation(path: Path) -> bool:
    """Whether an archive holds outlines: a RoiSet.zip of ImageJ, or packed JSON."""
    from biomask.io.rois import has_rois

    name = path.name.lower()
    return name.endswith((".json.gz", ".geojson.gz")) or (name.endswith(".zip") and has_rois(path))


def _visible(root: Path) -> Iterator[Path]:
    """Files below a folder, and folders that are one image, without hidden ones.

    A link to a folder is followed where it leads out of `root`, and each such place once; inside `root` everything is
    listed already.
    """
    home = os.path.realpath(root)
    seen: set[str] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as found:
                entries = list(found)
        except OSError as error:
            raise unopened(folder, error) from error
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith("."):
                continue
            if not _answers(entry.is_dir):
                if entry.is_symlink() or _answers(entry.is_file):  # not sockets, pipes and devices
                    yield path
            elif suffix_of(path) in FOLDERS:
                yield path
            elif not entry.is_symlink():
                waiting.append(path)
            elif _leads_out(real := os.path.realpath(path), home) and real not in seen:
                seen.add(real)
                waiting.append(path)


def _answers(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:  # of a link that leads back to itself
        return False


def _leads_out(target: str, home: str) -> bool:
    """Whether a folder is neither inside `home` nor around it."""
    inside, around = os.path.join(home, ""), os.path.join(target, "")
    return not (around.startswith(inside) or inside.startswith(around))


def relative_stem(path: Path, root: Path) -> Path:
    """The path below `root` without its suffix: what pairs an image with its mask, and names its results."""
    relative = path.relative_to(root) if root.is_dir() else Path(path.name)
    return relative.with_name(stem_of(relative))
