"""Specs: what is read, and how a mistake is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from s2vc.bench.spec import load_spec
from s2vc.errors import InputError

GOOD = """\
name: small
clips: {folder: dev, names: [a.mp4, b.mp4]}
codecs:
  - {kind: x265, tunes: [none, ssim], crf: [30, 40.5]}
  - kind: s2vc
    quality: [0, 63]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "spec.yaml"
    path.write_text(text)
    return path


def test_points_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2VC_DATA_DIR", str(tmp_path))
    spec = load_spec(write(tmp_path, GOOD))
    assert [codec.name for codec in spec.codecs] == ["x265", "tiny"]
    assert [p.label for p in spec.codecs[0].points()] == [
        "none-crf30",
        "none-crf40.5",
        "ssim-crf30",
        "ssim-crf40.5",
    ]
    assert [p.label for p in spec.codecs[1].points()] == ["q00", "q63"]
    assert spec.clips.paths()[1] == tmp_path / "dev" / "b.mp4"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (GOOD.replace("quality: [0, 63]", "quality: [0, 64]"), r"spec.yaml:6: codecs\.1\.quality\.1: .*63"),
        (
            GOOD.replace("    quality", "    qualty"),
            r"spec.yaml:5: codecs\.1\.quality: Field required|qualty",
        ),
        (GOOD.replace("crf:", "qp: 3, crf:"), r"spec.yaml:4: codecs\.0\.qp"),
        (GOOD.replace("name: small", "name: a/b"), "a/b"),
        (GOOD.replace("kind: x265", "kind: h264"), r"spec.yaml:4: codecs\.0"),
        (GOOD.replace("kind: s2vc", "kind: s2vc\n    name: x265"), "two codecs"),
        ("name: [", "not YAML"),
        ("- 3", "spec"),
    ],
)
def test_a_mistake_names_its_key_and_line(tmp_path: Path, wrong: str, named: str) -> None:
    with pytest.raises(InputError, match=named) as caught:
        load_spec(write(tmp_path, wrong))
    assert "\n" not in str(caught.value)


def test_no_spec(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_spec(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parents[2].glob("benchmarks/specs/*.yaml")), ids=lambda p: p.stem
)
def test_committed_specs(path: Path) -> None:
    assert load_spec(path).name
