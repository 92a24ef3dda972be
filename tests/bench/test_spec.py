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


def test_every_kind_of_codec_and_places_beside_the_spec(tmp_path: Path) -> None:
    text = """\
name: all
clips: {names: [a.mp4]}
codecs:
  - {kind: x264, crf: [30]}
  - {kind: x265, scale: 0.5, crf: [30]}
  - {kind: svt-av1, tunes: [vq], crf: [70]}
  - {kind: libaom, crf: [63]}
  - {kind: vvenc, tunes: [psnr], qp: [63]}
  - {kind: external, name: theirs, folder: decoded, about: by hand}
  - {kind: published, name: vtm, results: vtm.json, about: as published}
"""
    (tmp_path / "vtm.json").write_text('{"set": {"a": {"q1": {}, "q0": {}}}}')
    (tmp_path / "decoded").mkdir()
    (tmp_path / "decoded" / "sizes.csv").write_text("point,clip,bytes\np,a,1\n")
    codecs = load_spec(write(tmp_path, text)).codecs
    assert [codec.name for codec in codecs] == [
        *("x264", "x265-scaled-0.5", "svt-av1", "libaom", "vvenc", "theirs", "vtm"),
    ]
    assert [p.label for codec in codecs for p in codec.points()] == [
        *("none-crf30", "none-crf30", "vq-crf70", "psnr-crf63", "psnr-qp63", "p", "q0", "q1"),
    ]
    for wrong, named in (
        (text.replace("crf: [70]", "crf: [30.1]"), r"spec.yaml:6: codecs\.2\.crf\.0: .*multiple of 0.25"),
        (text.replace(", about: by hand", ""), r"spec.yaml:9: codecs\.5\.about: Field required"),
        (text.replace("qp: [63]", "qp: []"), r"spec.yaml:8: codecs\.4\.qp: .*at least 1"),
        (text.replace("[a.mp4]", "[a.mp4, b/a.mkv]"), r"spec.yaml:2: clips\.names: .*two clips are named a"),
        (text + "metrics: [ssim]\n", r"spec.yaml:11: metrics\.0: .*no metric ssim"),
    ):
        with pytest.raises(InputError, match=named):
            load_spec(write(tmp_path, wrong))
