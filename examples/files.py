"""A video file to .s2vc and back: python examples/files.py in.mp4 out.s2vc again.mp4 [MODEL]"""

import sys

import s2vc

source, coded, again, *rest = sys.argv[1:]
model = rest[0] if rest else "tiny"

try:
    result = s2vc.encode(source, coded, model=model, quality=24, frames=48, overwrite=True)
    print(f"{result.frames} frames, {result.bytes} bytes, {result.bpp:.4f} bpp, {result.kbps:.1f} kbit/s")

    facts = s2vc.info(coded)  # needs no model and no torch
    print(f"{facts.width}x{facts.height}, model {facts.model}, {facts.intra_frames} I-frames")

    # A file names its model; one that is not in the package has to be shown.
    decoded = s2vc.decode(coded, again, model=model if rest else None, overwrite=True)
    if decoded.damaged:
        print(f"what could be read was written: {decoded.damaged}")
except s2vc.S2vcError as error:
    sys.exit(f"{error}")  # one line: what is wrong, what to do
