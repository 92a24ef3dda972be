"""Streams for a muxer, made from what an .s2vc file says of a track.

PyAV adds a stream for packets that are already coded only after the likeness of one that was read. So the
head of a Matroska file with nothing but this track is written here, a few hundred bytes, and FFmpeg reads it.
"""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from typing import Any

import av

from s2vc.bitstream import Track, TrackKind

_NANOSECONDS = 10**9
_OPUS_PREROLL = 80_000_000
HIGHEST_RATE = 768_000
_MOST_CHANNELS = 64

# Names as FFmpeg's avcodec_get_name gives them -> Matroska's.
_IDS = {
    "aac": "A_AAC",
    "ac3": "A_AC3",
    "alac": "A_ALAC",
    "ass": "S_TEXT/ASS",
    "dts": "A_DTS",
    "dvb_subtitle": "S_DVBSUB",
    "dvd_subtitle": "S_VOBSUB",
    "eac3": "A_EAC3",
    "flac": "A_FLAC",
    "hdmv_pgs_subtitle": "S_HDMV/PGS",
    "mlp": "A_MLP",
    "mp1": "A_MPEG/L1",
    "mp2": "A_MPEG/L2",
    "mp3": "A_MPEG/L3",
    "opus": "A_OPUS",
    "pcm_f32le": "A_PCM/FLOAT/IEEE",
    "pcm_f64le": "A_PCM/FLOAT/IEEE",
    "pcm_s16be": "A_PCM/INT/BIG",
    "pcm_s16le": "A_PCM/INT/LIT",
    "pcm_s24be": "A_PCM/INT/BIG",
    "pcm_s24le": "A_PCM/INT/LIT",
    "pcm_s32be": "A_PCM/INT/BIG",
    "pcm_s32le": "A_PCM/INT/LIT",
    "pcm_u8": "A_PCM/INT/LIT",
    "subrip": "S_TEXT/UTF8",
    "truehd": "A_TRUEHD",
    "vorbis": "A_VORBIS",
    "wavpack": "A_WAVPACK4",
    "webvtt": "D_WEBVTT/SUBTITLES",
}
# … -> the tag of a WAVEFORMATEX, for what Matroska has no name of its own.
_WAVE_TAGS = {
    "pcm_alaw": 0x06,
    "pcm_mulaw": 0x07,
    "amr_nb": 0x57,
    "amr_wb": 0x58,
    "wmav1": 0x160,
    "wmav2": 0x161,
}


def stream_like(track: Track, lead: Fraction = Fraction(0)) -> tuple[Any, Any] | None:
    """(an open container, its one stream) that ``track`` could have been read from; None if that cannot be.

    ``lead``: seconds of sound before the track's time 0, which are decoded and not heard. The stream lives as
    long as its container.
    """
    try:
        head = _matroska_head(track, lead)
        if head is None:
            return None
        container = av.open(io.BytesIO(head), format="matroska")
        stream = container.streams[0]
    except (av.error.FFmpegError, OSError, ValueError, IndexError, struct.error):
        return None
    if stream.codec_context is None:
        return None
    return container, stream


def number_of(track: Track, name: str, most: int) -> int:
    """A parameter that is a whole number from 1 to ``most``; ValueError where it is not."""
    value = int(track.parameters.get(name, "0"))
    if not 1 <= value <= most:
        raise ValueError(f"{name} is {value}")
    return value


def _matroska_head(track: Track, lead: Fraction) -> bytes | None:
    private = track.extradata
    identifier = _IDS.get(track.codec)
    entry = _element("d7", _unsigned(1)) + _element("73c5", _unsigned(1))
    if track.kind is TrackKind.AUDIO:
        rate, channels = (
            number_of(track, "sample_rate", HIGHEST_RATE),
            number_of(track, "channels", _MOST_CHANNELS),
        )
        if identifier is None and track.codec in _WAVE_TAGS:
            identifier, private = "A_MS/ACM", _wave_format(track, rate, channels)
        audio = _element("b5", struct.pack(">d", rate)) + _element("9f", _unsigned(channels))
        if track.codec.startswith("pcm_"):
            bits = "".join(letter for letter in track.codec[4:] if letter.isdigit())
            audio += _element("6264", _unsigned(int(bits or "8")))
        entry += _element("83", _unsigned(2)) + _element("e1", audio)
        if lead > 0:
            entry += _element("56aa", _unsigned(round(lead * _NANOSECONDS)))
        if track.codec == "opus":
            entry += _element("56bb", _unsigned(_OPUS_PREROLL))
        if track.codec == "flac" and not private.startswith(b"fLaC"):
            private = b"fLaC\x80\0\0\x22" + private
        elif track.codec == "alac":
            private = private[12:]  # Matroska leaves out the head of QuickTime's box
    else:
        entry += _element("83", _unsigned(17))
    if identifier is None:
        return None
    entry += _element("86", identifier.encode())
    if private:
        entry += _element("63a2", private)
    return b"".join(
        [
            _element("1a45dfa3", _element("4282", b"matroska") + _element("4287", _unsigned(4))),
            bytes.fromhex("18538067") + b"\x01" + 7 * b"\xff",  # a segment of unknown size
            _element("1549a966", _element("2ad7b1", _unsigned(1_000_000))),
            _element("1654ae6b", _element("ae", entry)),
            _element("1f43b675", _element("e7", _unsigned(0))),
        ]
    )


def _wave_format(track: Track, rate: int, channels: int) -> bytes:
    bits = 8 if track.codec.startswith("pcm_") else 16
    block = max(1, int(track.parameters.get("block_align", "0"))) if bits == 16 else channels
    speed = int(track.parameters.get("bit_rate", "0")) // 8 or rate * block
    sizes = (_WAVE_TAGS[track.codec], channels, rate, speed, block, bits, len(track.extradata))
    return struct.pack("<HHIIHHH", *sizes) + track.extradata


def _element(identifier: str, data: bytes) -> bytes:
    return bytes.fromhex(identifier) + (len(data) | 1 << 56).to_bytes(8, "big") + data


def _unsigned(number: int) -> bytes:
    return number.to_bytes(8, "big")
