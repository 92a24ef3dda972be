"""The published release: where its archives lie, what their tensors are called, what they become here.

Names are not listed one by one: they follow from the networks' own structure and one table a class of blocks,
so that every tensor of ours has exactly one name there (ARCHITECTURE §1.1; ``tests/models/test_published.py``
holds them to the inventory).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import torch
from torch import nn

from s2vc.nn.base import blocks, generator, inter, intra, prior
from s2vc.nn.base.config import (
    BaseConfig,
    GeneratorConfig,
    InterConfig,
    IntraConfig,
    VaeConfig,
)
from s2vc.nn.base.vae import Vae

ADAPTERS = {"intra": "iframe", "inter": "pframe"}
"""Kinds of frames and what the release calls their adapters."""

_SEQUENCE = {str(i): f"block.{i}" for i in range(4)}
_PRIOR = {
    f"{ours}.{i}": f"f{i + 1}.{theirs}"
    for ours, theirs in (("slopes", "h"), ("offsets", "b"), ("gates", "a"))
    for i in range(4)
}

# What the release calls the children of each class of ours. A name of "" stands for no level at all there.
_NAMES: dict[type[nn.Module], dict[str, str]] = {
    blocks.DepthConv: {
        "pointwise_in": "conv1.0",
        "depthwise": "depth_conv",
        "pointwise_out": "conv2",
        "shortcut": "adaptor",
    },
    blocks.WideDepthConv: {"expand": "convs.0", "depthwise": "convs.2", "project": "convs.3"},
    blocks.ConvFFN: {"expand": "conv", "project": "conv_out"},
    blocks.DepthConvBlock: _SEQUENCE,
    blocks.WideDepthConvBlock: _SEQUENCE,
    blocks.StridedResidual: {"shortcut": "downsample"},
    blocks.UpsampledResidual: {"expand": "subpel_conv.0", "shortcut": "upsample.0"},
    blocks.ResBlock: {"shortcut": "skip"},
    blocks.NormResBlock: {"shortcut": "nin_shortcut"},
    blocks.SelfAttention: {"query": "q", "key": "k", "value": "v", "out": "proj_out"},
    blocks.Reduction: {
        "norm1": "blocks.0",
        "conv1": "blocks.2",
        "norm2": "blocks.3",
        "conv2": "blocks.5",
        "shortcut": "short_cut",
    },
    prior.FactorisedPrior: _PRIOR,
    intra.IntraCodec: {
        "analysis": "enc",
        "hyper_analysis": "hyper_enc",
        "hyper_synthesis": "hyper_dec",
        "prior": "y_prior_fusion",
        "common": "y_spatial_prior_reduction",
        "pass_adaptors.0": "y_spatial_prior_adaptor_1",
        "pass_adaptors.1": "y_spatial_prior_adaptor_2",
        "pass_adaptors.2": "y_spatial_prior_adaptor_3",
        "spatial_prior": "y_spatial_prior",
        "tokens": "semantic_adaptor.to_semantic",
        "synthesis": "dec",
    },
    intra.Analysis: {"embedding": "pix_emb", "fusion": "pix_fusion", "transform": "trans_coding"},
    intra.AnalysisUNet: {"entrance": "conv_in", "unet": ""},
    intra.HyperAnalysis: {"reduce": "y_trans_coding"},
    intra.HyperSynthesis: {"entrance": "feat_in.0", "prior": "to_entropy"},
    intra.Synthesis: {"entrance": "trans_coding", "body": "blocks", "tokens": "sem_up", "exit": "conv_out"},
    inter.InterCodec: {
        "embedding": "pix_emb",
        "feature_adaptor": "feature_adaptor_p",
        "reset_adaptor": "feature_adaptor_i",
        "context": "feature_extractor.conv1",
        "prior_context": "feature_extractor.conv2",
        "analysis": "encoder",
        "hyper_prior": "bit_estimator_z",
        "hyper_analysis": "hyper_encoder.conv",
        "hyper_synthesis": "hyper_decoder.conv",
        "temporal_prior": "temporal_prior_encoder.conv",
        "prior": "y_prior_fusion.conv",
        "spatial_prior": "y_spatial_prior.conv",
        "synthesis": "decoder",
        "pixel_head": "recon_pix.net",
        "token_head": "recon_semantic",
    },
    inter.Analysis: {"trunk": "conv1", "exit": "conv2"},
    inter.Synthesis: {"entrance": "conv1", "trunk": "conv2"},
    inter.TokenHead: {"reduce": "net_ds", "attend": "net_attn"},
    generator.Generator: {
        "reduction": "vae_reduction",
        "unet": "",
        **{f"fusions.{i}": f"down_blocks.{i}.pframe_motion_fusion" for i in range(generator.FUSED_LEVELS)},
    },
    generator.TemporalFusion: {
        "reduce": "cond_reduce",
        "previous": "prev_warp",
        "fuse": "fusion",
        "exit": "zero_conv",
    },
    Vae: {"autoencoder": ""},
}


def published_name(network: nn.Module, name: str) -> str:
    """What the release calls tensor ``name`` of a network of ours (an adapted layer without its wrapping)."""
    module, rest, found = network, name.split("."), []
    while rest:
        table = _NAMES.get(type(module), {})
        taken = next((n for n in (2, 1) if ".".join(rest[:n]) in table), 1)
        key = ".".join(rest[:taken])
        found.append(table.get(key, key))
        rest = rest[taken:]
        if rest:
            module = module.get_submodule(key)
    return ".".join(part for part in found if part)


def adapted_layers(network: generator.Generator) -> Iterator[str]:
    """Names of the layers that the adapters change: every one inside the U-Net's blocks (ARCHITECTURE §6)."""
    for name, module in network.named_modules():
        inside = name.startswith(("unet.down_blocks.", "unet.mid_block.", "unet.up_blocks."))
        if inside and isinstance(module, (nn.Linear, nn.Conv2d)):
            yield name


