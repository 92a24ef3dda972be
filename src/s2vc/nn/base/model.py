"""``base`` as a whole: two codecs, the generator once for each kind of frame, the autoencoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from s2vc.nn.base.config import BaseConfig
from s2vc.nn.base.generator import Generator
from s2vc.nn.base.inter import InterCodec
from s2vc.nn.base.intra import IntraCodec
from s2vc.nn.base.vae import Vae

NETWORKS: dict[str, Callable[[BaseConfig], nn.Module]] = {
    "intra": lambda config: IntraCodec(config.intra),
    "inter": lambda config: InterCodec(config.inter),
    "intra_generator": lambda config: Generator(config.generator, temporal=False),
    "inter_generator": lambda config: Generator(config.generator, temporal=True),
    "vae": lambda config: Vae(config.vae),
}
"""The networks of one rate point. The two generators differ in their merged adapter and in TCG."""
GENERATORS = ("intra_generator", "inter_generator")


class BaseModel:
    """One rate point's networks, each loaded when it is first needed.

    ``load``: gives a network of ``NETWORKS`` by name, for inference in a dtype on the device. ``dtype``: what
    generators and autoencoder draw in; all that symbols depend on is float32. ``offload``: a generator is
    there while it runs and no longer. Not for several threads at once.
    """

    def __init__(
        self,
        load: Callable[[str, torch.dtype], nn.Module],
        dtype: torch.dtype = torch.float32,
        offload: bool = False,
    ) -> None:
        self.dtype, self.offload = dtype, offload
        self._load = load
        self._kept: dict[tuple[str, torch.dtype], Any] = {}

    @property
    def intra(self) -> IntraCodec:
        return self._keep("intra", torch.float32)

    @property
    def inter(self) -> InterCodec:
        return self._keep("inter", torch.float32)

    def vae(self, dtype: torch.dtype) -> Vae:
        return self._keep("vae", dtype)

    @contextmanager
    def generator(self, intra: bool, dtype: torch.dtype) -> Iterator[Generator]:
        """The generator of I or P frames, for as long as the context lasts: the next one takes its room."""
        network = self._load(GENERATORS[0 if intra else 1], dtype)
        try:
            yield network  # type: ignore[misc]
        finally:
            if self.offload:
                network.to("meta")  # frees the weights, whoever still holds the network

    def _keep(self, name: str, dtype: torch.dtype) -> Any:
        if (name, dtype) not in self._kept:
            self._kept[name, dtype] = self._load(name, dtype)
        return self._kept[name, dtype]
