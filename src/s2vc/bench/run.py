"""``s2vc bench run``: clips x codecs x points, each result one JSON file that appears whole or not at all.

    DIR/CODEC/CLIP/POINT.json           a result, or what failed
    DIR/.files/CODEC/CLIP/POINT.hevc    what was coded, and its record beside it; taken up again after a kill

A result stands for its spec entry: another clip, setting or version of the tools makes it anew, and so does a
metric that could not be measured and now can. Where that fails, the old result stays.
Points of a clip are encoded and decoded one after another, then measured together; workers take clips side by
side, with the same commands and so the same results whatever their number.
"""

from __future__ import annotations

import os
import queue
import re
import shlex
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from s2vc.bench.board import Board
from s2vc.bench.codecs import Codec, CommandCodec, External, Point, Published
from s2vc.bench.frames import conversion
from s2vc.bench.measuring import Measured, Measuring
from s2vc.bench.process import end_children, run_child
from s2vc.bench.results import FILES, SCHEMA, machine, make_folder, read_json, write_json
from s2vc.bench.spec import Spec
from s2vc.errors import InputError, OutputError, S2vcError
from s2vc.perceptual import file_sha256, weights_environment

TOGETHER = 8
"""How many points of a clip are measured in one pass over the source."""


@dataclass(frozen=True)
class Job:
    """One (clip, codec, point) and where its files are."""

    codec: Codec
    clip: Path
    frames: int
    point: Point
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.codec.name} {self.clip.stem} {self.point.label}"

    @property
    def result(self) -> Path:
        return self.folder / self.codec.name / self.clip.stem / f"{self.point.label}.json"

    def coded(self, suffix: str) -> Path:
        return self.folder / FILES / self.codec.name / self.clip.stem / (self.point.label + suffix)

    def request(self) -> dict[str, Any]:
        """What the coded file depends on. Raises InputError where the clip is missing."""
        request = {
            "clip": {"name": self.clip.name, "sha256": _clip_sha256(self.clip)},
            "frames_at_most": self.frames,
            "settings": self.codec.settings(),
            "point": self.point.values,
        }
        if isinstance(self.codec, External):
            request["given"] = self.codec.given(self.clip, self.point)
        return request


@dataclass
class Outcome:
    """Counts of a run: results made, found already there, and failed (their names and reasons)."""

    done: int = 0
    kept: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    strays: list[Path] = field(default_factory=list)
    """Results of the spec's codecs that are no longer in it, and count all the same."""

    def summary(self) -> str | None:
        """One line for a run that failed in part, None for one that did not."""
        if not self.failed:
            return None
        total = self.done + self.kept + len(self.failed)
        name, reason = self.failed[0]
        return f"{len(self.failed)} of {total} results failed, the first {name}: {reason}"


def jobs(clips: Sequence[Path], codecs: Sequence[Codec], frames: int, folder: Path) -> list[Job]:
    """All jobs, the points of a clip together."""
    return [
        Job(codec, clip, frames, point, folder)
        for clip in clips
        for codec in codecs
        for point in codec.points()
    ]


def run(
    spec: Spec,
    folder: str | Path,
    *,
    weights_dir: str | Path | None = None,
    device: str = "cpu",
    workers: int = 1,
    keep_files: bool = False,
    only: Sequence[str] = (),
) -> Outcome:
    """Make every result of ``spec`` that ``folder`` does not hold yet; what fails is a row that says so.

    ``workers``: how many clips are coded and measured side by side; times in results are then those of a busy
    machine. ``keep_files`` keeps the coded files after they are measured. ``only`` names the codecs to run
    (default: all). Raises OutputError when the folder cannot be made.
    """
    folder = Path(folder)
    unknown = set(only) - {codec.name for codec in spec.codecs}
    if unknown:
        raise InputError(f"spec {spec.name} has no codec {', '.join(sorted(unknown))}: check the names")
    make_folder(folder)
    without: dict[str, str] = {}  # codecs run elsewhere whose lists of points cannot be read
    for codec in spec.codecs:
        try:
            codec.points()
        except S2vcError as error:
            without[codec.name] = str(error)
    codecs = [c for c in spec.codecs if c.name not in without and (not only or c.name in only)]
    wanted = jobs(spec.clips.paths(), codecs, spec.frames, folder)
    totals = {name: 0 for name in without if not only or name in only}
    for job in wanted:
        totals[job.codec.name] = totals.get(job.codec.name, 0) + 1
    with Board(totals) as board:
        work = _Run(spec, board, keep_files, workers, weights_dir)
        for name in totals.keys() & without.keys():
            work.outcome.failed.append((name, without[name]))
            board.failed(name, "all clips", without[name])
        groups: dict[tuple[Path, str], list[Job]] = {}
        for job in wanted:
            if _stands(job, spec, weights_dir):
                work.outcome.kept += 1
                board.kept(job.codec.name)
            else:
                groups.setdefault((job.clip, job.codec.name), []).append(job)
        for _ in range(workers):
            work.measuring.put(Measuring(spec.metrics, weights_dir, device, spec.step))
        try:
            with ThreadPoolExecutor(workers, thread_name_prefix="s2vc-bench") as pool:
                waiting = [
                    pool.submit(work.group, group[start : start + TOGETHER])
                    for group in groups.values()
                    for start in range(0, len(group), TOGETHER)
                ]
                try:
                    for ended in waiting:
                        ended.result()
                except BaseException:
                    work.stop(pool)
                    raise
        finally:
            while not work.measuring.empty():
                work.measuring.get().close()
        results = {job.result for job in wanted}
        for codec in codecs:
            work.outcome.strays += sorted(set((folder / codec.name).rglob("*.json")) - results)
        return work.outcome


