"""Made ``film-1.s2vc`` and its pictures once: a file of format version 1 that every later s2vc must read.

    python tests/golden/make_film.py FOLDER

40 frames of 50 x 38 by the mini model: three chunks, resets at frames 1, 33 and 37, an I-frame at 36. Beside
it go frames 0, 31 and 39 as its encoder reconstructed them, and the CRC-32 of each frame's symbols.
``tests/codec/test_golden.py`` reads them. Encoders may change and would write another file: this one stays.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import s2vc
from s2vc.bitstream import StreamReader
from s2vc.codec.decoder import SymbolReader
from s2vc.codec.packets import SymbolSum
from s2vc.video import Frame, VideoInfo, open_output

HERE = Path(__file__).parent
KEPT = (0, 31, 39)


def symbol_sums(path: Path, model: s2vc.Model) -> list[str]:
    """CRC-32 of every frame's symbols, as hexadecimal digits."""
    sums = []
    with path.open("rb") as stream:
        reader = StreamReader(stream)
        symbols = SymbolReader(model.networks.symbols, reader.header, model.networks.multiple)
        for chunk in reader:
            for frame in symbols.read(chunk).symbols:
                total = SymbolSum()
                for part in frame.values():
                    total.add(part)
                sums.append(f"{total.value:08x}")
    return sums


def main() -> None:
    """Write the files into the folder named on the command line."""
    folder = Path(sys.argv[1])
    target = folder / "film-1.s2vc"
    if target.exists():
        raise SystemExit(f"{target} exists: it is kept as it is")
    spec = importlib.util.spec_from_file_location("conftest", HERE.parent / "conftest.py")
    assert spec is not None and spec.loader is not None
    tests = importlib.util.module_from_spec(spec)
    sys.modules["conftest"] = tests
    spec.loader.exec_module(tests)

    model = s2vc.load(str(HERE / "mini.safetensors"), device="cpu")
    shown: list[Frame] = []
    with (
        target.open("wb") as out,
        s2vc.Encoder(out, 50, 38, model=model, quality=32, keyint=36, reconstruct=shown.append) as encoder,
    ):
        for picture in tests.make_scene(40):
            encoder.write(picture)
    info = VideoInfo(50, 38)
    with open_output(folder / "film-1", info) as writer:
        for number, frame in enumerate(shown[place] for place in KEPT):
            writer.write(Frame(frame.rgb, number))
    (folder / "film-1.symbols").write_text("\n".join(symbol_sums(target, model)) + "\n")


if __name__ == "__main__":
    main()
