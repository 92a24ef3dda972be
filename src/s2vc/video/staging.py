"""Outputs that appear whole or not at all: written beside their final name, renamed at the end."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import weakref
from pathlib import Path
from typing import BinaryIO

from s2vc.errors import OutputError
from s2vc.video.base import reason


def cannot_write(name: str | Path, error: OSError) -> OutputError:
    """An OutputError that says what to do about the system's refusal."""
    advice = {
        errno.ENOSPC: "free some space or choose another disk",
        errno.EDQUOT: "free some space or choose another disk",
        errno.EACCES: "choose a folder you may write in",
        errno.EROFS: "choose a folder you may write in",
        errno.ENAMETOOLONG: "choose a shorter name",
    }.get(error.errno or 0, "choose another output")
    return OutputError(f"cannot write {name} ({reason(error)}): {advice}")


def _beside(target: Path) -> Path:
    # The name is cut so that a long one does not overflow what the file system allows.
    return target.with_name(f".{target.name[:64]}.{secrets.token_hex(4)}.part")


_STAGED = re.compile(r"\..*\.[0-9a-f]{8}\.part")  # of a run that is on its way, or was killed


def _check_parent(target: Path) -> None:
    parent = target.parent
    if not parent.exists():
        raise OutputError(f"cannot write {target}: folder {parent} does not exist: make it first")
    if not parent.is_dir():
        raise OutputError(f"cannot write {target}: {parent} is not a folder: choose another output")


def check_target(target: str | Path, overwrite: bool) -> None:
    """OutputError where no StagedFile of this name could be made, as far as can be told beforehand."""
    path = Path(os.path.realpath(target))
    if path.is_dir():
        raise OutputError(f"{target} is a folder: name a file")
    if path.exists() and not path.is_file():
        return  # a device or a named pipe
    _check_parent(path)
    if path.exists() and not overwrite:
        raise OutputError(f"{target} exists: give -y to overwrite it, or another name")


