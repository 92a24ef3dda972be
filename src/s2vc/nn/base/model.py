"""``base`` as a whole: two codecs, the generator once for each kind of frame, the autoencoder."""

from __future__ import annotations

from torch import nn

from s2vc.nn.base.config import BaseConfig
from s2vc.nn.base.generator import Generator
from s2vc.nn.base.inter import InterCodec
from s2vc.nn.base.intra import IntraCodec
from s2vc.nn.base.vae import Vae


class BaseModel(nn.Module):
    """One rate point. The two generators differ in their merged adapter and in TCG."""

    def __init__(self, config: BaseConfig) -> None:
        super().__init__()
        self.config = config
        self.intra = IntraCodec(config.intra)
        self.inter = InterCodec(config.inter)
        self.intra_generator = Generator(config.generator, temporal=False)
        self.inter_generator = Generator(config.generator, temporal=True)
        self.vae = Vae(config.vae)
