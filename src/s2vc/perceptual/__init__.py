"""Perceptual networks on published weights: what the trainer's losses and the bench's metrics share.

Pictures are float RGB (N, 3, H, W) in [0, 1] everywhere in this room. The networks are frozen; gradients
flow to the pictures. Weights are looked for in a folder that the user names, else in the usual caches
(``weights.py``), and are never downloaded.
"""

from s2vc.perceptual.backbones import AlexNetFeatures, SqueezeNetFeatures, VGG16Features
from s2vc.perceptual.dinov2 import DinoV2Small
from s2vc.perceptual.dists import DISTS
from s2vc.perceptual.efficientnet import EfficientNetLite0
from s2vc.perceptual.lpips import LPIPS, flow_weighted
from s2vc.perceptual.spynet import SPyNet, warp
from s2vc.perceptual.weights import (
    WEIGHTS_VARIABLE,
    file_sha256,
    find_weights,
    load_weights,
    weights_environment,
    weights_used,
)

__all__ = [
    "DISTS",
    "LPIPS",
    "WEIGHTS_VARIABLE",
    "AlexNetFeatures",
    "DinoV2Small",
    "EfficientNetLite0",
    "SPyNet",
    "SqueezeNetFeatures",
    "VGG16Features",
    "file_sha256",
    "find_weights",
    "flow_weighted",
    "load_weights",
    "warp",
    "weights_environment",
    "weights_used",
]
