"""Frame by frame, through memory: python examples/arrays.py [MODEL]"""

import io
import sys

import numpy as np

import s2vc

model = s2vc.load(sys.argv[1] if len(sys.argv) > 1 else "tiny")  # loaded once, shared by both sides

across, down = np.meshgrid(np.arange(96), np.arange(64))
pictures = [np.stack([across * 2 + 4 * t, down * 3, across + down], -1).astype(np.uint8) for t in range(6)]

stream = io.BytesIO()  # anything with write(): a file, a socket's makefile("wb")
with s2vc.Encoder(stream, width=96, height=64, rate=25, model=model, quality=40) as encoder:
    for picture in pictures:
        encoder.write(picture)
print(f"{encoder.frames} frames in {len(stream.getvalue())} bytes")

stream.seek(0)  # … and anything with read()
for frame in s2vc.Decoder(stream, model=model):
    error = np.square(frame.picture.astype(float) - pictures[frame.time]).mean()
    print(f"frame {frame.time}: {frame.picture.shape}, {10 * np.log10(255**2 / max(error, 1e-9)):.1f} dB")