class _Run:
    """What the workers of one run share."""

    def __init__(
        self, spec: Spec, board: Board, keep_files: bool, workers: int, weights_dir: str | Path | None
    ) -> None:
        self.spec, self.board, self.keep_files, self.workers = spec, board, keep_files, workers
        self.environment = weights_environment(weights_dir)
        if workers > 1 and "OMP_NUM_THREADS" not in os.environ:
            # Threads of several coders on one core wait for each other in loops: ten times as slow.
            self.environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))
        self.outcome = Outcome()
        self.measuring: queue.SimpleQueue[Measuring] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._busy: set[Measuring] = set()

    def stop(self, pool: ThreadPoolExecutor) -> None:
        """End everything at once; rows that were in work are not there, and made by the next run."""
        self._stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)
        end_children()
        for measuring in list(self._busy):
            if process := measuring.process:
                process.kill()

    def group(self, group: list[Job]) -> None:
        """Points of one clip with one codec: code, decode, measure, write."""
        try:
            with tempfile.TemporaryDirectory(prefix="s2vc-bench-") as scratch:
                made: list[tuple[Job, dict[str, Any], Path]] = []
                for number, job in enumerate(group):
                    if self._stopped.is_set():
                        return
                    try:
                        if isinstance(job.codec, Published):
                            self._published(job, job.codec)
                        else:
                            made.append((job, *self._decoded(job, Path(scratch) / str(number))))
                    except (S2vcError, OSError) as error:
                        self._fail(job, error)
                if made:
                    self._measure(made)
        except OSError as error:  # no scratch folder
            for job in group:
                self._fail(job, error)

    def _decoded(self, job: Job, scratch: Path) -> tuple[dict[str, Any], Path]:
        """What is known of the job's file, and its pictures."""
        codec = job.codec
        if isinstance(codec, External):
            request = job.request()
            record = {"request": request, "bytes": request["given"]["bytes"]}
            return record, codec.decoded(job.clip, job.point)
        assert isinstance(codec, CommandCodec)
        self.board.working(codec.name, f"{job.clip.stem} {job.point.label}: encode")
        record = _encode(job, codec, self.environment)
        self.board.working(codec.name, f"{job.clip.stem} {job.point.label}: decode")
        scratch.mkdir()
        target = scratch / codec.decoded_name
        command = codec.decode(job.coded(codec.suffix), target, job.clip)
        record["decode"] = _timed(command, job, self.environment)
        record["reported_bpp"] = codec.reported_bpp(job.coded(codec.suffix))
        return record, target

    def _measure(self, made: list[tuple[Job, dict[str, Any], Path]]) -> None:
        first = made[0][0]
        self.board.working(first.codec.name, f"{first.clip.stem}: measure {len(made)} points")
        measuring = self.measuring.get()
        self._busy.add(measuring)
        began = time.perf_counter()
        try:
            measured = measuring.measure(first.clip, first.frames, [target for _, _, target in made])
        except S2vcError as error:
            for job, _, _ in made:
                self._fail(job, error)
            return
        finally:
            self._busy.discard(measuring)
            self.measuring.put(measuring)
        seconds = (time.perf_counter() - began) / len(made)
        for (job, record, _), metrics in zip(made, measured.metrics, strict=True):
            if isinstance(metrics, S2vcError):
                self._fail(job, metrics)
                continue
            result = _result(job, record, metrics, measured, seconds, self.workers)
            self._write(job, result)

    def _published(self, job: Job, codec: Published) -> None:
        request = {
            "clip": {"name": job.clip.name}, "settings": codec.settings(), "point": job.point.values
        }  # fmt: skip
        self._write(job, {**_head(job), **request, **codec.result(job.clip, job.point)})

    def _write(self, job: Job, result: dict[str, Any]) -> None:
        if not self.keep_files and isinstance(job.codec, CommandCodec):
            # before the result is there: a kill in between leaves nothing that no run would take away
            coded = job.coded(job.codec.suffix)
            _record_path(coded).unlink(missing_ok=True)
            coded.unlink(missing_ok=True)
        try:
            write_json(job.result, result)
        except OutputError as error:
            self._fail(job, error)
            return
        with self._lock:
            self.outcome.done += 1
        figures = "  ".join(f"{name} {values['mean']:.4f}" for name, values in result["metrics"].items())
        name = f"{job.clip.stem} {job.point.label}"
        rate = f"{result['bpp']:.5f} bpp"
        if "reported_bpp" in result:
            rate += f" (as its authors report: {result['reported_bpp']:.5f})"
        self.board.done(job.codec.name, name, f"{rate}  {figures}")

    def _fail(self, job: Job, error: S2vcError | OSError) -> None:
        if self._stopped.is_set():
            return
        reason = str(error) if isinstance(error, S2vcError) else f"{error.filename}: {error.strerror}"
        with self._lock:
            self.outcome.failed.append((job.name, reason))
        self.board.failed(job.codec.name, f"{job.clip.stem} {job.point.label}", reason)
        if (found := read_json(job.result)) and "error" not in found:
            return  # of other settings or another clip, and perhaps not to be made again
        row = {**_head(job), "clip": {"name": job.clip.name}, "point": job.point.values, "error": reason}
        try:
            write_json(job.result, row)
        except OutputError:
            pass  # a full disk holds no row either; the run's own summary names it


