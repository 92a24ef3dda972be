"""``base``'s geometry. The defaults are the published system's (ARCHITECTURE §4 to §8)."""

from __future__ import annotations

from dataclasses import dataclass, field

LATENT = 4
"""Channels of the autoencoder's latent and of x0."""


@dataclass(frozen=True)
class IntraConfig:
    """Widths of the I-frame codec (ARCHITECTURE §4)."""

    embedding: int = 192  # pixel embedding, 1/8
    fused: int = 320  # embedding and latent fused, 1/8
    unet: tuple[int, ...] = (512, 768, 768)  # analysis U-Net, 1/16 to 1/64
    head: int = 8  # width of its attention heads
    internal: int = 512  # synthesis, 1/16
    hyper: tuple[int, int] = (768, 512)  # fusion of latent and middle block, 1/64
    latent: int = 128  # y, 1/16
    levels: tuple[int, ...] = (4, 4, 4, 4, 4, 4, 4)  # FSQ levels of z, 1/64
    token: int = 768  # CSG tokens, 1/64
    output: int = 320  # input of the generator, 1/8


@dataclass(frozen=True)
class InterConfig:
    """Widths of the P-frame codec (ARCHITECTURE §5); what is not named here is a multiple of these."""

    feature: int = 384  # feature buffer, 1/8
    latent: int = 128  # y, 1/16
    hyper: int = 64  # z, 1/64
    token: int = 768  # CSG tokens, 1/64
    output: int = 320  # input of the generator, 1/8


@dataclass(frozen=True)
class GeneratorConfig:
    """The one-step U-Net, its adapters and its temporal guidance (ARCHITECTURE §6, §7)."""

    input: int = 320  # decoded feature, 1/8
    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    token: int = 768
    heads: int = 8
    motion: int = 160  # channels of TCG that are always zero at their entrance
    rank: int = 64  # of the adapters
    alpha: float = 8.0


@dataclass(frozen=True)
class VaeConfig:
    """The Stable Diffusion autoencoder (ARCHITECTURE §8)."""

    widths: tuple[int, ...] = (128, 256, 512, 512)
    window: int = 16  # side of the attention windows, in latent positions
    scale: float = 0.18215  # a latent is multiplied by it after the encoder


@dataclass(frozen=True)
class BaseConfig:
    """The whole of ``base``."""

    intra: IntraConfig = field(default_factory=IntraConfig)
    inter: InterConfig = field(default_factory=InterConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    vae: VaeConfig = field(default_factory=VaeConfig)
