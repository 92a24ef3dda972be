"""A whole video into an .s2vc file in one call."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from s2vc.errors import InputError, OutputError
from s2vc.models.files import DEFAULT
from s2vc.video import open_output, open_video
from s2vc.video.staging import StagedFile, cannot_write, check_target
from s2vc.video.tracks import SOUND

from .encoder import Encoder, longest_interval
from .models import Model, load, set_threads
from .rates import Coded, ControlMaker, Judge, NullFile, RateRequest, run_passes
from .resuming import ContinuedFile
from .sources import PathLike, ProgressCallback, Seconds, can_read_twice, name
from .target_control import TargetControl
from .targets import target_control


@dataclass(frozen=True)
class EncodeResult:
    """What was written. ``bpp``: bits a pixel of the source's size, container included.

    ``bytes``, ``bpp``, ``kbps`` are of the whole file, ``video_…`` of it without the other tracks.
    """

    frames: int
    bytes: int
    seconds: float
    bpp: float
    kbps: float
    video_bytes: int = 0
    video_bpp: float = 0.0
    video_kbps: float = 0.0
    warnings: tuple[str, ...] = ()
    damaged: str | None = None


@contextlib.contextmanager
def _binary_output(target: PathLike, overwrite: bool, resume: bool = False) -> Iterator[BinaryIO]:
    """A file that appears under its name when whole, or standard output.

    resume: a ContinuedFile, which a stopped run left or a later one may go on with.
    """
    if str(target) == "-":
        if resume:
            raise OutputError("standard output cannot be resumed: name a file")
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except OSError as error:
            raise cannot_write("standard output", error) from None
        return
    staged = StagedFile(target, overwrite, resume=resume)
    try:
        if resume:
            with contextlib.closing(ContinuedFile(staged)) as continued:
                yield continued  # type: ignore[misc]
        else:
            yield staged  # type: ignore[misc]
        staged.commit()
    except OSError as error:
        staged.discard()
        raise cannot_write(target, error) from None
    except BaseException:
        staged.discard()
        raise


def _refuse_to_replace(source: PathLike, target: PathLike) -> None:
    """An output under the input's name would destroy it, overwriting allowed or not."""
    with contextlib.suppress(OSError):
        if os.path.samefile(source, target):
            raise OutputError(f"{target} is the input: give the output another name")


def encode(
    source: PathLike,
    target: PathLike,
    *,
    model: str | Model = DEFAULT,
    quality: int = 32,
    keyint: int | str | None = None,
    min_keyint: int | str | None = None,
    low_delay: bool = False,
    resume: bool = False,
    audio: str = "copy",
    device: str = "auto",
    start: Seconds = None,
    duration: Seconds = None,
    frames: int | None = None,
    scale: str | tuple[int, int] | None = None,
    recon: PathLike | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    bitrate: float | None = None,
    target_size: int | None = None,
    bpp: float | None = None,
    max_bitrate: float | None = None,
    bufsize: float | None = None,
    passes: int | None = None,
    quality_target: str | None = None,
    strict: bool = False,
    adapt: bool = False,
    progress: ProgressCallback | None = None,
) -> EncodeResult:
    """Encode a video into an .s2vc file.

    >>> import s2vc
    >>> s2vc.encode("holiday.mp4", "part.s2vc", quality=20, frames=8, keyint="2s").frames
    8

    source, target: paths, or "-" for standard input (y4m) and output. quality: of key frames, 0..63, higher
    is better. keyint: an I-frame every so many frames or seconds ("10s"), or (the default) "auto": where a
    scene begins, but none within min_keyint (frames or seconds, 0.5 s) of another, and after 10 s at the
    latest. low_delay: each frame leaves at once, not with up to 31 others. resume: go on at the last whole
    chunk of a run with the same arguments that was stopped, which is left as ``target``.part; if there is
    none, begin one. audio: the sound is kept as it is ("copy"), coded anew ("opus") or left out ("none");
    subtitles, chapters, metadata and attachments are kept. start, duration, frames: what part of it. scale:
    (width, height).
    recon: also write what a decoder will show, losslessly where its format is (a folder of PNG, .mkv).
    progress: called with (frames, frames in all or None, bytes, seconds of video).

    In the place of one quality (docs/rate-control.md): bitrate (bits a second), bpp (bits a pixel) or
    target_size (bytes of the whole file), in passes 1 or 2 (the default where the source can be read twice);
    max_bitrate and bufsize (bits a second, bits), which hold every frame to a link's buffer, beside them or
    alone; or quality_target, such as "lpips_vgg=0.25", met by the lowest quality that a few probes find. What
    cannot be met comes as near as it can, with a warning; or with strict raises TargetError.

    adapt: adapt the generator to each scene by codes in its I-frame, which gradients (of DISTS, LPIPS-vgg and
    errors) choose: some 900 bytes and four minutes of a core a scene (docs/howto/adapt.md). Not with
    low_delay, resume, recon, max_bitrate or a quality target.

    Raises InputError, OutputError, ModelError; ValueError for wishes that exclude each other. A source that
    breaks off is no error: ``damaged`` says so.
    """
    began = time.monotonic()
    for output in (target, recon):
        if output is not None:
            _refuse_to_replace(source, output)
    if str(target) == str(recon) == "-":
        raise OutputError("standard output cannot be the file and the pictures at once: name one of them")
    if audio not in SOUND:
        raise ValueError(f"audio is one of {', '.join(SOUND)}, not {audio}")
    if resume and recon is not None:
        raise OutputError("frames that were coded before are not painted again: resume without recon")
    if str(target) != "-":
        check_target(target, overwrite)
    rereadable = can_read_twice(source)
    if adapt and (low_delay or resume or recon is not None or max_bitrate is not None or quality_target):
        raise ValueError(
            "a scene is adapted to when all of it is coded: leave out low_delay, resume, recon, max_bitrate "
            "and the quality target, or adapt"
        )
    if not rereadable and (target_size is not None or passes == 2):
        raise InputError(f"{name(source)} cannot be read twice, as two passes must: name a file")
    set_threads(threads)
    request = RateRequest(bitrate, target_size, bpp, max_bitrate, bufsize, passes, quality)
    aiming = None
    if quality_target is not None:
        if request:
            raise ValueError("give a rate, a size or a quality target, not two of them")
        model = load(model, device) if isinstance(model, str) else model
        aiming = target_control(
            quality_target, source, model, not resume, start=start, duration=duration, frames=frames,
            scale=scale,
        )  # fmt: skip

    def once(control: ControlMaker | None, judge: Judge | None, dry: bool) -> EncodeResult:
        return _encode_once(
            source,
            target,
            model=model,
            quality=quality,
            keyint=keyint,
            min_keyint=min_keyint,
            low_delay=low_delay,
            resume=resume,
            audio=audio,
            device=device,
            start=start,
            duration=duration,
            frames=frames,
            scale=scale,
            recon=recon,
            overwrite=overwrite,
            progress=progress,
            control=control,
            judge=judge,
            dry=dry,
            adapt=adapt,
        )

    if request:
        model = load(model, device) if isinstance(model, str) else model
        made = run_passes(
            request,
            once,
            rereadable=rereadable,
            repeatable=str(target) != "-" and not resume,
            strict=strict,
            intra_only=not model.networks.quality_per_frame,
        )
    elif aiming is not None:
        made = once(lambda info, keyint: aiming, lambda coded: aiming.judge(strict), False)
    else:
        made = once(None, None, False)
    return replace(made, seconds=time.monotonic() - began)


