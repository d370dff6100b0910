"""What CSV, TSV and JSON Lines have in common: they are UTF-8."""

from __future__ import annotations

import codecs
from pathlib import Path

from pairstill.errors import InputError

PIECE_BYTES = 1 << 22
COMPRESSED_STARTS = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
"""First bytes of gzip, zip, bzip2, xz and zstd."""


def check_utf8(path: Path) -> bool:
    """Refuse a file that is empty or not UTF-8; says whether it contains a double quote.

    Raises:
        InputError: With the line and byte of the first invalid byte.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    done = line = 0
    quoted = False
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            if not done and piece[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                raise InputError("the file is UTF-16", file=path, fix=f"Convert it: iconv -f UTF-16 -t UTF-8 {path}")
            if not done and piece.startswith(COMPRESSED_STARTS):
                raise InputError("the file is compressed", file=path, fix="Decompress it first")
            pending = decoder.getstate()[0]
            try:
                decoder.decode(piece)
            except UnicodeDecodeError as error:
                _refuse(path, pending + piece, error, done - len(pending), line)
            quoted = quoted or b'"' in piece
            line += piece.count(b"\n")
            done += len(piece)
    pending = decoder.getstate()[0]
    if pending:
        raise InputError(
            "the file ends in the middle of a character", file=path, row=line + 1, expected="UTF-8",
            fix="The file is probably cut off: copy it again",
        )  # fmt: skip
    if not done:
        raise InputError("the file is empty", file=path)
    return quoted


def _refuse(path: Path, data: bytes, error: UnicodeDecodeError, offset: int, line: int) -> None:
    row = line + data[: error.start].count(b"\n") + 1
    raise InputError(
        f"byte {offset + error.start + 1} (0x{data[error.start]:02x}) is not UTF-8", file=path, row=row,
        expected="UTF-8", fix=f"If it is Latin-1, convert it: iconv -f LATIN1 -t UTF-8 {path}",
    ) from None  # fmt: skip
