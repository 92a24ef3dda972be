"""``tiny``'s geometry."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TinyConfig:
    """Widths of ``tiny``, and how it predicts; 1/8, 1/16, 1/32 and 1/64 name the scales they live at."""

    latent: int = 224  # y, 1/16
    hyper: int = 24  # z, 1/64
    width8: int = 128  # codec and generator, 1/8
    width16: int = 160  # codec, 1/16
    prior16: int = 96  # means, 1/16
    unet16: int = 160  # generator, 1/16
    unet32: int = 128  # generator, 1/32
    token: int = 128  # CSG tokens, 1/64
    renderer: int = 64  # renderer, 1/4
    knots: int = 8  # of the quality curve
    entropy_trunk: int = 48
    entropy_first: int = 32
    reset_period: int = 32
    origins: int = 0  # 1: what only moves is read from where it was last coded (s2vc.nn.origin)


WEIGHTLESS = ("origins",)  # no weight's shape depends on it: a run may start from a model without
