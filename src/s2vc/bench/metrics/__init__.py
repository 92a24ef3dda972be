"""Metrics of decoded pictures against their source: what there is (docs/metrics.md) and how it is measured.

Several decodings of one clip are measured together, so that the source passes each network and each flow
once. Pictures come a few at a time; memory does not grow with the clip.
"""

from s2vc.bench.metrics.meter import Meter
from s2vc.bench.names import METRICS, Metric, of_same_network
from s2vc.perceptual.psnr import PSNR_CAP, psnr

__all__ = ["METRICS", "PSNR_CAP", "Meter", "Metric", "of_same_network", "psnr"]