def _encode(job: Job, codec: CommandCodec, environment: Mapping[str, str]) -> dict[str, Any]:
    """The record of the coded file: made now, or found from a run that was killed before it measured."""
    coded = job.coded(codec.suffix)
    request, record_path = job.request(), _record_path(coded)
    if coded.is_file() and (found := read_json(record_path)) and found.get("request") == request:
        return found
    make_folder(coded.parent)
    part = coded.with_name("part-" + coded.name)
    try:
        timing = _timed(codec.encode(job.clip, job.frames, job.point, part), job, environment)
        if not part.is_file() or not part.stat().st_size:
            raise S2vcError("encoder wrote nothing")
        part.replace(coded)
    finally:
        # An encoder's own unfinished file is named after it: one of a run that was killed may lie here, too.
        for left in part.parent.glob(f"*{part.name}*"):
            left.unlink(missing_ok=True)
    record = {"request": request, "encode": timing, "bytes": codec.charged(coded)}
    write_json(record_path, record)
    return record


def _record_path(coded: Path) -> Path:
    return coded.with_name(coded.name + ".json")


def _timed(command: Sequence[str], job: Job, environment: Mapping[str, str]) -> dict[str, Any]:
    """Run a command in a process of its own; what it was, its seconds, its peak memory in bytes."""
    ran = run_child(command, environment)
    program = "python" if command[0] == sys.executable else Path(command[0]).name.split("-")[0]
    shown = shlex.join([program, *command[1:]])
    hidden = [(str(job.clip), job.clip.name), (str(job.folder.absolute()), "DIR"), (str(job.folder), "DIR")]
    for path, name in hidden:
        shown = shown.replace(path, name)
    shown = re.sub(r"\S*/s2vc-bench-\w+/\d+/", "", shown)
    return {"command": shown, "seconds": round(ran.seconds, 3), "peak_memory": ran.peak_memory}


def _head(job: Job) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "codec": job.codec.name,
        "variant": job.point.variant,
        "label": job.point.label,
    }


def _result(
    job: Job,
    record: dict[str, Any],
    metrics: dict[str, Any],
    measured: Measured,
    seconds: float,
    workers: int,
) -> dict[str, Any]:
    pixels = measured.width * measured.height * measured.frames
    return {
        **_head(job),
        **record["request"],
        "width": measured.width,
        "height": measured.height,
        "frames": measured.frames,
        "frame_rate": measured.rate,
        "bytes": record["bytes"],
        "bpp": 8 * record["bytes"] / pixels,
        **({"reported_bpp": reported} if (reported := record.get("reported_bpp")) is not None else {}),
        "metrics": metrics,
        "missing": measured.missing,
        "rgb": conversion(),
        "measured_with": measured.made_with,
        **{step: record[step] for step in ("encode", "decode") if step in record},
        "measure_seconds": round(seconds, 3),
        "workers": workers,
        "machine": machine(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _stands(job: Job, spec: Spec, weights_dir: str | Path | None) -> bool:
    found = read_json(job.result)
    if not found or "error" in found or found.get("schema") != SCHEMA:
        return False
    if isinstance(job.codec, Published):
        return False  # made in no time
    if found.get("rgb") != conversion() or found["measured_with"]["step"] != spec.step:
        return False
    try:
        request = job.request()
    except S2vcError:
        return False
    if any(found.get(key) != value for key, value in request.items()):
        return False
    lacking = set(spec.metrics) - set(found["metrics"])
    if not lacking <= set(found["missing"]):
        return False
    # What measured a metric is recorded also where the clip was too small or too short for it.
    return not any(_can_measure(name, weights_dir) for name in lacking - set(found["measured_with"]))


@cache
def _can_measure(metric: str, weights_dir: str | Path | None) -> bool:
    from s2vc.bench.metrics.meter import what_measures

    try:
        what_measures(metric, weights_dir)
    except S2vcError:
        return False
    return True


@cache
def _clip_sha256(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"no clip {path}: set S2VC_DATA_DIR to the folder of footage, or correct the spec")
    return file_sha256(path)
