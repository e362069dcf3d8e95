"""What a file seems to be, by its first bytes: for the message that refuses it."""

from __future__ import annotations

GZIP = b"\x1f\x8b"
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
# Bytes that are enough to tell.
HEAD = 28
OTHERS = {
    GZIP: "a gzip file",
    b"\x03\x08\x00\x00": "an IDX file with its bytes in little-endian order",
    b"\x01\x08\x00\x00": "an IDX file with its bytes in little-endian order",
    b"PK": "a zip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x89PNG": "a PNG image",
    JPEG: "a JPEG image",
    b"GIF8": "a GIF image",
    b"RIFF": "a WebP image or another RIFF file",
    b"II*\x00": "a TIFF image",
    b"MM\x00*": "a TIFF image",
    b"\x93NUMPY": "a NumPy file",
    b"\x89HDF": "an HDF5 file",
    b"PAR1": "a Parquet file",
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"version https://git-lfs": "a pointer of Git LFS",
    b"<": "an HTML or XML page",
}


def seems(head: bytes, expected: str) -> str:
    """Return in words what a file is that begins so, and is not what was expected."""
    for begin, what in OTHERS.items():
        if head.lstrip(b"\xef\xbb\xbf\r\n\t " if begin == b"<" else b"").startswith(begin):
            return what
    return f"no {expected} (it begins with {head[:8].hex(' ')})" if head else "empty"
