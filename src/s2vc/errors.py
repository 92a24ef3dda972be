"""What can go wrong, as a user sees it. Every message is one line: what is wrong, then what to do.

S2vcError              exit 1   our error; also the base of all others
├── InputError         exit 1   the input cannot be used (missing, HDR, no video track, …)
├── FormatError        exit 1   not an .s2vc file, damaged header, newer version
├── ModelError         exit 1   a model is missing, foreign or of another geometry
├── OutputError        exit 1   the output cannot be written (exists, no folder, disk full)
├── TargetError        exit 1   a size, rate or quality cannot be met, and --strict was given
├── DamagedError       exit 3   damage after the header: what came before it stands
└── SymbolMismatchError exit 4  symbols decoded here differ from those encoded
"""

from __future__ import annotations


class S2vcError(Exception):
    """Base of all errors of s2vc; ``str(error)`` is one line for a user."""

    exit_code = 1


class InputError(S2vcError):
    """The input cannot be used."""


class FormatError(S2vcError):
    """The bytes are not a file that this version can read; nothing was decoded."""


class ModelError(S2vcError):
    """A model is missing, foreign, damaged or of another geometry."""


class OutputError(S2vcError):
    """The output cannot be written."""


class TargetError(S2vcError):
    """A size, rate or quality that was asked for strictly cannot be met."""


class DamagedError(S2vcError):
    """Input is damaged or cut after its header; what could be read before it was."""

    exit_code = 3


class SymbolMismatchError(S2vcError):
    """Symbols decoded here differ from those encoded; the message names the frame."""

    exit_code = 4
