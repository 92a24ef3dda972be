"""What all tests share: where footage and weights are, and a skip that says what is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


def pytest_configure() -> None:
    """Without the variables, folders beside the checkout stand in where they exist, as in ``.ci/run``."""
    for name in ("data", "weights", "reference"):
        if (SHARED / name).is_dir():
            os.environ.setdefault(f"S2VC_{name.upper()}_DIR", str(SHARED / name))


def _folder(variable: str, what: str) -> Path:
    named = os.environ.get(variable, "")
    if not named or not Path(named).is_dir():
        pytest.skip(f"{variable} names no folder: the test needs {what}")
    return Path(named)


@pytest.fixture(autouse=True)
def as_many_threads() -> Iterator[None]:
    """A test that sets torch's threads sets them for itself: pictures differ in the last bits with them."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    yield
    if torch and torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Footage (``dev``, ``train``)."""
    return _folder("S2VC_DATA_DIR", "footage")


@pytest.fixture(scope="session")
def weights_dir() -> Path:
    """Published weights of the perceptual networks."""
    return _folder("S2VC_WEIGHTS_DIR", "weights of the perceptual networks")


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Reference vectors of the published system."""
    return _folder("S2VC_REFERENCE_DIR", "reference vectors")


@pytest.fixture(scope="session")
def mini() -> Path:
    """The model of tests/golden: ``tiny`` at small widths, with drawn weights that never change."""
    return Path(__file__).parent / "golden" / "mini.safetensors"


