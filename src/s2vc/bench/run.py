"""``s2vc bench run``: clips x codecs x points, each result one JSON file that appears whole or not at all.

    DIR/CODEC/CLIP/POINT.json           a result, or what failed
    DIR/.files/CODEC/CLIP/POINT.hevc    what was coded, and its record beside it; taken up again after a kill

A result stands for its spec entry: another clip, setting, version of the tools or metric makes it anew.
Points of a clip are encoded and decoded one after another, then measured together.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from s2vc.bench.codecs import Adapter, adapter
from s2vc.bench.frames import conversion, read_rgb
from s2vc.bench.metrics import Meter
from s2vc.bench.spec import Point, Spec
from s2vc.errors import InputError, OutputError, S2vcError
from s2vc.perceptual import file_sha256

SCHEMA = 1
FILES = ".files"


@dataclass(frozen=True)
class Job:
    """One (clip, codec, point) and where its files are."""

    codec: str
    adapter: Adapter
    clip: Path
    frames: int
    point: Point
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.codec} {self.clip.stem} {self.point.label}"

    @property
    def result(self) -> Path:
        return self.folder / self.codec / self.clip.stem / f"{self.point.label}.json"

    @property
    def coded(self) -> Path:
        return self.folder / FILES / self.codec / self.clip.stem / (self.point.label + self.adapter.suffix)

    def request(self) -> dict[str, Any]:
        """What the coded file depends on."""
        return {
            "clip": {"name": self.clip.name, "sha256": _clip_sha256(self.clip)},
            "frames_at_most": self.frames,
            "settings": self.adapter.settings(),
            "point": self.point.values,
        }


@dataclass
class Outcome:
    """Counts of a run: results made, found already there, and failed (their names and reasons)."""

    done: int = 0
    kept: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


def jobs(spec: Spec, folder: Path) -> list[Job]:
    """All jobs of a spec, the points of a clip together."""
    return [
        Job(codec.name, adapter(codec), clip, spec.frames, point, folder)
        for clip in spec.clips.paths()
        for codec in spec.codecs
        for point in codec.points()
    ]


def run(
    spec: Spec,
    folder: str | Path,
    *,
    weights_dir: str | Path | None = None,
    device: str = "cpu",
    together: int = 8,
    keep_files: bool = False,
    only: Sequence[str] = (),
    report: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Make every result of ``spec`` that ``folder`` does not hold yet; what fails is a row that says so.

    ``together``: how many points of a clip are measured in one pass over the source. ``keep_files`` keeps the
    coded files after they are measured. ``only`` names the codecs to run (default: all). Raises OutputError
    when the folder cannot be written.
    """
    folder = Path(folder)
    unknown = set(only) - {codec.name for codec in spec.codecs}
    if unknown:
        raise InputError(f"spec {spec.name} has no codec {', '.join(sorted(unknown))}: check the names")
    meter: Meter | None = None
    outcome = Outcome()
    groups: dict[tuple[Path, str], list[Job]] = {}
    for job in jobs(spec, folder):
        if only and job.codec not in only:
            continue
        groups.setdefault((job.clip, job.codec), []).append(job)
    for group in groups.values():
        waiting = []
        for job in group:
            if _stands(job, spec):
                outcome.kept += 1
            else:
                waiting.append(job)
        for start in range(0, len(waiting), together):
            meter = meter or Meter(spec.metrics, weights_dir, device, spec.step)
            _run_group(waiting[start : start + together], meter, keep_files, outcome, report)
    return outcome


def _run_group(
    group: list[Job], meter: Meter, keep_files: bool, outcome: Outcome, report: Callable[[str], None]
) -> None:
    with tempfile.TemporaryDirectory(prefix="s2vc-bench-") as scratch:
        records: list[tuple[Job, dict[str, Any], Path]] = []
        for number, job in enumerate(group):
            target = Path(scratch) / str(number) / job.adapter.decoded_name
            target.parent.mkdir()
            try:
                record = _encode(job)
                command = job.adapter.decode(job.coded, target)
                record["decode"] = _timed(command, job)
                records.append((job, record, target))
            except S2vcError as error:
                _fail(job, error, outcome, report)
        if not records:
            return
        started = time.perf_counter()
        try:
            measured = meter.measure(
                read_rgb(group[0].clip, group[0].frames), [read_rgb(target) for _, _, target in records]
            )
        except S2vcError as error:
            measured = [error] * len(records)
        seconds = (time.perf_counter() - started) / len(records)
        for (job, record, _), metrics in zip(records, measured, strict=True):
            if isinstance(metrics, S2vcError):
                _fail(job, metrics, outcome, report)
                continue
            result = _result(job, record, metrics, meter, seconds)
            write_json(job.result, result)
            outcome.done += 1
            shown = "  ".join(f"{name} {values['mean']:.4f}" for name, values in metrics.items())
            report(f"{job.name}: {result['bpp']:.5f} bpp  {shown}")
            if not keep_files:
                job.coded.unlink(missing_ok=True)
                _record_path(job).unlink(missing_ok=True)


