"""The public names of the package: adding or dropping one is a decision, made here."""

from __future__ import annotations

import pytest

import s2vc

NAMES = [
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


def test_the_names_are_these():
    assert sorted(s2vc.__all__) == sorted(NAMES)
    assert dir(s2vc) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there(name):
    assert getattr(s2vc, name) is not None


def test_no_other_name_is():
    with pytest.raises(AttributeError, match="no attribute 'transcode'"):
        s2vc.transcode  # noqa: B018
