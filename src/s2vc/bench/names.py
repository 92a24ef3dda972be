"""Names of the metrics, as specs, results and tables write them; imports nothing heavy."""

from __future__ import annotations

HIGHER_IS_BETTER: dict[str, bool] = {
    "psnr": True,
    "psnr-y": True,
    "ms-ssim": True,
    "vmaf": True,
    "xpsnr": True,
    "lpips-alex": False,
    "lpips-vgg": False,
    "dists": False,
}
"""Every metric that a spec may ask for, and whether more of it is better."""