def make_scene(count: int, width: int = 50, height: int = 38) -> list[np.ndarray]:
    """A texture that moves over a gradient, with a disc that moves against it: uint8 (height, width, 3)."""
    down, across = np.mgrid[0:height, 0:width].astype(float)
    texture = np.random.default_rng(5).normal(size=(height + 100, width + 100))
    for axis in (0, 1):
        texture = sum(np.roll(texture, step, axis) for step in range(-2, 3)) / 5
    pictures = []
    for t in range(count):
        top, left = int(0.3 * t) % 100, int(0.7 * t) % 100
        wave = 128 + 60 * np.sin(2 * np.pi * (across + 2 * t) / width)
        picture = np.stack([60 + 130 * across / width, 60 + 120 * down / height, wave], -1)
        picture += 60 * texture[top : top + height, left : left + width, None]
        distance = np.hypot(across - width * (0.3 + 0.02 * (t % 30)), down - height / 2)
        disc = np.clip(6 - distance + height / 6, 0, 6) / 6
        picture += disc[..., None] * np.array([50, -30, -40])
        pictures.append(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
    return pictures


@pytest.fixture(scope="session")
def scene() -> Callable[..., list[np.ndarray]]:
    """``scene(count, width, height)``: pictures that move, no two alike."""
    return make_scene


STYLES = b"[Script Info]\r\nScriptType: v4.00+\r\n\r\n[V4+ Styles]\r\n\r\n[Events]\r\n"


def write_film(
    path: Path,
    *,
    frames: int = 50,
    times: list[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    sound: tuple[tuple[str, int, str], ...] = (),
    seconds: float | None = None,
    subtitles: tuple[tuple[str, str, list[tuple[int, int, str]]], ...] = (),
    chapters: tuple[tuple[int, int, str], ...] = (),
    metadata: dict[str, str] | None = None,
    attachment: bytes | None = None,
    late: bool = False,
) -> Path:
    """A film of 32 x 24 with what else a file may hold.

    sound: (FFmpeg's encoder, samples a second, language), stereo, of ``seconds`` or as long as the pictures.
    subtitles: (encoder, language, [(from, to, text)]) in milliseconds. chapters: (from, to, title) in
    milliseconds. late: sound is stored half a second after its pictures.
    """
    import av

    with av.open(str(path), "w") as container:
        container.metadata.update(metadata or {})
        # Of pictures this small x264's look-ahead makes another choice in one film of forty.
        options = {"crf": "30", "bf": "0", "x264-params": "mbtree=0:rc-lookahead=0"}
        video: Any = container.add_stream("libx264", rate=round(1 / time_base), options=options)
        video.width, video.height, video.pix_fmt = 32, 24, "yuv420p"
        video.time_base = video.codec_context.time_base = time_base
        tracks, texts = [], []
        for codec, rate, language in sound:
            # Noise that AAC's decoder makes up would be another after a cut.
            track: Any = container.add_stream(
                codec, rate=rate, options={"aac_pns": "0"} if codec == "aac" else {}
            )
            track.layout = "stereo"
            track.metadata["language"] = language
            tracks.append(track)
        for codec, language, lines in subtitles:
            text: Any = container.add_stream(codec)
            text.codec_context.subtitle_header = STYLES
            text.codec_context.open()
            text.time_base = Fraction(1, 1000)
            text.metadata["language"] = language
            texts.append((text, lines))
        if attachment is not None:
            container.add_attachment("face.ttf", "application/x-truetype-font", attachment)
        if chapters:
            milli = Fraction(1, 1000)
            container.set_chapters(
                [
                    {"id": n, "start": begin, "end": end, "time_base": milli, "metadata": {"title": title}}
                    for n, (begin, end, title) in enumerate(chapters, 1)
                ]
            )
        packets: list[tuple[float, Any]] = []
        times = list(range(frames)) if times is None else times
        for number, picture in enumerate(make_scene(frames, 32, 24)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = times[number], time_base
            packets += [(float(packet.dts * packet.time_base), packet) for packet in video.encode(frame)]
        packets += [(float(packet.dts * packet.time_base), packet) for packet in video.encode()]
        length = float((times[-1] + 1) * time_base) if seconds is None else seconds
        for track in tracks:
            packets += [
                (float(packet.dts * packet.time_base) + 0.5 * late, packet)
                for packet in encode_tone(track, round(length * track.rate))
            ]
        for text, lines in texts:
            for number, (begin, end, line) in enumerate(lines):
                data = line.encode()
                if text.codec_context.name == "mov_text":
                    data = len(data).to_bytes(2, "big") + data
                elif text.codec_context.name in ("ass", "ssa"):
                    data = f"{number},0,Default,,0,0,0,,{line}".encode()
                packet = av.Packet(data)
                packet.pts = packet.dts = begin
                packet.duration, packet.time_base = end - begin, Fraction(1, 1000)
                packet.stream, packet.is_keyframe = text, True
                packets.append((begin / 1000, packet))
        for _, packet in sorted(packets, key=lambda pair: pair[0]):
            container.mux(packet)
    return path


def encode_tone(track: Any, samples: int) -> list[Any]:
    """Packets of two tones under noise, of so many samples."""
    import av

    rate = track.rate
    moments = np.arange(samples) / rate
    noise = np.random.default_rng(3).normal(0, 0.02, (2, samples))
    data = (0.3 * np.sin(2 * np.pi * np.array([[440], [660]]) * moments) + noise).astype(np.float32)
    packets = []
    for start in range(0, samples, 1000):
        frame = av.AudioFrame.from_ndarray(data[:, start : start + 1000], format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        packets += track.encode(frame)
    return packets + track.encode()


@pytest.fixture(scope="session")
def film() -> Callable[..., Path]:
    """``film(path, sound=(("aac", 44100, "eng"),))``: a video file made by FFmpeg, see ``write_film``."""
    return write_film


@dataclass(frozen=True)
class Heard:
    """A sound track as a player has it: samples (channels, n), the second of the first one, its packets."""

    start: Fraction
    samples: np.ndarray
    packets: list[tuple[int | None, int | None, bytes]]  # pts, duration, payload
    language: str | None


def listen_to(path: Path, number: int = 0) -> Heard:
    import av

    with av.open(str(path)) as container:
        track = container.streams.audio[number]
        packets = [
            (packet.pts, packet.duration, bytes(packet)) for packet in container.demux(track) if packet.size
        ]
    with av.open(str(path)) as container:
        frames = list(container.decode(container.streams.audio[number]))
        samples = [
            frame.to_ndarray() if frame.format.is_planar else frame.to_ndarray().reshape(frame.samples, -1).T
            for frame in frames
        ]
    return Heard(frames[0].pts * frames[0].time_base, np.concatenate(samples, 1), packets, track.language)


@pytest.fixture(scope="session")
def listen() -> Callable[..., Heard]:
    """``listen(path, track=0)``: what FFmpeg hears of a file."""
    return listen_to


def measure_psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


@pytest.fixture(scope="session")
def psnr() -> Callable[[np.ndarray, np.ndarray], float]:
    """PSNR in dB of two pictures or two lists of them, over all their samples."""
    return measure_psnr


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: bytes
    err: str


@pytest.fixture(scope="session")
def s2vc_command() -> Callable[..., Ran]:
    """``s2vc_command("info", path, stdin=b"", env={})``: the command line in a process of its own."""

    def run(*arguments: str | Path, stdin: bytes = b"", env: dict[str, str] | None = None) -> Ran:
        ran = subprocess.run(
            [sys.executable, "-m", "s2vc", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr.decode())

    return run


@dataclass(frozen=True)
class Miniature:
    """A release in the published layout, of small widths and drawn weights.

    ``points``: name -> (P folder, I folder). They share their base U-Net and, two of them, their I codec.
    """

    folder: Path
    config: Any
    points: dict[str, tuple[str, str]]


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    import torch
    from safetensors.torch import save_file

    from s2vc.models.published import layout
    from s2vc.models.published_release import DESCRIPTION
    from s2vc.nn.base import config

    widths = config.BaseConfig(
        config.IntraConfig(8, 32, (32, 32, 32), 8, 64, (32, 32), 8, (4,) * 7, 32, 32),
        config.InterConfig(32, 8, 4, 32, 32),
        config.GeneratorConfig(32, (32, 32, 32, 32), 32, 8, 4, 2, 1.0),
        config.VaeConfig((32, 32, 32, 32), 4),
    )
    points = {"low": ("low", "still-a"), "middle": ("middle", "still-a"), "high": ("high", "still-b")}
    generator = torch.Generator().manual_seed(7)

    def draw(tensor: Any) -> torch.Tensor:
        """Small enough that what grows from block to block stays a number."""
        noise = torch.randn(tensor.shape, generator=generator)
        if len(tensor.shape) > 1:
            return noise * 0.5 * torch.Size(tensor.shape[1:]).numel() ** -0.5
        return 0.1 * noise + ("norm" in tensor.name and tensor.name.endswith("weight"))

    tensors = layout(widths)
    base = {t.name: draw(t) for t in tensors if t.name.startswith("generator.unet.")}
    archives: dict[str, dict[str, torch.Tensor]] = {}
    for inter, intra in points.values():
        paths = {
            "intra": f"I_ckpts/{intra}/model_1.safetensors",
            "generator": f"P_ckpts/{inter}/model.safetensors",
            "inter": f"P_ckpts/{inter}/model_1.safetensors",
            "vae": "SD_ckpts/stable-diffusion-2-1/vae/diffusion_pytorch_model.safetensors",
        }
        for tensor in tensors:
            held = archives.setdefault(paths[tensor.archive], {})
            if tensor.key not in held:
                shared = base.get(tensor.name) if ".unet.conv_in" not in tensor.name else None
                held[tensor.key] = draw(tensor) if shared is None else shared
    folder = tmp_path_factory.mktemp("release")
    for path, held in archives.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        save_file(held, folder / path)
    (folder / DESCRIPTION).write_text(json.dumps({"points": points, "alpha": 1.0, "window": 4}))
    return Miniature(folder, widths, points)


@pytest.fixture(scope="session")
def base_folder(miniature: Miniature, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature, imported in float16."""
    from s2vc.models.published_import import import_release

    return import_release(miniature.folder, tmp_path_factory.mktemp("models") / "base", dtype="fp16").path
