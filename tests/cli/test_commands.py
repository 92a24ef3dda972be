"""Options, outputs and exit codes of the commands, against a stand-in for the API."""

from __future__ import annotations

import json

import pytest

from s2vc import errors


def test_encode_passes_every_option(cli, api):
    ended = cli(
        *("encode", "in.mp4", "out.s2vc", "--model", "m.safetensors", "--quality", "7", "--keyint", "48"),
        *("--device", "cuda:1", "--start", "1:02.5", "--frames", "9", "--scale", "426x240"),
        *("--recon", "r.y4m", "-y", "--threads", "2", "-q"),
    )
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    [(name, args, options)] = api.calls
    options.pop("progress")
    assert (name, args) == ("encode", ("in.mp4", "out.s2vc"))
    assert options == {
        "model": "m.safetensors",
        "quality": 7,
        "keyint": 48,
        "device": "cuda:1",
        "start": 62.5,
        "duration": None,
        "frames": 9,
        "scale": (426, 240),
        "recon": "r.y4m",
        "overwrite": True,
        "threads": 2,
        "min_keyint": None,
        "low_delay": False,
        "resume": False,
        "audio": "copy",
        "bitrate": None,
        "target_size": None,
        "bpp": None,
        "max_bitrate": None,
        "bufsize": None,
        "passes": None,
        "quality_target": None,
        "strict": False,
        "adapt": False,
    }


def test_encode_defaults(cli, api):
    ended = cli("encode", "in.mp4", "out.s2vc")
    assert ended.code == 0 and ended.out == ""
    assert ended.err.splitlines() == ["out.s2vc: 96 frames, 12.3 kB, 0.0123 bpp, 24.6 kbit/s, 12.0 frames/s"]
    options = api.calls[0][2]
    assert options["model"] == "tiny" and options["quality"] == 32 and options["device"] == "auto"
    assert options["keyint"] is None and options["overwrite"] is False


def test_keyint_in_seconds_goes_to_the_codec_as_it_is(cli, api):
    assert cli("encode", "a", "b", "--keyint", "2.5s").code == 0
    assert api.calls[0][2]["keyint"] == "2.5s"


def test_decode_passes_every_option(cli, api):
    ended = cli(
        *("decode", "in.s2vc", "out.mkv", "--start", "2", "--duration", "1:00:00", "--lossless"),
        *("--device", "cpu", "-y"),
    )
    assert ended.code == 0
    _, args, options = api.calls[0]
    options.pop("progress")
    assert args == ("in.s2vc", "out.mkv")
    assert options == {
        "start": 2.0,
        "duration": 3600.0,
        "frames": None,
        "lossless": True,
        "conceal": False,
        "model": None,
        "device": "cpu",
        "overwrite": True,
        "threads": None,
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ("encode", "a", "b", "--keyint", "0"),
        ("encode", "a", "b", "--keyint", "10m"),
        ("encode", "a", "b", "--quality", "64"),
        ("encode", "a", "b", "--scale", "426"),
        ("encode", "a", "b", "--device", "gpu"),
        ("encode", "a", "b", "--frames", "0"),
        ("encode", "a", "b", "--frames", "3", "--duration", "2"),
        ("encode", "a", "-", "--json"),
        ("encode", "a"),
        ("decode", "a", "-", "--json"),
        ("decode", "a", "b", "--start", "soon"),
        ("decode", "a", "b", "--duration", "-1"),
        ("decode", "a", "b", "--dtype", "bf16"),
        ("decode", "a", "b", "--model", "base", "--dtype", "int8"),
        ("encode", "a", "b", "--vae", "light"),
        ("info",),
        ("transcode", "a", "b"),
        (),
    ],
)
def test_wrong_use_is_exit_2_and_calls_nothing(cli, api, arguments):
    ended = cli(*arguments)
    assert ended.code == 2
    assert api.calls == []
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (errors.InputError("in.mp4 has no video track: give a file that has one"), 1, None),
        (errors.OutputError("out.s2vc exists: give -y to replace it"), 1, None),
        (errors.DamagedError("packet 7 is damaged:\n 6 frames were read"), 3, None),
        (errors.SymbolMismatchError("frame 12 differs: decode on the machine that encoded"), 4, None),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device", "out.s2vc"), 1, "out.s2vc: No space left on device"),
        (MemoryError(), 1, "out of memory: try --scale with a smaller size"),
        (
            ModuleNotFoundError("No module named 'imageio_ffmpeg'", name="imageio_ffmpeg"),
            1,
            "the package imageio_ffmpeg is missing: pip install 's2vc[bench]'",
        ),
        (
            ValueError("seven"),
            1,
            "internal error, ValueError: seven: please report it with the output of --debug",
        ),
    ],
)
@pytest.mark.parametrize(
    "command", [("encode", "a", "b"), ("decode", "a", "b"), ("info", "a"), ("verify", "a")]
)
def test_errors_are_one_line_and_an_exit_code(cli, api, command, error, code, line):
    api.error = error
    ended = cli(*command)
    expected = line if line is not None else " ".join(str(error).split())
    assert (ended.code, ended.out, ended.err) == (code, "", f"s2vc: {expected}\n")


