"""Image formats: those that are read, by suffix and by first bytes, and advice about those that are not."""

import re
from pathlib import PurePosixPath

# Common formats only: Pillow's rarer plugins are where its security holes have been.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "TGA")
SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".tga", ".npy"}
)
ARRAY = b"\x93NUMPY"
HEAD = 64  # bytes that are enough to recognise a format
CONVERT = "which cannot be read here: convert it to PNG or JPEG"
_READABLE = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|RIFF....WEBP|BM|GIF8[79]a|II\*\0|MM\0\*|P[1-6]\s|....ftypavi[fs]|\x93NUMPY",
    re.DOTALL,
)
_CONTENTS = (
    (rb"....ftyp(hei|hev|mif1|msf1)", f"a HEIC photo, {CONVERT}"),
    (rb"\xff\x0a|....JXL \r\n", f"a JPEG XL image, {CONVERT}"),
    (rb"....jP  \r\n|\xff\x4f\xff\x51", f"a JPEG 2000 image, {CONVERT}"),
    (rb"8BPS", f"a Photoshop file, {CONVERT}"),
    (rb"%PDF", f"a PDF document, {CONVERT}"),
    (rb"v/1\x01|#\?RADIANCE", f"an image of high dynamic range, {CONVERT}"),
    (rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?<svg", f"an SVG drawing, {CONVERT}"),
    (rb"(\xef\xbb\xbf)?\s*<(!doctype )?html", "a web page, not an image: perhaps a download that failed"),
    (rb"version https://git-lfs", 'a pointer of Git LFS, not an image: fetch the files with "git lfs pull"'),
    (rb"PK\x03\x04", "a zip archive, not an image: to use the images in it, give that file"),
    (rb"....ftyp|\x1aE\xdf\xa3", "a video, not an image: save its frames as images"),
)
_RAW = "a camera's raw photo"
_BY_SUFFIX = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "a HEIC photo"),
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".srw", ".pef", ".raw"), _RAW),
    **dict.fromkeys((".jxl",), "a JPEG XL image"),
    **dict.fromkeys((".jp2", ".j2k", ".jpx", ".j2c"), "a JPEG 2000 image"),
    **dict.fromkeys((".psd", ".psb", ".xcf", ".kra", ".ai", ".eps"), "a file of a drawing program"),
    **dict.fromkeys((".svg", ".svgz"), "an SVG drawing"),
    **dict.fromkeys((".exr", ".hdr", ".pfm"), "an image of high dynamic range"),
    **dict.fromkeys(
        (".dcm", ".dicom", ".nii", ".mha", ".nrrd", ".czi", ".lif", ".nd2"), "a medical or microscope image"
    ),
    **dict.fromkeys(
        (".ico", ".icns", ".dds", ".pcx", ".sgi", ".xbm", ".xpm", ".qoi", ".ras", ".fits"), "a rare format"
    ),
    **dict.fromkeys((".pdf",), "a PDF document"),
}
_VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
_ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz")
_DATA = (".npz", ".mat", ".h5", ".hdf5", ".parquet", ".arrow", ".tfrecord", ".tfrecords", ".pkl", ".pickle", ".pt")


def suffix_of(name: str) -> str:
    """The suffix of a path, in small letters."""
    return PurePosixPath(name).suffix.lower()


def may_lack_suffix(name: str) -> bool:
    """Whether its suffix tells nothing ("scan", "img.001", "a.jpg_large"), so that its content must be looked at."""
    return not suffix_of(name)[1:].isalpha()


def is_readable(head: bytes) -> bool:
    """Whether a file with these first bytes is in a format that is read."""
    return _READABLE.match(head) is not None


def foreign_content(head: bytes) -> str | None:
    """Why a file with these first bytes is no image that can be read, and what to do; None if that is unknown."""
    if is_readable(head):
        return None
    return next((why for start, why in _CONTENTS if re.match(start, head, re.DOTALL | re.IGNORECASE)), None)


def foreign_suffix(name: str) -> str:
    """Why a file of another suffix is no image that can be read, and what to do."""
    suffix = suffix_of(name)
    if suffix in _BY_SUFFIX:
        return f"{_BY_SUFFIX[suffix]} ({suffix}), {CONVERT}"
    if suffix in _VIDEOS:
        return f"a video ({suffix}), not an image: save its frames as images"
    if suffix in _ARCHIVES:
        return f"an archive ({suffix}): to use the images in it, give that file"
    if suffix in _DATA:
        return f"a file of data ({suffix}), not an image"
    return f"not an image file ({suffix or 'no suffix'})"
