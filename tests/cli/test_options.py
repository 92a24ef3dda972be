"""How texts on the command line are read."""

from __future__ import annotations

from fractions import Fraction

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from s2vc.cli import options, output


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_clock_times(hours, minutes, seconds, thousandths):
    text = f"{hours}:{minutes:02}:{seconds:02}.{thousandths:03}"
    expected = 3600 * hours + 60 * minutes + seconds + Fraction(thousandths, 1000)
    assert options.parse_time(text, "--start") == expected


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("12.5", 12.5),
        (".5", 0.5),
        ("1:02", 62),
        ("90", 90),
        ("12.5s", 12.5),
        ("250ms", 0.25),
        ("2m", 120),
    ],
)
def test_plain_times(text, seconds):
    assert options.parse_time(text, "--start") == seconds


@given(st.text(max_size=12))
def test_any_text_is_a_value_or_wrong_use(text):
    for parse in (
        lambda: options.parse_time(text, "--start"),
        lambda: options.parse_size(text, "--scale"),
        lambda: options.parse_keyint(text),
    ):
        try:
            parse()
        except typer.BadParameter:
            pass


@given(st.integers(1, 99_999), st.integers(1, 99_999))
def test_sizes(width, height):
    assert options.parse_size(f"{width}x{height}", "--scale") == (width, height)


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:3", "mps"])
def test_devices(name):
    assert options.check_device(name) == name


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (12_345, "12.3 kB"),
        (999_600, "1.00 MB"),
        (456e6, "456 MB"),
    ],
)
def test_sizes_as_text(size, text):
    assert output.size_text(int(size)) == text