@dataclass(frozen=True)
class Tensor:
    """A tensor of ours and where the release keeps it."""

    name: str
    archive: str
    key: str
    shape: tuple[int, ...]


@lru_cache(maxsize=8)  # building the networks takes seconds
def layout(config: BaseConfig) -> tuple[Tensor, ...]:
    """Every tensor of one rate point: of the networks ``intra``, ``inter``, ``generator`` and ``vae``, and
    of the adapters, ``adapters.intra.…`` and ``adapters.inter.…`` (``.down``, ``.up``), named by layer.

    Archives are named ``intra``, ``inter``, ``generator`` and ``vae``.
    """
    with torch.device("meta"):
        networks: dict[str, nn.Module] = {
            "intra": intra.IntraCodec(config.intra),
            "inter": inter.InterCodec(config.inter),
            "generator": generator.Generator(config.generator, temporal=True),
            "vae": Vae(config.vae),
        }
    unet = networks["generator"]
    assert isinstance(unet, generator.Generator)
    adapted = dict.fromkeys(adapted_layers(unet))
    tensors = []
    for archive, network in networks.items():
        for name, tensor in network.state_dict().items():
            key = published_name(network, name)
            layer, _, kind = name.rpartition(".")
            if archive == "generator" and layer in adapted:
                key = f"{key.removesuffix(kind)}base_layer.{kind}"
            tensors.append(Tensor(f"{archive}.{name}", archive, key, tuple(tensor.shape)))
    for layer in adapted:
        key = published_name(unet, layer)
        out_width, in_width, *kernel = unet.get_submodule(layer).weight.shape  # type: ignore[union-attr,misc]
        rank = config.generator.rank
        for frames, adapter in ADAPTERS.items():
            name = f"adapters.{frames}.{layer}"
            down, up = (rank, in_width, *kernel), (out_width, rank, *(1 for _ in kernel))
            tensors.append(Tensor(f"{name}.down", "generator", f"{key}.lora_A.{adapter}.weight", down))
            tensors.append(Tensor(f"{name}.up", "generator", f"{key}.lora_B.{adapter}.weight", up))
    return tuple(tensors)


Shapes: TypeAlias = Mapping[str, tuple[int, ...]]


def config_of(shapes: Mapping[str, Shapes], alpha: float = 8.0, window: int = 16) -> BaseConfig:
    """The widths of a release, read from its tensors' shapes by archive and key.

    What shapes do not say is given: the adapters' ``alpha``, the ``window`` of the autoencoder's attention.
    Raises KeyError naming a tensor that is not there.
    """
    codec, unet, video, vae = (shapes[a] for a in ("intra", "generator", "inter", "vae"))

    def outputs(archive: Shapes, key: str) -> int:
        return archive[f"{key}.weight"][0]

    def inputs(archive: Shapes, key: str) -> int:
        return archive[f"{key}.weight"][1]

    widths = [f"down_blocks.{i}.resnets.0.conv1" for i in range(4)]
    codes = outputs(codec, "hyper_enc.fusion.5")
    return BaseConfig(
        IntraConfig(
            embedding=outputs(codec, "enc.pix_emb"),
            fused=outputs(codec, "enc.pix_fusion"),
            unet=tuple(outputs(codec, f"enc.unet.{name}") for name in widths[:3]),
            internal=outputs(codec, "dec.trans_coding.1.block.0.conv2"),
            hyper=(outputs(codec, "hyper_enc.fusion.1.q"), outputs(codec, "hyper_enc.fusion.3.q")),
            latent=outputs(codec, "y_spatial_prior_reduction"),
            levels=(4,) * codes,
            token=outputs(codec, "semantic_adaptor.to_semantic.2.q"),
            output=outputs(codec, "dec.conv_out.block.0.conv2"),
        ),
        InterConfig(
            feature=outputs(video, "pix_emb"),
            latent=outputs(video, "encoder.conv2.2"),
            hyper=outputs(video, "hyper_encoder.conv.4"),
            token=outputs(video, "recon_semantic.net_attn.0"),
            output=outputs(video, "recon_pix.net.2.conv2"),
        ),
        GeneratorConfig(
            input=inputs(unet, "conv_in"),
            widths=tuple(outputs(unet, f"{name}.base_layer") for name in widths),
            token=inputs(unet, "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.base_layer"),
            motion=inputs(unet, "down_blocks.0.pframe_motion_fusion.prev_warp.0.block.0.convs.0")
            - outputs(unet, "down_blocks.0.pframe_motion_fusion.cond_reduce.block.2.conv2"),
            rank=outputs(unet, "mid_block.resnets.0.conv1.lora_A.iframe"),
            alpha=alpha,
        ),
        VaeConfig(
            widths=tuple(outputs(vae, f"encoder.{name}") for name in widths),
            window=window,
        ),
    )
