"""``tiny`` as a whole: codec, entropy twin, generator."""

from __future__ import annotations

from torch import nn

from s2vc.nn.tiny.codec import TinyCodec
from s2vc.nn.tiny.config import TinyConfig
from s2vc.nn.tiny.entropy import EntropyTwin
from s2vc.nn.tiny.generator import TinyGenerator


class TinyModel(nn.Module):
    """The parts that are trained together; at run time the twin is replaced by its integers."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.codec = TinyCodec(config)
        self.generator = TinyGenerator(config)
        self.entropy = EntropyTwin(config)

    @property
    def token_width(self) -> int:
        return self.config.token

    @property
    def reset_period(self) -> int:
        return self.config.reset_period
