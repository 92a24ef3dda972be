"""What S²VC's parts are worth in `tiny`: short runs from the package's model, each without one part.

    export S2VC_DATA_DIR=…/data S2VC_WEIGHTS_DIR=…/weights
    python benchmarks/ablations.py run --work WORK --cache CACHE [NAME …]
    python benchmarks/ablations.py table

Runs are compared at equal steps, so it does not matter what else a machine does; each is one process. What
the tuning clips' coded bytes say is kept in benchmarks/results/ablations.json, a run's log beside the other
logs of training. ``table`` prints BD-rates against the run with all parts, and of how many
clips.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from s2vc.bench.delta import delta

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/ablations.json"
METRICS = {"dists": False, "lpips_alex": False, "psnr": True}  # whether more is better

Change = Callable[[dict[str, Any]], None]


def _with_distillation(recipe: dict[str, Any]) -> None:
    recipe["teacher"] = "efficientnet_lite0"
    recipe["stages"][0]["losses"]["semantic"] = 0.1


NEW_RATES = {"learning_rate": 7e-4, "muon_learning_rate": 0.006}  # of weights that know nothing yet


def _without_prior(recipe: dict[str, Any]) -> None:
    recipe["restart"] = ["generator"]
    recipe["stages"][0].update(steps=160, **NEW_RATES)


def _with_prior(recipe: dict[str, Any]) -> None:
    recipe["restart"] = ["generator"]
    recipe["stages"][0].update(steps=100, **NEW_RATES)
    prior = {"name": "prior", "kind": "prior", "steps": 60, "batch": 16, "frames": 1, "crop": 144}
    recipe["stages"].insert(0, {**prior, **NEW_RATES})


# name: the recipe, what is changed in it, the run it is compared with
RUNS: dict[str, tuple[str, Change, str]] = {
    "generator": ("ablation-generator", lambda recipe: None, "generator"),
    "no CSG": ("ablation-generator", lambda recipe: recipe.update(drop=["csg"]), "generator"),
    "no TCG": ("ablation-generator", lambda recipe: recipe.update(drop=["tcg"]), "generator"),
    "codec": ("ablation-codec", lambda recipe: None, "codec"),
    "another seed": ("ablation-codec", lambda recipe: recipe.update(seed=18), "codec"),  # what chance does
    "no motion": ("ablation-codec", lambda recipe: recipe.update(drop=["motion"]), "codec"),
    "no cascade": ("ablation-codec", lambda recipe: recipe["stages"][0].update(kind="inter"), "codec"),
    "distilled": ("ablation-codec", _with_distillation, "codec"),
    "new generator after a prior": ("ablation-generator", _with_prior, "new generator after a prior"),
    "new generator, no prior": ("ablation-generator", _without_prior, "new generator after a prior"),
}


def _kept() -> dict[str, list[dict[str, Any]]]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def _run(name: str, work: Path, cache: Path) -> None:
    base, change, _ = RUNS[name]
    recipe = yaml.safe_load((ROOT / f"recipes/{base}.yaml").read_text())
    change(recipe)
    slug = name.replace(",", "").replace(" ", "-")
    out = work / slug
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    command = [sys.executable, "-m", "s2vc", "train", str(out / "recipe.yaml"), "--out", str(out)]
    subprocess.run([*command, "--cache", str(cache)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    found = [row for row in rows if row.get("event") == "evaluation"]
    keys = ("clip", "quality", "frames", "bpp", *METRICS, "step", "mpixels")
    RESULTS.write_text(
        json.dumps({**_kept(), name: [{key: row[key] for key in keys} for row in found]}, indent=1) + "\n"
    )
    shutil.copy(out / "log.jsonl", ROOT / f"benchmarks/training/ablation-{slug}.jsonl")


def _table() -> None:
    kept = _kept()
    print(f"| run | against | Mpixels | {' | '.join(METRICS)} |")
    print("| --- | --- | ---: |" + " ---: |" * len(METRICS))
    for name, (_, _, against) in RUNS.items():
        if name == against or not {name, against} <= kept.keys():
            continue
        means = []
        for metric, higher in METRICS.items():
            rates = []
            for clip in sorted({row["clip"] for row in kept[name]}):
                curves = [
                    sorted((row["bpp"], row[metric]) for row in kept[run] if row["clip"] == clip)
                    for run in (against, name)
                ]
                rate = delta(*curves, higher_is_better=higher).rate
                if rate is not None:
                    rates.append(rate)
            logs = [math.log1p(rate / 100) for rate in rates]  # ratios of files: their geometric mean
            mean = 100 * math.expm1(sum(logs) / len(logs)) if logs else math.nan
            means.append(f"{mean:+.1f} % ({len(logs)})" if logs else "n/a")
        pixels = "/".join(f"{kept[run][0]['mpixels']:.0f}" for run in (name, against))
        print(f"| {name} | {against} | {pixels} | " + " | ".join(means) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("names", nargs="*", metavar="NAME", default=list(RUNS))
    run.add_argument("--work", type=Path, required=True)
    run.add_argument("--cache", type=Path, required=True)
    commands.add_parser("table")
    given = parser.parse_args()
    if given.command == "table":
        return _table()
    for name in given.names:
        _run(name, given.work, given.cache)


if __name__ == "__main__":
    main()
