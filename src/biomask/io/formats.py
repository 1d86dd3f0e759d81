"""Which format is read by what: a plain dict by suffix."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from biomask.io import nifti, npy, pictures, png, tiff
from biomask.stored import Stored, suffix_of


class Reader(Protocol):
    """Reads the header of one file. as_labels: values as stored, such as palette indices, instead of how they are shown."""

    def __call__(self, path: Path, *, as_labels: bool = False) -> Stored: ...


#: Readers by suffix, lower case.
READERS: dict[str, Reader] = {
    ".png": png.read, ".jpg": pictures.read_jpeg, ".jpeg": pictures.read_jpeg, ".bmp": pictures.read_bmp, ".npy": npy.read,
    ".nii": nifti.read, ".nii.gz": nifti.read, ".tif": tiff.read, ".tiff": tiff.read, ".btf": tiff.read, ".tf8": tiff.read,
    ".tf2": tiff.read, ".lsm": tiff.read, ".ndpi": tiff.read,
}


def reader_of(path: Path) -> Reader | None:
    """The reader of a file, by its name."""
    return READERS.get(suffix_of(path)) or READERS.get(path.suffix.lower())


def alike(path: Path) -> tuple[str, ...]:
    """Suffixes of the format that a file's name claims."""
    reader = reader_of(path)
    return tuple(s for s, r in READERS.items() if r == reader)
