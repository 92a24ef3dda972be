"""A stand-in for `s2vc.api`, so that the command line is tested for what it does itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from types import ModuleType
from typing import Any

import pytest

import s2vc


@dataclass(frozen=True)
class EncodeResult:
    frames: int = 96
    bytes: int = 12_345
    seconds: float = 8.0
    bpp: float = 0.0123
    kbps: float = 24.6
    video_bytes: int = 12_345
    video_bpp: float = 0.0123
    video_kbps: float = 24.6
    warnings: tuple[str, ...] = ()
    damaged: str | None = None


@dataclass(frozen=True)
class DecodeResult:
    frames: int = 96
    seconds: float = 4.0
    warnings: tuple[str, ...] = ()
    damaged: str | None = None
    differs: str | None = None


@dataclass(frozen=True)
class FileInfo:
    model_id: str = "tiny-1"
    width: int = 426
    height: int = 240
    frame_rate: Fraction = Fraction(30000, 1001)
    model_digest: bytes = b"\x01\x02"
    tracks: tuple[str, ...] = ()
    rotation: int | None = None
    profile: str | None = None
    points: list[str] | None = None
    damaged: str | None = None


@dataclass(frozen=True)
class VerifyResult:
    frames: int = 96
    damaged: str | None = None


@dataclass
class StubApi:
    """Records calls; ``result`` or ``error`` by the name of the function."""

    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    results: dict[str, Any] = field(
        default_factory=lambda: {
            "encode": EncodeResult(),
            "decode": DecodeResult(),
            "info": FileInfo(),
            "verify": VerifyResult(),
        }
    )
    error: BaseException | None = None

    def function(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.calls.append((name, args, options))
            if "progress" in options:
                options["progress"](1, None, 10)
            if self.error is not None:
                raise self.error
            return self.results[name]

        return call


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> StubApi:
    stub = StubApi()
    module = ModuleType("s2vc.api")
    for name in ("encode", "decode", "info", "verify", "plan"):
        setattr(module, name, stub.function(name))
    monkeypatch.setitem(sys.modules, "s2vc.api", module)
    monkeypatch.setattr(s2vc, "api", module, raising=False)
    return stub


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Runs the command line in this process: ``cli("encode", "in.mp4", "out.s2vc")``."""
    from s2vc.cli import guard
    from s2vc.cli.app import app

    # The test process keeps its own handling of SIGTERM and of warnings.
    monkeypatch.setattr(guard, "_unwind_on_signals", lambda: None)
    monkeypatch.setattr(guard.warnings, "simplefilter", lambda action: None)

    def run(*args: str) -> Ended:
        with pytest.raises(SystemExit) as ended:
            app(args=list(args), prog_name="s2vc")
        code = ended.value.code
        captured = capsys.readouterr()
        return Ended(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run
