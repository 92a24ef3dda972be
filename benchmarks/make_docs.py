"""Write docs/benchmarks.md, its figures and README's table from the results under benchmarks/results.

    make benchmarks-docs        or: python benchmarks/make_docs.py [--check]

Nothing in these texts is typed by hand. ``--check`` writes nothing and says what would change.
"""

from __future__ import annotations

import difflib
import io
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from s2vc.bench.compare import compare, comparison_table, curves, summarise
from s2vc.bench.names import METRICS, of_same_network
from s2vc.bench.report.trained import models_trained_on
from s2vc.errors import S2vcError

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
FIGURES = ROOT / "docs" / "figures"
README = ROOT / "README.md"
BEGIN, END = "<!-- benchmarks: begin (made by `make benchmarks-docs`) -->", "<!-- benchmarks: end -->"

RATES = (0.01, 0.15)
"""Bits a pixel between which BD-rates are given."""
SHOWN = ("dists", "lpips-alex", "lpips-vgg", "psnr", "ms-ssim", "vmaf")
"""Metrics of the tables, as far as they were measured."""
TITLES = {
    "tuning": "Tuning clips (settings and checkpoints are chosen on them)",
    "reporting": "Reporting clips (nothing is chosen on them)",
}


def main() -> None:
    check = "--check" in sys.argv[1:]
    changed = []
    for path, content in made().items():
        old = path.read_text(encoding="utf-8") if path.is_file() else ""
        if old == content:
            continue
        changed.append(path)
        if check:
            lines = difflib.unified_diff(
                old.splitlines(), content.splitlines(), str(path), "made", lineterm="", n=0
            )
            print(*list(lines)[:20], sep="\n")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
            print(path.relative_to(ROOT))
    if check and changed:
        sys.exit("results and texts differ: make benchmarks-docs")


def made() -> dict[Path, str]:
    """Every file that is made, with its content."""
    files: dict[Path, str] = {}
    parts = [
        "# Benchmarks",
        "Made from [the results](../benchmarks/results) by `make benchmarks-docs`; [how they are measured]"
        "(../benchmarks/README.md). Rates are bits a pixel of files on disk, pictures those of a fresh "
        "decoder.",
    ]
    names = spec_names()
    for name in names:
        folders = folders_of(name)
        figure = FIGURES / f"benchmarks-{name}.svg"
        files[figure] = draw(folders)
        parts += [f"## {TITLES.get(name, name)}", *section(folders), f"![](figures/{figure.name})"]
    files[PAGE] = "\n\n".join(parts) + "\n"
    readme = README.read_text(encoding="utf-8")
    if BEGIN in readme:
        name = "reporting" if "reporting" in names else names[0]
        picture = f"![](docs/figures/benchmarks-{name}.svg)"
        table = "\n\n".join([TITLES.get(name, name) + ":", *summary(folders_of(name), name), picture])
        before, rest = readme.split(BEGIN, 1)
        files[README] = f"{before}{BEGIN}\n{table}\n{END}{rest.split(END, 1)[1]}"
    return files


def spec_names() -> list[str]:
    """What stands before the first dash of the folders' names: the reported ones first."""
    return sorted({path.name.partition("-")[0] for path in RESULTS.iterdir() if path.is_dir()})


def folders_of(name: str) -> list[Path]:
    return sorted(path for path in RESULTS.iterdir() if path.name.partition("-")[0] == name)


def section(folders: Sequence[Path]) -> Iterator[str]:
    """A set of results: settings, means, comparisons."""
    found = [
        r for v in curves(*folders).values() for c in v.values() for points in c.values() for r in points
    ]
    clips = sorted({(r["clip"]["name"], r["frames"]) for r in found})
    yield "Clips: " + ", ".join(f"{Path(clip).stem} ({frames} frames)" for clip, frames in clips) + "."
    yield "### What was run"
    yield "\n".join(settings(found))
    yield "### Means over the clips"
    yield from summary(folders, None)
    yield "### BD-rates"
    yield (
        f"In percent, between {RATES[0]:g} and {RATES[1]:g} bpp as far as curves overlap; clip by clip, then "
        "averaged, with the 95 % bootstrap interval over the clips. A clip whose curves overlap over less "
        "than half of the anchor's range of log rate counts as 0 % and is not won."
    )
    yield "\n".join(bd_rates(folders, found))


