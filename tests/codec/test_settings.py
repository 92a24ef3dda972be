"""Files made under any setting of threads and oneDNN decode under any other (DESIGN §6)."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np

import s2vc

SETTINGS = [
    ("1", "1", {}),
    ("2", "1", {}),
    ("1", "0", {"OPENBLAS_CORETYPE": "Nehalem"}),
    ("2", "0", {}),
]


def run(setting, model, *arguments):
    threads, onednn, environment = setting
    script = Path(__file__).with_name("settings.py")
    command = [sys.executable, script, threads, onednn, model, *arguments]
    # Threads that wait shall not spin: on a busy machine that costs minutes.
    env = {**os.environ, "OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "passive", **environment}
    ran = subprocess.run([*map(str, command)], env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_four_encodings_decode_under_all_four(coding, psnr, tmp_path):
    model, pictures = coding
    np.save(tmp_path / "pictures.npy", np.stack(pictures))
    files = [tmp_path / f"{number}.s2vc" for number in range(4)]
    for number, setting in enumerate(SETTINGS):
        out, recon = files[number], tmp_path / f"{number}.npy"
        run(setting, model, "encode", tmp_path / "pictures.npy", out, recon)
        assert s2vc.verify(out, model=model).damaged is None
    recons = [np.load(tmp_path / f"{number}.npy") for number in range(4)]
    for number, setting in enumerate(SETTINGS):
        run(setting, model, "decode", *files, tmp_path / f"{number}.npz")
    fidelity = {}
    for decoder, encoder in product(range(4), range(4)):
        decoded = np.load(tmp_path / f"{decoder}.npz")[str(encoder)]
        assert len(decoded) == len(pictures)
        fidelity[encoder, decoder] = min(map(psnr, decoded, recons[encoder]))
    assert min(fidelity.values()) >= 50, fidelity
    assert all(fidelity[n, n] == float("inf") for n in range(4)), fidelity
