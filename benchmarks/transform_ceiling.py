"""How good a picture can be that keeps only so many coefficients of tiny's transform, and nothing else.

    python benchmarks/transform_ceiling.py [MODEL.safetensors] > benchmarks/results/transform-ceiling.json

PSNR (RGB, dB) of the first frame of each tuning clip after analysis and synthesis by the untrained lapped
basis, unquantised: what no rate can pass unless a network finds its own way round it. With a model, under
"model", the same by its trained transform and the steps of I-frames at quality 63.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import av
import torch

from s2vc.nn.lapped import LappedTransform
from s2vc.nn.tiny.codec import TinyCodec

COUNTS = (96, 128, 160, 192, 224, 256)


def psnr(x: torch.Tensor, y: torch.Tensor) -> float:
    """dB of 8-bit levels."""
    return round(float(10 * torch.log10(255**2 / (x - y).square().mean())), 2)


def main() -> None:
    """Print the JSON."""
    model: TinyCodec | None = None
    if len(sys.argv) > 1:
        import s2vc

        model = s2vc.load(sys.argv[1], device="cpu").networks.codec  # type: ignore[attr-defined]
    folder = os.environ.get("S2VC_DATA_DIR")
    if not folder:
        sys.exit("set S2VC_DATA_DIR to the folder of footage")
    result: dict[str, dict[str, float]] = {}
    names = ("akiyo_176x144_25", "carphone_176x144_30", "city_352x288_25", "foliage_360x240_25")
    for name in (*names, "car-roundabout_426x240_24", "parkour_426x240_24"):
        with av.open(str(Path(folder) / "dev" / f"{name}.mp4")) as container:
            picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
        height, width = (side // 16 * 16 for side in picture.shape[:2])
        x = torch.from_numpy(picture[:height, :width]).permute(2, 0, 1)[None].float() - 128
        result[name] = {}
        for count in COUNTS:
            transform = LappedTransform(count)
            with torch.inference_mode():
                result[name][str(count)] = psnr(transform.inverse(transform(x)), x)
        if model is not None:
            intra, quality = torch.tensor([True]), torch.tensor([63])
            with torch.inference_mode():
                y = model.transform(x) / model.encoder_step(intra, quality)
                result[name]["model"] = psnr(
                    model.transform.inverse(y * model.decoder_step(intra, quality)), x
                )
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
