"""``base`` while it is trained: one rate point's networks, adapters beside the weights that they adapt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.func import functional_call

from s2vc.errors import ModelError
from s2vc.models.published import adapted_layers, layout
from s2vc.models.published_loading import ModelFolder
from s2vc.nn.base.adapters import merge
from s2vc.nn.base.config import BaseConfig
from s2vc.nn.base.generator import Generator
from s2vc.nn.base.inter import InterCodec
from s2vc.nn.base.intra import IntraCodec
from s2vc.nn.base.vae import Vae

Weights = dict[str, Tensor]
"""Adapted layers' merged weights by name, for ``BaseNetworks.draw``."""


class _Adapter(nn.Module):
    """One layer's low-rank change; it says nothing before ``up`` has learnt something."""

    def __init__(self, rank: int, weight: Tensor) -> None:
        super().__init__()
        out_width, in_width, *kernel = weight.shape
        self.down = nn.Parameter(torch.empty(rank, in_width, *kernel))
        self.up = nn.Parameter(torch.zeros(out_width, rank, *(1 for _ in kernel)))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)


class BaseNetworks(nn.Module):
    """Parameters have the names of :func:`s2vc.models.published.layout`.

    New ones are drawn so that adapters and TCG say nothing yet (TRAINING §1).
    """

    reset_period = 32

    def __init__(self, config: BaseConfig) -> None:
        super().__init__()
        self.config = config
        self.intra, self.inter = IntraCodec(config.intra), InterCodec(config.inter)
        self.generator = Generator(config.generator, temporal=True)
        self.vae = Vae(config.vae)
        for fusion in self.generator.fusions:
            nn.init.zeros_(fusion.exit.weight)  # type: ignore[arg-type,union-attr]
        for prior in self.inter.hyper_prior.parameters():
            nn.init.normal_(prior, std=0.01)
        self.layers = tuple(adapted_layers(self.generator))
        self.adapters = nn.Module()
        for frames in ("intra", "inter"):
            for layer in self.layers:
                weight = self.generator.get_parameter(f"{layer}.weight")
                _place(self.adapters, f"{frames}.{layer}", _Adapter(config.generator.rank, weight))
        # The generator of I frames is the same one without TCG; not a part of its own.
        with torch.device("meta"):
            still = Generator(config.generator, temporal=False)
        still.unet, still.reduction = self.generator.unet, self.generator.reduction
        self._still = (still,)

    @property
    def token_width(self) -> int:
        return self.config.inter.token

    def merged(self, intra: bool) -> Weights:
        """The generator's adapted weights for I or P frames, with the adapters' gradients."""
        adapters = self.adapters.get_submodule("intra" if intra else "inter")
        scale = self.config.generator.alpha / self.config.generator.rank
        weights = {}
        for layer in self.layers:
            adapter = adapters.get_submodule(layer)
            assert isinstance(adapter, _Adapter)
            weight = self.generator.get_parameter(f"{layer}.weight")
            with torch.autocast(weight.device.type, enabled=False):
                weights[f"{layer}.weight"] = merge(weight, adapter.down, adapter.up, scale)
        return weights

    def draw(
        self, intra: bool, weights: Weights, features: Tensor, tokens: Tensor, previous: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """x0 of a frame of each of B films, as ``Generator`` gives it, with ``merged`` weights."""
        network = self._still[0] if intra else self.generator
        drawn: tuple[Tensor, list[Tensor]] = functional_call(
            network, weights, (features, tokens, previous, len(features))
        )
        return drawn


def _place(root: nn.Module, path: str, module: nn.Module) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        if not hasattr(root, parent):
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(name, module)


def folder_weights(path: Path) -> Mapping[str, Tensor]:
    """A model folder's tensors in float32; ModelError where it has several points."""
    folder = ModelFolder.open(path)
    if len(folder.points) != 1:
        raise ModelError(
            f"{path} holds {len(folder.points)} rate points ({', '.join(folder.points)}): import the one to "
            "go on from by 's2vc import-published --points'"
        )
    read = folder.reader(folder.points[0])
    return {tensor.name: read(tensor.name, torch.float32) for tensor in layout(folder.config)}


def stable_diffusion_config(path: Path) -> BaseConfig:
    """The published widths around the U-Net and the autoencoder of such a folder."""
    try:
        unet, vae = (json.loads((path / part / "config.json").read_text()) for part in ("unet", "vae"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} is not Stable Diffusion as diffusers keep it ({error}): fetch it again"
        ) from None
    widths, token = tuple(unet["block_out_channels"]), unet["cross_attention_dim"]
    config = BaseConfig()
    return BaseConfig(
        replace(config.intra, token=token),
        replace(config.inter, token=token),
        replace(config.generator, widths=widths, token=token, heads=unet["attention_head_dim"]),
        replace(config.vae, widths=tuple(vae["block_out_channels"])),
    )


def stable_diffusion_weights(path: Path) -> dict[str, Tensor]:
    """Its U-Net but for the entrance, which takes a picture's latent, and its autoencoder, in float32."""
    unet = UNet2DConditionModel.from_pretrained(path / "unet", low_cpu_mem_usage=False).state_dict()
    vae = AutoencoderKL.from_pretrained(path / "vae", low_cpu_mem_usage=False).state_dict()
    weights = {f"generator.unet.{k}": v.float() for k, v in unet.items() if not k.startswith("conv_in.")}
    return weights | {f"vae.autoencoder.{k}": v.float() for k, v in vae.items()}