def test_debug_shows_the_traceback_before_the_line(cli, api):
    api.error = errors.InputError("no such file: give another")
    ended = cli("encode", "a", "b", "--debug")
    assert ended.code == 1
    assert ended.err.startswith("Traceback") and ended.err.endswith("s2vc: no such file: give another\n")


def test_damage_is_exit_3_after_the_result(cli, api):
    from dataclasses import replace

    api.results["decode"] = replace(api.results["decode"], damaged="chunk 2 is damaged", warnings=("odd",))
    ended = cli("decode", "a", "b", "--json", "-q")
    assert ended.code == 3
    assert json.loads(ended.out)["frames"] == 96
    assert ended.err == "s2vc: warning: odd\ns2vc: warning: chunk 2 is damaged\n"


def test_verify(cli, api):
    from dataclasses import replace

    ended = cli("verify", "a.s2vc")
    assert ended.code == 0 and ended.out == "" and "96 frames" in ended.err
    api.results["verify"] = replace(api.results["verify"], damaged="chunk 2 is damaged")
    ended = cli("verify", "a.s2vc", "--json")
    assert ended.code == 3 and json.loads(ended.out)["damaged"] == "chunk 2 is damaged"


def test_json_is_one_object(cli, api):
    ended = cli("encode", "a", "b", "--json", "-q")
    assert ended.err == "" and ended.out.count("\n") == 1
    assert json.loads(ended.out)["bpp"] == 0.0123
    facts = json.loads(cli("info", "a", "--json").out)
    assert (
        facts["frame_rate"] == "30000/1001" and facts["model_digest"] == "0102" and facts["rotation"] is None
    )


def test_info_for_a_reader(cli, api):
    lines = cli("info", "a").out.splitlines()
    assert lines[0].split() == ["model", "id", "tiny-1"]
    assert not any("rotation" in line for line in lines)


def test_info_says_what_names_the_points(cli, api):
    from dataclasses import replace

    assert not any("points" in line for line in cli("info", "a").out.splitlines())
    base = api.results["info"] = replace(api.results["info"], profile="cpu, float32")
    (line,) = [line for line in cli("info", "a").out.splitlines() if line.startswith("points")]
    assert line.split(maxsplit=1)[1] == "give --model to name them"
    api.results["info"] = replace(base, points=["1.8"])
    assert "points        1.8" in cli("info", "a", "--model", "base").out.splitlines()


def test_play_runs_a_model_as_decode_does(cli, monkeypatch):
    asked = []
    monkeypatch.setattr("s2vc.api.playing.play", lambda source, **options: asked.append(options) or 0)
    how = ("--model", "base", "--dtype", "fp16", "--vae", "light", "--threads", "2")
    assert cli("play", "a", *how, "--offload", "--device", "cpu").code == 0
    assert cli("play", "a").code == 0
    given = [options["options"] for options in asked]
    assert given == [["--device", "cpu", "--offload", *how], ["--device", "auto"]]
    assert cli("play", "a", "--dtype", "fp16").code == 2 and len(asked) == 2


def test_info_of_a_damaged_file_is_exit_3(cli, api):
    from dataclasses import replace

    api.results["info"] = replace(api.results["info"], damaged="cut in chunk 2")
    ended = cli("info", "a", "--json")
    assert ended.code == 3 and json.loads(ended.out)["damaged"] == "cut in chunk 2"


def test_stdout_is_the_outputs_alone(cli, api):
    ended = cli("encode", "a", "-")
    assert ended.out == "" and ended.err.startswith("-: 96 frames")
