"""Files that are not read: what they are, and the way from each to one that is."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from biomask.errors import ReadError
from biomask.stored import suffix_of

#: Programs whose files Bio-Formats opens: microscopes, then slide scanners.
MICROSCOPES = {"Zeiss ZEN": ".czi", "Zeiss AxioVision": ".zvi", "Nikon NIS-Elements": ".nd2", "Leica LAS": ".lif .lof .xlef .lei",
               "Olympus FluoView": ".oib .oif .oir", "Imaris": ".ims", "MetaMorph": ".stk .nd", "DeltaVision": ".dv .r3d",
               "SlideBook": ".sld", "ICS": ".ics .ids", "Gatan": ".dm3 .dm4", "Opera": ".flex", "Amira": ".am",
               "an electron microscope": ".mrc .rec .st"}
SLIDES = {"Aperio": ".svs", "Leica": ".scn", "3DHISTECH": ".mrxs", "Olympus": ".vsi", "Hamamatsu": ".vms .vmu", "Ventana": ".bif",
          "Akoya": ".qptiff"}

#: Volumes that SimpleITK or nibabel and medical viewers open, and pictures that ImageMagick does.
VOLUMES = {"MetaImage": ".mha .mhd", "NRRD": ".nrrd .nhdr", "FreeSurfer": ".mgz .mgh", "MINC": ".mnc",
           "half of a pair, Analyze or NIfTI": ".hdr .img"}
PICTURES = {"a WebP picture": ".webp", "an AVIF picture": ".avif", "a phone's photo": ".heic .heif", "a JPEG 2000 picture": ".jp2",
            "a GIF, whose colours are reduced and which may move": ".gif", "a JPEG XL picture": ".jxl", "a JPEG XR picture": ".jxr",
            "a netpbm picture": ".ppm .pgm .pbm", "a TGA picture": ".tga", "an OpenEXR picture": ".exr",
            "a drawing": ".svg .ai .eps", "a file of layers": ".psd .xcf", "a camera's raw photo": ".dng .cr2 .nef .arw"}
ARCHIVES = {"unzip": ".zip", "unrar x": ".rar", "7z x": ".7z", "tar xf": ".tar .tgz .tar.gz"}
PACKED = {"gunzip": ".gz", "bunzip2": ".bz2", "unxz": ".xz", "unzstd": ".zst"}
DOCUMENTS = ".pdf .ppt .pptx .doc .docx .odt"
FILMS = ".avi .mp4 .mov .mkv .wmv"

#: Folders that are one image each.
FOLDERS = (".zarr", ".ome.zarr", ".n5")

_ZARR = ("a folder of blocks: save the resolution that you need as OME-TIFF, in Fiji with File › Save As › Tiff…, or in Python: "
         'tifffile.imwrite("OUT.ome.tif", zarr.open("IN")["0"][:], metadata={"axes": "CZYX"})')
_HDF5 = ("HDF5, which can hold anything: save its image as OME-TIFF, in ilastik with Export, or in Python: "
         'tifffile.imwrite("OUT.ome.tif", h5py.File("IN")["NAME"][:], metadata={"axes": "ZYX"})')
_DICOM = ("DICOM: a folder of slices becomes one volume by dcm2niix -z y -o OUT FOLDER; a single picture opens in Fiji: "
          "File › Open, File › Save As › Tiff…")
_PICKLE = "a Python pickle, which can hold any program and is not opened: save each array with np.save"


def _each(groups: Mapping[str, str], words: Callable[[str, str], str]) -> dict[str, str]:
    return {suffix: words(what, suffix) for what, suffixes in groups.items() for suffix in suffixes.split()}


#: What a file of each suffix is, and the way to one that is read.
UNREAD: dict[str, str] = {
    **_each(MICROSCOPES, lambda what, s: f"a file of {what}: open it in Fiji (File › Import › Bio-Formats) and save it with File › "
                                         f"Save As › Tiff…, or many at once: bfconvert IN{s} OUT_%s.ome.tiff"),
    **_each(SLIDES, lambda what, s: f"a slide of {what}: in QuPath choose File › Export images › OME TIFF for the part that you "
                                    f"need, or: bfconvert -series 0 -compression LZW IN{s} OUT.ome.tiff"),
    **_each(VOLUMES, lambda what, s: f"a volume ({what}): save it as .nii.gz, in ITK-SNAP or 3D Slicer with File › Save, or in "
                                     f'Python: sitk.WriteImage(sitk.ReadImage("IN{s}"), "OUT.nii.gz")'),
    **_each(PICTURES, lambda what, s: f"{what}: save it as PNG, or a whole folder with ImageMagick: mogrify -format png *{s}"),
    **_each(ARCHIVES, lambda what, s: f"an archive: unpack it first ({what}) and give the folder"),
    **_each(PACKED, lambda what, s: f"packed: unpack it first ({what})"),
    **dict.fromkeys(DOCUMENTS.split(), "a document: export the image from the program that made it, not a copy that was pasted"),
    **dict.fromkeys(FILMS.split(), "a film: ffmpeg -i IN frame_%05d.png makes a picture of each frame; its values are not exact"),
    **dict.fromkeys(FOLDERS, _ZARR), **dict.fromkeys((".h5", ".hdf5", ".hdf", ".ilp"), _HDF5),
    **dict.fromkeys((".dcm", ".dicom", ".ima"), _DICOM), **dict.fromkeys((".pkl", ".pickle"), _PICKLE),
    ".ser": "a file of FEI TIA: open it in Fiji with the plugin TIA Reader, and File › Save As › Tiff…",
    ".mat": 'MATLAB\'s variables: save the image with imwrite(im, "OUT.tif"), or in Python: '
            'np.save("OUT.npy", scipy.io.loadmat("IN.mat")["NAME"])',
    ".npz": 'several arrays of numpy: save each as its own file: np.save("OUT.npy", np.load("IN.npz")["NAME"])',
    ".fits": 'an astronomer\'s image: in Fiji File › Save As › Tiff…, or in Python: np.save("OUT.npy", '
             'astropy.io.fits.getdata("IN.fits"))',
    ".raw": "bare bytes without size or type: open it with Fiji's File › Import › Raw…, and File › Save As › Tiff…",
}

#: The same for texts of YOLO: see `listing.yolo_labels`.
YOLO_WAY = ("YOLO's labels are not read: convert them to COCO JSON, with Roboflow or in Python: "
            'supervision.DetectionDataset.from_yolo(IMAGES, LABELS, "data.yaml", force_masks=True)'
            '.as_coco(annotations_path="annotations.json"); lines of 5 numbers are boxes, which have no outline')

#: First bytes of files, what they are, and the suffix that they belong to.
SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "a PNG picture", ".png"), (b"\xff\xd8\xff", "a JPEG picture", ".jpg"), (b"BM", "a BMP picture", ".bmp"),
    (b"\x93NUMPY", "an array of numpy", ".npy"), (b"II*\0", "a TIFF", ".tif"), (b"MM\0*", "a TIFF", ".tif"),
    (b"II+\0", "a BigTIFF", ".tif"), (b"MM\0+", "a BigTIFF", ".tif"), (b"GIF8", "a GIF", ".gif"), (b"%PDF", "a PDF", ".pdf"),
    (b"PK\x03\x04", "a ZIP archive", ".zip"), (b"\x1f\x8b", "packed by gzip", ".gz"), (b"\x89HDF\r\n", "an HDF5 file", ".h5"),
    (b"8BPS", "a Photoshop file", ".psd"), (b"ZISRAWFILE", "a Zeiss file", ".czi"), (b"\x80\x04\x95", "a Python pickle", ".pkl"),
    (b"\x80\x05\x95", "a Python pickle", ".pkl"), (b"RIFF", "a WebP picture or a film", ".webp"),
)

#: First bytes of text that stands where an image should be, in lower case, and what happened.
TEXTS: tuple[tuple[bytes, str, str], ...] = (
    (b"<!doctype html", "is a web page: the download gave an error page", "download it again, logged in if the site asks for it"),
    (b"<html", "is a web page: the download gave an error page", "download it again, logged in if the site asks for it"),
    (b"version https://git-lfs", "is the pointer to a file in Git LFS", "run: git lfs pull"),
)


def way_for(path: Path, readable: Iterable[str] = ()) -> str:
    """What to do with a file of a format that is not read."""
    suffix = suffix_of(path)
    for ending in (suffix, path.suffix.lower()):
        if ending in UNREAD:
            return f"{ending} is {UNREAD[ending]}"
    return "convert it to one of " + ", ".join(readable) if readable else "convert it to TIFF or PNG"


def damage(path: Path, reason: str, suffixes: Iterable[str]) -> ReadError:
    """The error for a file that a decoder gave up on: what it really is, where that can be seen.

    reason: what the decoder said. suffixes: those of the format that was expected.
    """
    suffix = suffix_of(path)
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        return unopened(path, error)
    if not start:
        return ReadError("is empty (0 bytes)", where=path, fix="copy or export it again")
    for begin, what, fix in TEXTS:
        if start.lstrip().lower().startswith(begin):
            return ReadError(f"{what}, not a {suffix} file", where=path, fix=fix)
    if _is_text(start):
        return ReadError(f"holds text, not a {suffix} image", where=path, fix="export the image again")
    for begin, name, ending in SIGNATURES:
        if start.startswith(begin) and ending not in (*suffixes, suffix) and (ending, suffix) != (".gz", ".nii.gz"):
            way = f"rename it to end in {ending}" if ending not in UNREAD else f"it is {UNREAD[ending]}"
            return ReadError(f"is {name}, though its name ends in {suffix}", where=path,
                             fix="rename it to end in .nii.gz" if (ending, suffix) == (".gz", ".nii") else way)
    return ReadError(f"is damaged or not a {suffix} file ({reason})", where=path, fix="copy or export it again")


def is_text_file(path: Path) -> bool:
    """Whether a file begins with text; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            return _is_text(file.read(512), least=1)
    except OSError:
        return False


def _is_text(start: bytes, least: int = 4) -> bool:
    """Whether the bytes are printable UTF-8, a few at least, and no PDF."""
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # more than a letter that is cut
            return False
        text = start[: error.start].decode("utf-8")
    return len(text) >= least and all(c.isprintable() or c in "\t\n\r\f\ufeff" for c in text) and not text.startswith("%PDF")


def unopened(path: Path, error: OSError) -> ReadError:
    """The error for a file that the system does not give."""
    if isinstance(error, PermissionError):
        return ReadError("may not be read by you", where=path, fix=f"ask its owner, or change its rights: chmod u+r {path.name}")
    fix = {errno.EIO: "the disk or network failed: copy the file to another disk", errno.EMFILE: "close other programs",
           errno.ELOOP: "its link leads back to itself: remove the link"}.get(error.errno or 0, "copy it to another place")
    return ReadError(f"cannot be read ({error.strerror or error})", where=path, fix=fix)
