"""The measuring bench: codecs over clips and points, metrics, comparison, speed.

Anything that counts is a JSON file, made by a command that is written in it. These functions are the
commands of ``s2vc bench``; what they need is imported when they run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s2vc.errors import S2vcError


def run_bench(
    spec: str | Path,
    out: str | Path,
    *,
    weights_dir: str | Path | None = None,
    device: str = "cpu",
    keep_files: bool = False,
    only: Sequence[str] = (),
    model: str | None = None,
    workers: int = 1,
) -> None:
    """Make the results of a spec file that ``out`` lacks, a line each on stderr; then its table on stdout.

    ``only``: names of the codecs to run, default all. ``model``: run s2vc with this one instead of the spec's
    (a checkpoint under trial). ``workers``: clips side by side. Raises S2vcError at the end when results
    failed; the others stand.
    """
    from s2vc.bench.compare import summarise, table
    from s2vc.bench.run import run
    from s2vc.bench.spec import load_spec

    checked = load_spec(spec)
    outcome = run(
        checked if model is None else checked.with_model(model),
        out,
        weights_dir=weights_dir,
        device=device,
        keep_files=keep_files,
        only=only,
        workers=workers,
    )
    if strays := outcome.strays:
        print(
            f"s2vc: warning: {len(strays)} results are not in the spec, but count: {strays[0]}",
            file=sys.stderr,
        )
    print(table(summarise(out)))
    if failed := outcome.summary():
        raise S2vcError(failed)


def compare_bench(
    folders: Sequence[str | Path],
    anchors: Sequence[str],
    metrics: Sequence[str],
    rates: tuple[float, float] | None = None,
) -> tuple[dict[str, Any], str]:
    """BD-rates of all codecs for each anchor and metric: ``{"comparisons": [...]}``, and lines of text."""
    from s2vc.bench.compare import compare, comparison_table

    compared = [
        compare(*folders, anchor=anchor, metric=metric, rates=rates)
        for anchor in anchors
        for metric in metrics
    ]
    return {"comparisons": compared}, "\n\n".join(map(comparison_table, compared))


def summarise_bench(folders: Sequence[str | Path]) -> tuple[dict[str, Any], str]:
    """Means per point over the clips: the JSON object, and lines for a person."""
    from s2vc.bench.compare import summarise, table

    summary = summarise(*folders)
    return summary, table(summary)


def run_speed(out: str | Path | None = None, **options: Any) -> dict[str, Any]:
    """Time the codec in ratios to a convolution measured in the same run; JSON on stdout and in ``out``."""
    from s2vc.bench.results import dump_json, write_json
    from s2vc.bench.speed import measure_speed

    result = measure_speed(**options)
    if out is not None:
        write_json(Path(out), result)
    print(dump_json(result), end="")
    return result


def run_drift(source: str | Path, out: str | Path | None = None, **options: Any) -> dict[str, Any]:
    """Measure drift; lines on stderr as they come, JSON on stdout and in ``out``."""
    from s2vc.bench.drift import measure_drift
    from s2vc.bench.results import dump_json, write_json

    result = measure_drift(source, report=lambda line: print(line, file=sys.stderr, flush=True), **options)
    if out is not None:
        write_json(Path(out), result)
    print(dump_json(result), end="")
    return result