def settings(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One line a codec: all that is the same for its results."""
    by_codec: dict[str, list[dict[str, Any]]] = {}
    for result in found:
        by_codec.setdefault(result["codec"], []).append(result)
    for codec, results in sorted(by_codec.items()):
        texts = {", ".join(f"{k}: {v}" for k, v in r["settings"].items() if v != []) for r in results}
        variants = sorted({r["variant"] for r in results} - {""})
        tunes = f"; tunes {', '.join(variants)}" if variants else ""
        yield f"* `{codec}`: {'; or '.join(sorted(texts))}{tunes}"


def summary(folders: Sequence[Path], name: str | None) -> Iterator[str]:
    """Means over the clips, point by point; with ``name``, of README, of codecs' best curves only."""
    rows = summarise(*folders)["points"]
    every = max(row["clips"] for row in rows)
    metrics = [metric for metric in SHOWN if any(metric in row for row in rows)]
    marked = trained(folders)
    if name is not None:
        metrics = [metric for metric in metrics if metric in ("dists", "lpips-alex", "lpips-vgg", "psnr")]
        best = best_variants(folders)
        rows = [r for r in rows if r["clips"] == every and best.get(r["codec"], r["variant"]) == r["variant"]]
        rows = [row for row in rows if row["bpp"] <= RATES[1]]
    titles = [metric + ("*" if metric in marked else "") for metric in metrics]
    lines = [f"| codec | point | clips | bpp | {' | '.join(titles)} |", "| --- " * (4 + len(metrics)) + "|"]
    for row in rows:
        values = [f"{row[m]:.{2 if row[m] > 2 else 3}f}" if m in row else "n/a" for m in metrics]
        lines.append(
            f"| `{row['codec']}` | {row['label']} | {row['clips']} of {every} | {row['bpp']:.4f} | "
            f"{' | '.join(values)} |"
        )
    yield "\n".join(lines)
    if marked:
        names = ", ".join(sorted(marked))
        yield f"\\* {names}: on networks that a model here was trained on, no witness for it."


def trained(folders: Sequence[Path]) -> set[str]:
    """Metrics that stand on a network some model of the results was trained on."""
    results = [
        r for v in curves(*folders).values() for c in v.values() for points in c.values() for r in points
    ]
    return of_same_network(models_trained_on(results)) & {m for r in results for m in r["metrics"]}


def best_variants(folders: Sequence[Path]) -> dict[str, str]:
    """Each codec's best variant in DISTS, where it can be compared."""
    found: dict[str, str] = {}
    for anchor in curves(*folders):
        try:
            compared = compare(*folders, anchor=anchor, metric="dists", rates=RATES)
        except S2vcError:
            continue
        found[anchor] = compared["anchor_variant"]
    return found


def bd_rates(folders: Sequence[Path], found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A table of means, and every clip's figures folded away."""
    codecs = sorted({r["codec"] for r in found})
    metrics = [m for m in SHOWN if any(m in r["metrics"] for r in found)]
    yield "| metric | anchor | codec | BD-rate | interval | won | overlap, mean |"
    yield "| --- " * 7 + "|"
    details = []
    for anchor in codecs:
        if anchor not in ("x264", "x265", "svt-av1", "libaom", "vvenc"):
            continue
        for metric in metrics:
            try:
                compared = compare(*folders, anchor=anchor, metric=metric, rates=RATES)
            except S2vcError:
                continue
            for codec in compared["codecs"]:
                low, high = codec["interval_95"]
                overlap = sum(clip["overlap"] for clip in codec["clips"].values()) / len(codec["clips"])
                yield (
                    f"| {metric} | `{anchor}` | `{codec['codec']}` | {codec['bd_rate']:+.1f} | "
                    f"{low:+.1f} to {high:+.1f} | {codec['won']} of {len(codec['clips'])} | {overlap:.0%} |"
                )
            details.append(comparison_table(compared))
    yield ""
    yield "<details><summary>Clip by clip, with speed and memory where they were measured</summary>\n"
    yield "```text\n" + "\n\n".join(details) + "\n```\n\n</details>"


def draw(folders: Sequence[Path]) -> str:
    """Means over the clips as curves: one panel a metric, SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    rows = summarise(*folders)["points"]
    every = max(row["clips"] for row in rows)
    best = best_variants(folders)
    metrics = [m for m in ("dists", "lpips-alex", "lpips-vgg", "psnr") if any(m in row for row in rows)]
    style = {
        "svg.hashsalt": "s2vc",
        "svg.fonttype": "none",
        "font.size": 9,
        "axes.grid": True,
        "grid.alpha": 0.3,
    }
    with pyplot.rc_context(style):
        figure, panels = pyplot.subplots(1, len(metrics), figsize=(3.2 * len(metrics), 3), squeeze=False)
        for panel, metric in zip(panels[0], metrics, strict=True):
            for codec in sorted({row["codec"] for row in rows}):
                points = [
                    (row["bpp"], row[metric])
                    for row in rows
                    if row["codec"] == codec and row["clips"] == every and metric in row
                    and row["variant"] == best.get(codec, row["variant"])
                ]  # fmt: skip
                if points:
                    panel.plot(*zip(*sorted(points), strict=True), marker="o", markersize=3, label=codec)
            panel.set_xscale("log")
            panel.set_xlabel("bits a pixel")
            unit = METRICS[metric].unit
            panel.set_title(metric + (f", {unit}" if unit else ""))
            if not METRICS[metric].higher_is_better:
                panel.invert_yaxis()
        panels[0][0].legend(frameon=False)
        figure.tight_layout()
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return re.sub(r"[ \t]+$", "", text.getvalue(), flags=re.MULTILINE)


if __name__ == "__main__":
    main()
