"""Work of the full-size networks, counted on the meta device, against the published system's."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

pytestmark = [pytest.mark.conformance, pytest.mark.slow]


@pytest.fixture(scope="module")
def full(reference):
    from s2vc.nn.base.config import BaseConfig
    from s2vc.nn.base.model import NETWORKS

    config = BaseConfig()
    with torch.device("meta"):
        networks = {name: make(config).eval() for name, make in NETWORKS.items()}
    return SimpleNamespace(config=config, **networks)


def count(run):
    """Multiply-accumulates of a call."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 2


def adapters(network, run):
    """What the adapters would cost beside the layers, were they not merged."""
    from s2vc.models.published import adapted_layers

    rank, total, hooks = network.config.rank, 0, []

    def hook(module, _arguments, output):
        nonlocal total
        positions = output.numel() // module.weight.shape[0]
        total += positions * rank * (module.weight[0].numel() + module.weight.shape[0])

    for name in adapted_layers(network):
        hooks.append(network.get_submodule(name).register_forward_hook(hook))
    run()
    for handle in hooks:
        handle.remove()
    return total


def parts(model, height, width):
    """The names of macs.json -> what to run."""

    def map_of(channels, scale):
        return torch.empty(1, channels, height // scale, width // scale, device="meta")

    intra, inter, config = model.intra, model.inter, model.config
    picture, latent = map_of(3, 1), map_of(4, 8)
    feature, context, prior = (map_of(config.inter.feature, 8) for _ in range(3))
    y, z = map_of(config.inter.latent, 16), map_of(config.inter.hyper, 64)
    parameters = map_of(3 * config.inter.latent, 16)
    intra_y, codes = map_of(config.intra.latent, 16), map_of(len(config.intra.levels), 64)
    common, semantic = map_of(config.intra.latent, 16), map_of(config.intra.unet[-1], 64)
    hyper, both = map_of(config.intra.latent, 64), map_of(2 * config.intra.latent, 16)
    features, tokens = map_of(config.generator.input, 8), map_of(config.generator.token, 64)
    levels = [map_of(c, 16 << i) for i, c in enumerate(config.generator.widths[:3])]
    fusions = model.inter_generator.fusions
    hyper_synthesis = intra.hyper_synthesis
    return {
        "P.pix_emb": lambda: inter.embedding(picture),
        "P.feature_adaptor_i": lambda: inter.reset_adaptor(latent),
        "P.feature_adaptor_p": lambda: inter.feature_adaptor(feature),
        "P.feature_extractor.ctx": lambda: inter.context(feature),
        "P.feature_extractor.ctx_t": lambda: inter.prior_context(context),
        "P.encoder": lambda: inter.analysis(feature, context),
        "P.hyper_encoder": lambda: inter.hyper_analysis(y),
        "P.hyper_decoder": lambda: inter.hyper_synthesis(z),
        "P.temporal_prior": lambda: inter.temporal_prior(prior),
        "P.y_prior_fusion": lambda: inter.prior(parameters),
        "P.y_spatial_prior": lambda: inter.next_parameters(y, parameters),
        "P.decoder": lambda: inter.synthesis(y, context),
        "P.recon_pix": lambda: inter.pixel_head(feature),
        "P.recon_semantic": lambda: inter.token_head(feature),
        "UNet.iframe (base+LoRA)": lambda: model.intra_generator(features, tokens),
        "UNet.pframe (base+LoRA+TCG)": lambda: model.inter_generator(features, tokens, levels),
        **{f"TCG.fusion_{i}": lambda i=i: fusions[i](levels[i], levels[i]) for i in range(3)},
        "UNet.vae_reduction": lambda: model.inter_generator.reduction(features),
        "VAE.encode": lambda: model.vae.encode(picture),
        "VAE.decode": lambda: model.vae.decode(latent),
        "I.enc": lambda: intra.analysis(picture, latent),
        "I.hyper_enc": lambda: intra.hyper_analysis(intra_y, semantic),
        "I.hyper_dec": lambda: hyper_synthesis.prior(hyper_synthesis(codes)),
        "I.y_prior_fusion": lambda: intra.prior(common),
        "I.reduction": lambda: intra.common(both),
        "I.adaptors x3": lambda: [adaptor(both) for adaptor in intra.pass_adaptors],
        "I.spatial x3": lambda: [intra.spatial_prior(both) for _ in range(3)],
        "I.semantic_adaptor": lambda: intra.tokens(hyper),
        "I.dec": lambda: intra.synthesis(intra_y, tokens),
    }


@pytest.mark.parametrize("size", ["512x512", "1920x1088"])
def test_work_is_the_published_systems(size, reference, full):
    counted = json.loads((reference.folder / "macs.json").read_text())[size]
    height, width = counted.pop("_padded_size")
    runs = parts(full, height, width)
    assert runs.keys() == counted.keys()
    for name, run in runs.items():
        macs = count(run)
        if name.startswith("UNet.") and "LoRA" in name:
            kind = "intra" if "iframe" in name else "inter"
            macs += adapters(getattr(full, f"{kind}_generator"), run)
        assert macs == pytest.approx(counted[name]["macs"], rel=1e-3), name
