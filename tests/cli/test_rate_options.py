"""Rates, sizes and targets on the command line."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from s2vc.cli import options


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("800", 800),
        ("50k", 50_000),
        ("50K", 50_000),
        ("1.5M", 1_500_000),
        ("50kbit/s", 50_000),
        ("50kbps", 50_000),
        ("6kB", 48_000),
        ("64Ki", 65_536),
        (" 50 k ", 50_000),
    ],
)
def test_bits(text, bits):
    assert options.parse_bits(text, "--bitrate") == bits


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2MB", 2_000_000),
        ("2M", 2_000_000),
        ("800kB", 800_000),
        ("1.5MiB", 1_572_864),
        ("700", 700),
        ("1GB", 10**9),
    ],
)
def test_bytes(text, size):
    assert options.parse_bytes(text, "--target-size") == size


@given(st.text(max_size=12))
def test_any_text_is_a_value_or_wrong_use(text):
    for parse in (
        lambda: options.parse_bits(text, "--bitrate"),
        lambda: options.parse_bytes(text, "--target-size"),
        lambda: options.parse_target(text),
    ):
        try:
            parse()
        except typer.BadParameter:
            pass


def test_options_reach_the_api_as_numbers(cli, api):
    ended = cli("encode", "in.mp4", "out.s2vc", "--bitrate", "50k", "--max-bitrate", "80k", "--passes", "1")
    assert ended.code == 0
    _, _, given_options = api.calls[0]
    assert given_options["bitrate"] == 50_000
    assert given_options["max_bitrate"] == 80_000
    assert given_options["passes"] == 1
    assert given_options["quality"] == 32


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        (["--bitrate", "50k", "--bpp", "0.02"], "--bitrate or --bpp"),
        (["--bitrate", "50k", "--quality", "20"], "--quality or --bitrate"),
        (["--target", "psnr=30", "--target-size", "2MB"], "not both"),
        (["--target", "psnr=30", "--max-bitrate", "50k"], "not both"),
        (["--bufsize", "50k"], "--max-bitrate"),
        (["--passes", "2"], "--bitrate"),
        (["--passes", "1", "--target-size", "2MB"], "two passes"),
        (["--bitrate", "fast"], "not a number of bits"),
        (["--target-size", "0"], "not a size"),
        (["--target", "beauty=9"], "not a target"),
        (["--bpp", "0"], "not above 0"),
        (["--adapt", "--low-delay"], "--adapt or --low-delay"),
        (["--adapt", "--resume"], "--adapt or --resume"),
        (["--adapt", "--recon", "r.mkv"], "--adapt or --recon"),
        (["--adapt", "--target", "psnr=30"], "--adapt or --target"),
        (["--adapt", "--max-bitrate", "50k"], "--adapt or --max-bitrate"),
        (["--adapt", "--plan"], "--adapt or --plan"),
    ],
)
def test_wishes_that_make_no_sense_are_wrong_use(cli, api, wishes, said):
    ended = cli("encode", "in.mp4", "out.s2vc", *wishes)
    assert ended.code == 2
    assert said in " ".join(ended.err.replace("│", " ").split())
    assert not api.calls


@dataclass(frozen=True)
class EncodePlan:
    quality: int = 27
    frames: int = 96
    bytes: int = 12_345
    kbps: float = 24.6
    bpp: float = 0.0123
    metric: str | None = "lpips-vgg"
    value: float | None = 0.2512
    met: bool = True


def test_a_plan_is_said_and_nothing_coded(cli, api):
    api.results["plan"] = EncodePlan()
    ended = cli("encode", "in.mp4", "--plan", "--target", "lpips_vgg=0.25")
    assert (ended.code, [call[0] for call in api.calls]) == (0, ["plan"])
    assert ended.out == ("quality 27: about 12.3 kB, 0.0123 bpp, 24.6 kbit/s, lpips-vgg 0.2512, 96 frames\n")


def test_a_plan_that_cannot_be_met_warns_or_fails(cli, api):
    api.results["plan"] = EncodePlan(met=False)
    ended = cli("encode", "in.mp4", "--plan", "--bitrate", "5")
    assert ended.code == 0
    assert "cannot be met" in ended.err
    assert cli("encode", "in.mp4", "--plan", "--bitrate", "5", "--strict").code == 1


def test_without_a_plan_an_output_is_needed(cli, api):
    assert cli("encode", "in.mp4").code == 2
    assert not api.calls
