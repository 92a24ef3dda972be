"""One training step's forward pass for ``tiny``: T frames coded in turn, then the generator over all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from s2vc.nn.tiny.codec import Buffer
from s2vc.nn.tiny.entropy import gaussian_bits, next_memory, round_through, scale_of
from s2vc.nn.tiny.generator import Levels
from s2vc.nn.tiny.model import TinyModel


@dataclass
class State:
    """What slots carry from step to step, detached: buffer, entropy memory and diffusion buffer."""

    buffer: Buffer
    memory: Tensor
    levels: Levels


@dataclass
class Unrolled:
    """Pictures in levels (B, T, 3, h, w); bits (B, T) as coded, and their proxy with gradients."""

    x0: Tensor
    reference: Tensor
    bits: Tensor
    bits_proxy: Tensor
    feature: Tensor
    state: State


def initial_state(model: TinyModel, batch: int, height: int, width: int) -> State:
    buffer = model.codec.empty_buffer(batch, height, width)
    memory = torch.zeros(batch, model.config.latent, height // 16, width // 16)
    return State(buffer, memory, model.generator.empty_levels(batch, height, width))


def _checkerboard(like: Tensor) -> Tensor:
    c, y, x = (torch.arange(n, device=like.device) for n in like.shape[1:])
    return ((c[:, None, None] + y[:, None] + x) % 2 == 0)[None]


def _coded_bits(residual: Tensor, symbols: Tensor, index: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Bits (B,) as coded, and a proxy with useful gradients.

    The residual is driven by the mass around its value plus uniform noise, the scale by the symbols as they
    are coded: noise would teach it a spread that rounding does not have. Skipped positions still teach the
    index what their symbols would have cost, so a scale can come back above the threshold.
    """
    scale = scale_of(index)
    coded = mask & (index.detach() >= 1)
    hard = gaussian_bits(symbols.detach(), scale)
    noisy = residual + torch.rand_like(residual) - 0.5
    soft = gaussian_bits(noisy, scale.detach())
    counted = (hard.detach() * coded).flatten(1).sum(1)
    scale_term = (hard * mask).flatten(1).sum(1)
    symbol_term = (soft * coded).flatten(1).sum(1)
    proxy = counted + (scale_term - scale_term.detach()) + (symbol_term - symbol_term.detach())
    return counted, proxy


def _code_pass(y: Tensor, mean: Tensor, index: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One checkerboard pass: decoded latents and symbols (zero elsewhere), bits and their proxy (B,)."""
    residual = y - mean
    would_be = residual.round().clamp(-255, 255)
    coded = mask & (index.detach() >= 1)
    symbols = round_through(residual).clamp(-255, 255) * coded
    decoded = (symbols + mean) * mask
    bits, proxy = _coded_bits(residual, would_be, index, mask)
    return decoded, symbols.detach(), bits, proxy


def unroll(
    model: TinyModel,
    pictures: Tensor,
    motion: Tensor,
    intra: Tensor,
    reset: Tensor,
    quality: Tensor,
    state: State,
    autocast: bool,
) -> Unrolled:
    """pictures: float levels (B, T, 3, h, w); motion (B, T, h/16, w/16, 2); flags (B, T); quality (B,)."""
    codec = model.codec
    buffer, memory = state.buffer, state.memory
    references, features, bits, proxies = [], [], [], []
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        for t in range(pictures.shape[1]):
            x, first, fresh = pictures[:, t], intra[:, t], reset[:, t]
            opens = first[:, None, None, None]
            buffer = Buffer(torch.where(opens, 128.0, buffer.reference), buffer.feature)
            memory = memory * (~opens)
            context = codec.context(buffer, motion[:, t], first, fresh, quality)
            y = codec.analyse(x, context, first, quality)
            z = codec.hyper_analyse(y, context)
            z_hat = round_through(z)
            mean, hidden = codec.prior(z_hat, context)
            even = _checkerboard(y)
            with torch.autocast("cpu", enabled=False):
                z_index = model.entropy.hyper_soft(first, quality)[..., None, None].expand_as(z)
                every = torch.ones_like(z, dtype=torch.bool)
                z_bits, z_proxy = _coded_bits(z, z_hat, z_index.clamp(min=1), every)
                index0, trunk = model.entropy.first_pass(first, quality, z_hat, motion[:, t], memory)
                y0, symbols0, bits0, proxy0 = _code_pass(y, mean, index0, even)
            mean1 = codec.second_mean(hidden, y0)
            with torch.autocast("cpu", enabled=False):
                index1 = model.entropy.second_pass(trunk, symbols0)
                y1, symbols1, bits1, proxy1 = _code_pass(y, mean1, index1, ~even)
                # An I-frame leaves no memory, nor does a chunk's start: the model learns to live with that.
                memory = next_memory(memory, symbols0 + symbols1) * (~opens)
            buffer, _ = codec.synthesise(y0 + y1, context, first, quality)
            references.append(buffer.reference)
            features.append(buffer.feature)
            bits.append(z_bits + bits0 + bits1)
            proxies.append(z_proxy + proxy0 + proxy1)
        reference, feature = torch.stack(references, 1), torch.stack(features, 1)
        x0, levels = model.generator(feature, reference, intra, state.levels)
    kept = State(
        Buffer(buffer.reference.detach(), buffer.feature.detach()),
        memory.detach(),
        (levels[0].detach(), levels[1].detach(), levels[2].detach()),
    )
    return Unrolled(x0, reference, torch.stack(bits, 1), torch.stack(proxies, 1), feature, kept)