def _encode(job: Job) -> dict[str, Any]:
    """The record of the coded file: made now, or found from a run that was killed before it measured."""
    request, record_path = job.request(), _record_path(job)
    if job.coded.is_file() and (found := read_json(record_path)) and found.get("request") == request:
        return found
    make_folder(job.coded.parent)
    part = job.coded.with_name("part-" + job.coded.name)
    timing = _timed(job.adapter.encode(job.clip, job.frames, job.point, part), job)
    if not part.is_file() or not part.stat().st_size:
        raise S2vcError("encoder wrote nothing")
    part.replace(job.coded)
    record = {"request": request, "encode": timing, "bytes": job.coded.stat().st_size}
    write_json(record_path, record)
    return record


def _record_path(job: Job) -> Path:
    return job.coded.with_name(job.coded.name + ".json")


def _timed(command: Sequence[str], job: Job) -> dict[str, Any]:
    """Run a command in a process of its own; its last line of complaint becomes the error."""
    started = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise S2vcError(f"{command[0]} cannot be started: {error.strerror}") from error
    seconds = time.perf_counter() - started
    if done.returncode:
        lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        raise S2vcError(f"exit {done.returncode}: {lines[-1].strip() if lines else 'no message'}")
    program = "python" if command[0] == sys.executable else Path(command[0]).name.split("-")[0]
    shown = shlex.join([program, *command[1:]])
    hidden = [(str(job.clip), job.clip.name), (str(job.folder.absolute()), "DIR"), (str(job.folder), "DIR")]
    for path, name in hidden:
        shown = shown.replace(path, name)
    shown = re.sub(r"\S*/s2vc-bench-\w+/\d+/", "", shown)
    return {"command": shown, "seconds": round(seconds, 3)}


def _result(
    job: Job, record: dict[str, Any], metrics: dict[str, Any], meter: Meter, seconds: float
) -> dict[str, Any]:
    height, width, frames = meter.seen
    return {
        "schema": SCHEMA,
        "codec": job.codec,
        "variant": job.point.variant,
        "label": job.point.label,
        **record["request"],
        "width": width,
        "height": height,
        "frames": frames,
        "bytes": record["bytes"],
        "bpp": 8 * record["bytes"] / (width * height * frames),
        "metrics": metrics,
        "missing": meter.missing,
        "rgb": conversion(),
        "measured_with": meter.made_with,
        "encode": record["encode"],
        "decode": record["decode"],
        "measure_seconds": round(seconds, 3),
        "machine": machine(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _stands(job: Job, spec: Spec) -> bool:
    found = read_json(job.result)
    if not found or "error" in found or found.get("schema") != SCHEMA or found.get("rgb") != conversion():
        return False
    if found["measured_with"]["step"] != spec.step:
        return False
    try:
        request = job.request()
    except S2vcError:
        return False
    covered = set(found["metrics"]) | set(found["missing"])
    return all(found.get(key) == value for key, value in request.items()) and set(spec.metrics) <= covered


def _fail(job: Job, error: S2vcError, outcome: Outcome, report: Callable[[str], None]) -> None:
    outcome.failed.append((job.name, str(error)))
    report(f"{job.name}: failed: {error}")
    write_json(
        job.result,
        {
            "schema": SCHEMA,
            "codec": job.codec,
            "variant": job.point.variant,
            "label": job.point.label,
            "clip": {"name": job.clip.name},
            "point": job.point.values,
            "error": str(error),
        },
    )


@cache
def _clip_sha256(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"no clip {path}: set S2VC_DATA_DIR to the folder of footage, or correct the spec")
    return file_sha256(path)


@cache
def machine() -> dict[str, Any]:
    """What the numbers were made on."""
    model = platform.processor()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write beside the final name, then rename. Raises OutputError."""
    make_folder(path.parent)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(dump_json(content), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def dump_json(content: dict[str, Any]) -> str:
    """Indented, but long lists of numbers on one line: files are read by people and kept in git."""
    return _dump(content, "") + "\n"


def _dump(value: Any, indent: str) -> str:
    if isinstance(value, dict) and value:
        inner = ",\n".join(
            f"{indent}  {json.dumps(key)}: {_dump(item, indent + '  ')}" for key, item in value.items()
        )
        return "{\n" + inner + f"\n{indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        inner = ",\n".join(f"{indent}  {_dump(item, indent + '  ')}" for item in value)
        return "[\n" + inner + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)


def make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"folder {path} cannot be made: {error.strerror}") from error
