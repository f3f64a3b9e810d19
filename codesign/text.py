"""Text to train language models on: the source of Python's standard library, or any UTF-8 file.

The library's source is real text that every installation has: nothing is downloaded or cached. A
fixed list of modules, split by a hash of the name, so that a package stays whole and no module
meets its relatives on the other side. Left out: tests, tables (encodings, HTML entities), documents
kept as strings, and modules that share passages with one of another split. Another version of
Python has another text: the card carries it. :func:`codesign.datasets.load_text`; Lecture 12.
"""

from __future__ import annotations

import hashlib
import platform
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import torch

from codesign.places import SPLITS

LISTED = """
__future__ _aix_support _bootsubprocess _collections_abc _compat_pickle _compression _markupbase
_osx_support _py_abc _pydecimal _pyio _sitebuiltins _strptime _threading_local _weakrefset abc
argparse ast asynchat asyncio asyncore base64 bdb bisect bz2 cProfile calendar cgi cgitb chunk cmd
code codecs codeop collections colorsys compileall concurrent configparser contextlib contextvars
copy copyreg crypt csv ctypes curses dataclasses datetime dbm decimal difflib dis distutils doctest
email ensurepip enum filecmp fileinput fnmatch fractions ftplib functools genericpath getopt getpass
gettext glob graphlib gzip hashlib heapq hmac html http idlelib imaplib imghdr imp importlib inspect
io ipaddress json lib2to3 linecache locale logging lzma mailbox mailcap mimetypes modulefinder
multiprocessing netrc nntplib nturl2path numbers operator optparse os pathlib pdb pickle pickletools
pipes pkgutil platform plistlib poplib posixpath pprint profile pstats pty py_compile pyclbr pydoc
queue quopri random re reprlib rlcompleter runpy sched secrets selectors shelve shlex shutil signal
site smtpd smtplib socket socketserver sqlite3 ssl stat statistics string struct subprocess sunau
symtable sysconfig tabnanny tarfile telnetlib tempfile textwrap threading timeit tkinter tokenize
tomllib trace traceback tracemalloc tty turtle types typing unittest urllib uu uuid venv warnings
wave weakref webbrowser wsgiref xdrlib xml xmlrpc zipapp zipfile zipimport zoneinfo
"""
MODULES = tuple(LISTED.split())
LEFT_OUT = {"test", "tests", "idle_test", "__pycache__", "entities.py"}  # at any depth
HELD_OUT = {"test": 20, "val": 32}  # first byte of the hash below: 8 % and 5 % of the modules
FILE_SHARES = {"train": (0.0, 0.9), "val": (0.9, 0.95), "test": (0.95, 1.0)}


@dataclass(frozen=True)
class TextCard:
    """Where a text comes from.

    ``parts`` are its files in order, each with its bytes; ``missing``, modules of the list that
    this Python lacks; ``python`` is empty for a text that is not Python's own.
    """

    name: str
    split: str
    origin: str
    python: str
    parts: tuple[tuple[str, int], ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class TextSet:
    """``data``: uint8 ``[bytes]``, the parts one after another, each valid UTF-8; and the card."""

    data: torch.Tensor
    card: TextCard

    def __len__(self) -> int:
        return len(self.data)

    def files(self) -> dict[str, bytes]:
        """The parts by name."""
        pieces = self.data.split([size for _, size in self.card.parts])
        names = [name for name, _ in self.card.parts]
        return {n: piece.numpy().tobytes() for n, piece in zip(names, pieces, strict=True)}


def load(source: str | Path = "stdlib", split: str = "train") -> TextSet:
    """Read one split of ``"stdlib"``, or of the UTF-8 file at ``source``.

    A file is cut behind the line in which 90 % and 95 % of its bytes are reached.

    Raises:
        ValueError: unknown split, or bytes that are not UTF-8.
        OSError: a file that is not there or may not be read.
    """
    if split not in SPLITS:
        raise ValueError(f"got split {split!r}; allowed: {list(SPLITS)}")
    if source == "stdlib":
        return _stdlib(split)
    path = Path(source).expanduser()
    whole = _utf8(path)
    start, end = (_line_end(whole, share) for share in FILE_SHARES[split])
    card = TextCard(path.name, split, str(path), "", ((path.name, end - start),))
    return TextSet(_tensor(whole[start:end]), card)


def split_of(module: str) -> str:
    """The split of a top-level module, by the first byte of the SHA-256 of ``stdlib/<module>``."""
    first = hashlib.sha256(f"stdlib/{module}".encode()).digest()[0]
    return next((split for split, end in HELD_OUT.items() if first < end), "train")


def _stdlib(split: str) -> TextSet:
    root = Path(sysconfig.get_paths()["stdlib"])
    chosen = {name: _sources(root, name) for name in MODULES if split_of(name) == split}
    texts = {
        path.relative_to(root).as_posix(): _utf8(path).replace(b"\r\n", b"\n")
        for paths in chosen.values()
        for path in paths
    }
    parts = tuple((name, len(text)) for name, text in texts.items())
    missing = tuple(name for name, paths in chosen.items() if not paths)
    version = platform.python_version()
    card = TextCard("stdlib", split, "Python's standard library", version, parts, missing)
    return TextSet(_tensor(b"".join(texts.values())), card)


def _sources(root: Path, module: str) -> list[Path]:
    """The source files of a top-level module or package, in one order everywhere."""
    if (root / f"{module}.py").exists():
        return [root / f"{module}.py"]
    found = (root / module).rglob("*.py")
    inside = (path.relative_to(root) for path in found)
    return [root / path for path in sorted(inside) if not LEFT_OUT.intersection(path.parts)]


def _utf8(path: Path) -> bytes:
    content = path.read_bytes()
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise ValueError(
            f"{path} is not UTF-8: got byte 0x{byte:02x} at {error.start}; allowed: UTF-8 text"
        ) from None
    return content


def _line_end(text: bytes, share: float) -> int:
    """The first line start at or behind this share of the bytes."""
    at = int(share * len(text))
    if at in (0, len(text)):
        return at
    return text.find(b"\n", at - 1) + 1 or len(text)


def _tensor(text: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(text), dtype=torch.uint8) if text else torch.empty(0).byte()
