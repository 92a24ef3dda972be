"""Merged adapters against adapters that run beside their layers, as the published system runs them."""

from __future__ import annotations

import pytest
from torch.nn import functional as F


def run_beside(network, frames, config, read):
    """Take the adapters out of the weights and hang them beside the layers."""
    from torch import nn

    from s2vc.models.published import adapted_layers

    scale = config.generator.alpha / config.generator.rank

    def hook_of(layer, down, up):
        def hook(module, arguments, output):
            if isinstance(module, nn.Linear):
                return output + scale * F.linear(F.linear(arguments[0], down), up)
            inner = F.conv2d(arguments[0], down, stride=module.stride, padding=module.padding)
            return output + scale * F.conv2d(inner, up)

        return layer.register_forward_hook(hook)

    for name in adapted_layers(network):
        layer = network.get_submodule(name)
        layer.weight.data = read(f"generator.{name}.weight")
        adapter = f"adapters.{frames}.{name}"
        hook_of(layer, read(f"{adapter}.down"), read(f"{adapter}.up"))


@pytest.mark.conformance
@pytest.mark.parametrize("frames", ["intra", "inter"])
def test_merging_changes_outputs_by_float_noise_only(frames, reference, release):
    from s2vc.models.published_loading import build

    config, read = release
    network = build(config, read, f"{frames}_generator")
    first, second = (reference.vectors(case) for case in reference.cases[:2])
    if frames == "intra":
        inputs = first["unet.x_T.in"], first["i.y_semantic"]
    else:
        previous = [first[f"dpb.ref_unet_feature_{i}"] for i in range(3)]
        inputs = second["unet.x_T.in"], second["p.f_semantic"], previous

    merged = network(*inputs)[0]
    run_beside(network, frames, config, read)
    beside = network(*inputs)[0]
    assert 0 < (merged - beside).abs().max() <= 1e-5 * beside.abs().max()
