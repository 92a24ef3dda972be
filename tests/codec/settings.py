"""One process of ``test_settings``: threads and oneDNN as told, encode or decode with one model.

settings.py THREADS 0|1 MODEL encode PICTURES.npy OUT.s2vc RECON.npy
settings.py THREADS 0|1 MODEL decode IN.s2vc... OUT.npz
"""

from __future__ import annotations

import sys

import numpy as np
import torch

import s2vc


def main() -> None:
    """Do what the command line says."""
    threads, onednn, model_path, verb, *files = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.backends.mkldnn.set_flags(onednn == "1")
    model = s2vc.load(model_path, device="cpu")
    if verb == "encode":
        pictures = np.load(files[0])
        _, height, width, _ = pictures.shape
        shown: list[np.ndarray] = []
        with (
            open(files[1], "wb") as out,
            s2vc.Encoder(
                out, width, height, model=model, reconstruct=lambda frame: shown.append(frame.rgb)
            ) as encoder,
        ):
            for picture in pictures:
                encoder.write(picture)
        np.save(files[2], np.stack(shown))
        return
    decoded = {}
    for number, path in enumerate(files[:-1]):
        with open(path, "rb") as stream:
            # Every symbol is checked against its checksum on the way: DamagedError where one differs.
            decoded[str(number)] = np.stack([frame.picture for frame in s2vc.Decoder(stream, model=model)])
    np.savez(files[-1], **decoded)


if __name__ == "__main__":
    main()
