"""What reading a damaged file raises."""

from __future__ import annotations

import tokenize
import zipfile
import zlib

# What json, numpy and zipfile raise, and what looks into their values, where bytes are damaged or of another shape
UNREADABLE = (
    ValueError, TypeError, AttributeError, LookupError, OverflowError, EOFError, OSError, SyntaxError, RuntimeError,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
