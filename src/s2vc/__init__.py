"""s2vc, a learned video codec.

Whole files: ``encode``, ``decode``, ``info``, ``verify``; frame by frame: ``Encoder``, ``Decoder``; and
``load`` for a model that both can share.

The names load on first use, so that ``import s2vc`` costs nothing and the command line can answer
``--help`` without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import (
        DecodedFrame,
        Decoder,
        DecodeResult,
        EncodePlan,
        Encoder,
        EncodeResult,
        FileInfo,
        Model,
        VerifyResult,
        decode,
        encode,
        info,
        load,
        plan,
        verify,
    )
    from .errors import (
        DamagedError,
        FormatError,
        InputError,
        ModelError,
        OutputError,
        S2vcError,
        SymbolMismatchError,
        TargetError,
    )

__version__ = "0.1.0.dev0"

__all__ = [
    "DamagedError",
    "DecodeResult",
    "DecodedFrame",
    "Decoder",
    "EncodePlan",
    "EncodeResult",
    "Encoder",
    "FileInfo",
    "FormatError",
    "InputError",
    "Model",
    "ModelError",
    "OutputError",
    "S2vcError",
    "SymbolMismatchError",
    "TargetError",
    "VerifyResult",
    "__version__",
    "decode",
    "encode",
    "info",
    "load",
    "plan",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = "errors" if name.endswith("Error") else "api"
    value = getattr(import_module(f".{room}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
