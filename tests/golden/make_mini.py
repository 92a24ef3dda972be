"""Made ``mini.safetensors`` once: a model with every part of ``tiny``, at widths that tests can afford.

Its weights are drawn, not trained: near the starting point of training, but no layer is zero, so that every
path counts, and the entropy model's indices span its tables from skip to the widest. Files that tests keep
depend on the bytes of ``mini.safetensors``: it is never made anew (``tests/models`` holds its SHA-256).

    python tests/golden/make_mini.py OUT.safetensors
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import torch

from s2vc.models.files import write_model
from s2vc.nn.tiny.config import TinyConfig
from s2vc.nn.tiny.entropy import EntropyTwin
from s2vc.nn.tiny.model import TinyModel
from s2vc.training.export import model_tensors

MINI = TinyConfig(
    latent=16,
    hyper=4,
    width8=12,
    width16=12,
    prior16=12,
    unet16=12,
    unet32=12,
    token=12,
    renderer=8,
    knots=4,
    entropy_trunk=12,
    entropy_first=8,
)

# Spread of the layers that training finds at zero, chosen by what they move: means by a part of a symbol, the
# reference picture and the shown one by a few levels.
SPREAD = {
    "codec.encoder_out": 0.003,
    "codec.mean0": 0.05,
    "codec.mean1": 0.05,
    "codec.reference_out": 0.002,
    "generator.out": 0.01,
    "generator.attention.out": 0.1,
    "generator.guidance.0.out": 0.2,
    "generator.guidance.1.out": 0.2,
    "generator.guidance.2.out": 0.2,
}


def make() -> TinyModel:
    """The mini model, the same on every run."""
    torch.manual_seed(11)
    model = TinyModel(MINI).eval()
    with torch.no_grad():
        for name, spread in SPREAD.items():
            for parameter in model.get_submodule(name).parameters():
                parameter.normal_(std=spread)
        for curve in (model.codec.encoder_step, model.codec.decoder_step):
            curve.log_step += 0.05 * torch.randn_like(curve.log_step)
        _spread_tables(model.entropy)
    return model


def _spread_tables(twin: EntropyTwin) -> None:
    """Indices that fit the coefficients roughly: wide for low frequencies, falling to skip."""
    latent = MINI.latent
    falling = torch.linspace(46.0, -4.0, latent)
    quality = latent + MINI.hyper + 3  # the plane that holds twice the quality
    for head in (twin.head0, twin.head1):
        head.weight.mul_(0.6)
        head.bias.copy_(falling + 3 * torch.randn(latent))
        for channel in range(latent):  # what a channel held before says most about it
            head.weight[channel, MINI.entropy_trunk + channel] = 0.25
    twin.trunk0.weight[:8, quality, 1, 1] = 0.3
    twin.hyper_index.copy_(torch.rand_like(twin.hyper_index) * 30 + 8)


def main() -> None:
    """Write the file named on the command line."""
    target = Path(sys.argv[1])
    if target.exists():
        raise SystemExit(f"{target} exists: tests depend on its bytes")
    tensors = model_tensors(make())
    del tensors["entropy.codes.groups"]  # mini stands for models from before there were codes
    write_model(target, "tiny", "mini-1", asdict(MINI), tensors)


if __name__ == "__main__":
    main()