def _open_alone(path: Path) -> BinaryIO:
    """A file to read and write, new or as it is, that no other process opens in this way meanwhile."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+b")
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ModuleNotFoundError:
        pass  # Windows lets only one process write anyway
    except BlockingIOError:
        file.close()
        raise OutputError(f"{path} is being written by another run: wait until it has ended") from None
    except OSError:
        pass  # a file system without locks
    return file


class StagedFile:
    """A binary file that is renamed to ``target`` on ``commit()``.

    Devices and named pipes are written directly. Errors of the system are kept in ``error`` too, since
    libraries that write through this object may swallow them.

    ``resume``: the file waits under a name of its own, ``target``.part, and stays there when it is discarded;
    what a stopped run left there is still in it. One run at a time holds it.
    """

    def __init__(self, target: str | Path, overwrite: bool, *, resume: bool = False) -> None:
        self.name = str(target)
        self.error: OSError | None = None
        # Through a symbolic link the file it names is replaced, not the link.
        self._target = Path(os.path.realpath(target))
        check_target(target, overwrite)
        self._direct = self._target.exists() and not self._target.is_file()
        self._keep = resume and not self._direct
        self.path = self._target if self._direct else _beside(self._target)
        if self._keep:
            self.path = self._target.with_name(f"{self._target.name}.part")
        if not (self._keep or self._direct):
            # An interrupt may fall between the file's making and whoever would discard it.
            weakref.finalize(self, self.path.unlink, missing_ok=True)
        try:
            if self._keep:
                self._file: BinaryIO = _open_alone(self.path)
            else:
                self._file = open(self.path, "wb", buffering=1 << 16)  # noqa: SIM115
        except OSError as error:
            raise cannot_write(target, error) from None

    # The four calls PyAV makes on a file it writes.
    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return not self._direct

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            self.error = self.error or error
            raise

    def cut_to(self, size: int) -> None:
        """Drop what lies behind so many bytes; writing goes on there."""
        self._file.seek(size)
        self._file.truncate()

    def commit(self) -> None:
        """Give the file its name. Raises OutputError when any write had failed."""
        try:
            self._file.close()
            if self.error is not None:
                raise self.error
            if not self._direct:
                os.replace(self.path, self._target)
        except OSError as error:
            raise cannot_write(self.name, error) from None

    def discard(self) -> None:
        """Remove what was written, or with ``resume`` leave it for the next run."""
        try:
            self._file.close()
        except OSError:
            pass  # a full disk refuses the last bytes; they are removed anyway
        if not self._direct and not (self._keep and os.path.getsize(self.path)):
            self.path.unlink(missing_ok=True)


class StagedPictures:
    """Numbered pictures, made in a hidden folder in or beside their place and moved there on ``commit()``.

    ``target`` is a folder (pictures are named ``frame_%05d.png``) or a pattern such as
    ``folder/name_%04d.png``. An existing folder is accepted when it is empty, or with ``overwrite`` when
    it holds nothing but pictures of that name; with a pattern, ``overwrite`` replaces all files that fit it.
    """

    def __init__(self, target: str | Path, overwrite: bool) -> None:
        self.name = str(target)
        path = Path(target)
        self._whole_folder = "%" not in path.name
        if self._whole_folder:
            self._target = Path(os.path.realpath(path))
            self._pattern = "frame_%05d.png"
            _check_parent(self._target)
            self._check_folder(overwrite)
        else:
            self._target = Path(os.path.realpath(path.parent))
            self._pattern = path.name
            _check_parent(self._target / self._pattern)
            if self._old() and not overwrite:
                raise OutputError(f"pictures named {target} exist: give -y to replace them, or another name")
        # In a folder that is there: it may be another file system than what lies beside it.
        inside = self._target.exists() or not self._whole_folder
        self._path = _beside(self._target / "pictures" if inside else self._target)
        # An interrupt may fall between the folder's making and whoever would discard it.
        weakref.finalize(self, shutil.rmtree, self._path, ignore_errors=True)
        try:
            self._path.mkdir()
        except OSError as error:
            raise cannot_write(target, error) from None

    def _old(self) -> list[Path]:
        fits = picture_pattern(self._pattern)
        return [entry for entry in self._target.iterdir() if fits.fullmatch(entry.name)]

    def _check_folder(self, overwrite: bool) -> None:
        if not self._target.exists():
            return
        if not self._target.is_dir():
            raise OutputError(f"{self.name} exists and is not a folder: choose another name")
        entries = [entry for entry in self._target.iterdir() if not _STAGED.fullmatch(entry.name)]
        if entries and not overwrite:
            raise OutputError(f"{self.name} exists: give -y to replace its pictures, or another folder")
        if len(self._old()) < len(entries):
            raise OutputError(f"{self.name} holds other files too: choose another folder")

    def add(self, number: int, data: bytes) -> None:
        """Store picture ``number``. Raises OutputError."""
        try:
            (self._path / (self._pattern % number)).write_bytes(data)
        except OSError as error:
            raise cannot_write(self.name, error) from None

    def commit(self) -> None:
        """Move the pictures to their place, in the place of older ones. Raises OutputError."""
        try:
            if self._whole_folder and not self._target.exists():
                os.replace(self._path, self._target)
                return
            for old in self._old():
                old.unlink()
            for picture in sorted(self._path.iterdir()):
                os.replace(picture, self._target / picture.name)
            self._path.rmdir()
        except OSError as error:
            raise cannot_write(self.name, error) from None

    def discard(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self._path, ignore_errors=True)


def picture_pattern(name: str) -> re.Pattern[str]:
    """What file names fit ``frame_%05d.png``; group 1 is the number. Raises ValueError on another pattern."""
    match = re.fullmatch(r"([^%]*)%(0?)(\d*)d([^%]*)", name)
    if match is None:
        raise ValueError(name)
    before, zeros, digits, after = match.groups()
    number = rf"\d{{{digits},}}" if zeros and digits else r"\d+"
    return re.compile(rf"{re.escape(before)}({number}){re.escape(after)}")
