"""What ``import s2vc`` offers: whole files in one call, or frame by frame.

>>> import s2vc
>>> made = s2vc.encode("holiday.mp4", "small.s2vc", quality=32)
>>> shown = s2vc.decode("small.s2vc", "again.mp4")
>>> (made.frames, shown.frames)
(12, 12)

The examples run as tests (tests/test_roundtrip_api.py), in a folder that holds ``holiday.mp4``, of twelve
frames of 64 x 48, and ``holiday.s2vc``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s2vc.codec.decoder import DecodedFrame

    from .decoder import Decoder
    from .decoding import DecodeResult, decode
    from .encoder import Encoder
    from .encoding import EncodeResult, encode
    from .inspection import FileInfo, VerifyResult, info, verify
    from .models import Model, load
    from .probes import EncodePlan
    from .targets import plan

__all__ = [
    "DecodeResult",
    "DecodedFrame",
    "Decoder",
    "EncodePlan",
    "EncodeResult",
    "Encoder",
    "FileInfo",
    "Model",
    "VerifyResult",
    "decode",
    "encode",
    "info",
    "load",
    "plan",
    "verify",
]

_HOMES = {
    "s2vc.codec.decoder": ("DecodedFrame",),
    "s2vc.api.decoding": ("DecodeResult", "decode"),
    "s2vc.api.encoding": ("EncodeResult", "encode"),
    "s2vc.api.inspection": ("FileInfo", "VerifyResult", "info", "verify"),
    "s2vc.api.models": ("Model", "load"),
    "s2vc.api.decoder": ("Decoder",),
    "s2vc.api.encoder": ("Encoder",),
    "s2vc.api.probes": ("EncodePlan",),
    "s2vc.api.targets": ("plan",),
}


def __getattr__(name: str) -> Any:
    # On first use: what tells about a file loads neither numpy nor torch.
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(home), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