def _encode_once(
    source: PathLike,
    target: PathLike,
    *,
    model: str | Model,
    quality: int,
    keyint: int | str | None,
    min_keyint: int | str | None,
    low_delay: bool,
    resume: bool,
    audio: str,
    device: str,
    start: Seconds,
    duration: Seconds,
    frames: int | None,
    scale: str | tuple[int, int] | None,
    recon: PathLike | None,
    overwrite: bool,
    progress: ProgressCallback | None,
    control: ControlMaker | None,
    judge: Judge | None,
    dry: bool,
    adapt: bool,
) -> EncodeResult:
    """One pass over the source. dry: nothing is written. judge: asked before the output stands."""
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(
            open_video(source, start=start, duration=duration, frames=frames, scale=scale, sound=audio)
        )
        info = reader.info
        pictures = iter(reader)
        frame = next(pictures, None)  # what else there is in the part asked for is known then
        shown = None
        if recon is not None and not dry:
            lossless = Path(recon).suffix.lower() in (".mkv", ".mp4", ".mov")
            shown = stack.enter_context(open_output(recon, info, lossless=lossless, overwrite=overwrite))
        stream: BinaryIO = NullFile()  # type: ignore[assignment]
        if not dry:
            stream = stack.enter_context(_binary_output(target, overwrite, resume))
        controller = None
        if control is not None:
            controller = control(info, longest_interval(keyint, info.average_rate))
        encoder = Encoder(
            stream,
            model=model,
            quality=quality,
            keyint=keyint,
            min_keyint=min_keyint,
            low_delay=low_delay,
            known=stream.known if isinstance(stream, ContinuedFile) else None,
            control=controller,
            device=device,
            info=info,
            reconstruct=None if shown is None else shown.write,
            extras=reader.extras,
            adapt=adapt and not dry,
        )
        first = last = length = 0
        while frame is not None:
            for packet in reader.packets():
                encoder.write_packet(packet)
            encoder.write(frame.rgb, frame.pts, frame.duration)
            if isinstance(controller, TargetControl):
                controller.saw(frame.rgb, encoder.look)
            first = frame.pts if encoder.frames == 1 else first
            last, length = frame.pts, frame.duration
            if progress is not None:
                done = float((last - first + length) * info.time_base)
                progress(encoder.frames, info.frame_count, encoder.bytes_written, done)
            frame = next(pictures, None)
        for packet in reader.packets():
            encoder.write_packet(packet)
        if not encoder.frames:
            raise InputError(f"{source}: {reader.damaged or 'there is no frame in it'}: nothing was encoded")
        encoder.close()
        warnings = (*reader.warnings, *(shown.warnings if shown is not None else ()))
        damaged = reader.damaged
        seconds = float((last - first + length) * info.time_base)
        if judge is not None:
            sizes = (encoder.bytes_written, encoder.video_bytes)
            said = judge(Coded(encoder.frames, seconds, *sizes, info.width * info.height, controller))
            warnings = warnings if said is None else (*warnings, said)
    bits, video_bits = 8 * encoder.bytes_written, 8 * encoder.video_bytes
    pixels = info.width * info.height * encoder.frames
    return EncodeResult(
        frames=encoder.frames,
        bytes=encoder.bytes_written,
        seconds=time.monotonic() - began,
        bpp=bits / pixels,
        kbps=bits / 1000 / seconds if seconds > 0 else 0.0,
        video_bytes=encoder.video_bytes,
        video_bpp=video_bits / pixels,
        video_kbps=video_bits / 1000 / seconds if seconds > 0 else 0.0,
        warnings=warnings,
        damaged=damaged,
    )
