"""A decoder whose floats differ: symbols are the same, pictures stay close (DESIGN §6)."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

import s2vc


class Noise:
    """Multiplies every output of a network's layers by 1 + strength · noise."""

    def __init__(self, model, strength):
        self.strength = strength
        self.draw = torch.Generator().manual_seed(1)
        self.calls = 0
        networks = (model.networks.codec, model.networks.generator)
        layers = [m for network in networks for m in network.modules() if not list(m.children())]
        self.hooks = [layer.register_forward_hook(self._hook) for layer in layers]
        transform = model.networks.codec.transform
        inverse = transform.inverse
        transform.inverse = lambda coefficients: self._hook(None, None, inverse(coefficients))

    def _hook(self, module, inputs, output):
        self.calls += 1
        return output * (1 + self.strength * torch.randn(output.shape, generator=self.draw))


@pytest.mark.parametrize("quality", [5, 32, 60])
def test_noise_in_every_layer_of_the_decoder(coding, psnr, quality):
    name, pictures = coding
    (height, width, _), count = pictures[0].shape, len(pictures)
    stream, shown = io.BytesIO(), []
    model = s2vc.load(name, device="cpu")
    with s2vc.Encoder(
        stream, width, height, model=model, quality=quality, keyint=1000, reconstruct=shown.append
    ) as encoder:
        for picture in pictures:
            encoder.write(picture)

    def decode(decoder):
        """The frames, and all symbols that the networks were given."""
        taken = []
        coding = decoder.model.networks.coding

        def noting(buffer, kind):
            step = coding(buffer, kind)
            take = step.take

            def note(name, values):
                taken.append((name, values.copy()))
                take(name, values)

            step.take = note
            return step

        decoder.model.networks.coding = noting
        return list(decoder), taken

    stream.seek(0)
    frames, symbols = decode(s2vc.Decoder(stream, model=s2vc.load(name, device="cpu")))
    assert all((f.picture == s.rgb).all() for f, s in zip(frames, shown, strict=True))

    other = s2vc.load(name, device="cpu")
    noise = Noise(other, 1e-3)
    stream.seek(0)
    frames, perturbed = decode(s2vc.Decoder(stream, model=other))
    assert noise.calls > 30 * count
    assert len(frames) == count and len(perturbed) == len(symbols) == 4 * count - 1
    for (name, values), (expected_name, expected) in zip(perturbed, symbols, strict=True):
        assert name == expected_name
        np.testing.assert_array_equal(values, expected)
    fidelity = [psnr(frame.picture, picture.rgb) for frame, picture in zip(frames, shown, strict=True)]
    assert min(fidelity) > 40, fidelity
