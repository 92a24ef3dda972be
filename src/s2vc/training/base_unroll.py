"""One training step's forward pass for ``base``: T frames coded and drawn in turn (ARCHITECTURE §2, §4, §5).

Rounding is straight through where pictures depend on it; the rate's gradient is taken at values plus uniform
noise, by the tail form that the published code kept (ARCHITECTURE §13).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from s2vc.nn.base.config import LATENT
from s2vc.nn.base.generator import FUSED_LEVELS
from s2vc.nn.base.inter import LIMIT
from s2vc.nn.base.prior import four_pass_masks, gaussian_bits, gaussian_training_bits, two_pass_masks
from s2vc.nn.blocks import round_through
from s2vc.training.base_networks import BaseNetworks, Weights
from s2vc.training.unroll import Noise

Bits: TypeAlias = tuple[Tensor, Tensor]
"""Bits (N,) as coded, and a proxy with useful gradients."""


@dataclass
class BaseState:
    """What B films carry from frame to frame: the picture buffer and TCG's.

    feature: (B, feature, h/8, w/8), of the last P-frame. x0: (B, 4, h/8, w/8), of the last frame. opened:
    bool (B,), whether that was an I-frame. levels: three, (B, width, …).
    """

    feature: Tensor
    x0: Tensor
    opened: NDArray[np.bool_]
    levels: list[Tensor]

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, for :meth:`of`."""
        opened = torch.from_numpy(self.opened).to(self.x0.device)
        levels = {f"level{number}": level for number, level in enumerate(self.levels)}
        return {"feature": self.feature, "x0": self.x0, "opened": opened, **levels}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> BaseState:
        levels = [tensors[f"level{number}"] for number in range(FUSED_LEVELS)]
        return cls(tensors["feature"], tensors["x0"], tensors["opened"].cpu().numpy().copy(), levels)

    def detached(self) -> BaseState:
        return BaseState(
            self.feature.detach(), self.x0.detach(), self.opened, [level.detach() for level in self.levels]
        )


def initial_base_state(
    model: BaseNetworks, films: int, height: int, width: int, device: torch.device | None = None
) -> BaseState:
    """What stands before an I-frame: nothing that it reads."""
    config, at8 = model.config, (height // 8, width // 8)
    levels = [
        torch.zeros(films, channels, at8[0] >> level, at8[1] >> level, device=device)
        for level, channels in enumerate(config.generator.widths[:FUSED_LEVELS], start=1)
    ]
    return BaseState(
        torch.zeros(films, config.inter.feature, *at8, device=device),
        torch.zeros(films, LATENT, *at8, device=device),
        np.zeros(films, np.bool_),
        levels,
    )


@dataclass
class BaseUnrolled:
    """Pictures in levels (B, T, 3, h, w), of latents (B, T, 4, h/8, w/8); bits (B, T); tokens (B, T, token,
    h/64, w/64).
    """

    x0: Tensor
    latents: Tensor
    bits: Tensor
    bits_proxy: Tensor
    tokens: Tensor
    state: BaseState

    @property
    def reference(self) -> Tensor:
        """``base`` has no reference pictures beside those that are shown."""
        return self.x0.detach()


def _pass(values: Tensor, parameters: Tensor, mask: Tensor, noise: Tensor) -> tuple[Tensor, Bits]:
    """One pass of y (N, C, h, w): decoded values, zero outside the mask, and its bits."""
    with torch.autocast(values.device.type, enabled=False):
        scales, means = parameters.float().chunk(2, dim=1)
        residual = values.float() - means
        symbols = round_through(residual)
        hard = gaussian_bits(symbols.detach(), scales.detach()) * mask
        soft = gaussian_training_bits(residual + noise[:, : values.shape[1]], scales) * mask
        return (symbols + means) * mask, (hard.flatten(1).sum(1), soft.flatten(1).sum(1))


def _sum(*bits: Bits) -> Bits:
    hard, soft = zip(*bits, strict=True)
    return torch.stack(hard).sum(0), torch.stack(soft).sum(0)


def code_intra(model: BaseNetworks, picture: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Bits]:
    """I-frames (N, 3, h, w) in [-1, 1]: the generator's input, tokens, bits (z's are fixed).

    noise: (N, latent, h/16, w/16).
    """
    codec = model.intra
    with torch.no_grad(), torch.autocast(picture.device.type, enabled=False):
        latent = model.vae.encode(picture)
    y, semantic = codec.analysis(picture, latent)
    hyper = codec.hyper_synthesis(codec.quantiser.through(codec.hyper_analysis(y, semantic)))
    parameters, common = codec.first_parameters(hyper)
    decoded = torch.zeros_like(y, dtype=torch.float32)
    bits = []
    for number, mask in enumerate(four_pass_masks(*y.shape[1:], device=y.device)):
        if number:
            parameters = codec.next_parameters(number, decoded, common)
        more, cost = _pass(y, parameters, mask, noise)
        decoded = decoded + more
        bits.append(cost)
    fixed = math.log2(codec.quantiser.codes) * semantic.shape[-2] * semantic.shape[-1]
    hard, soft = _sum(*bits)
    tokens = codec.tokens(hyper)
    return codec.synthesis(decoded, tokens), tokens, (hard + fixed, soft)


def code_inter(
    model: BaseNetworks,
    picture: Tensor,
    feature: Tensor,
    x0: Tensor,
    reset: Tensor,
    noise: Tensor,
    hyper_noise: Tensor,
) -> tuple[Tensor, Bits]:
    """P-frames (N, 3, h, w) in [-1, 1] on the buffer's two entries: features (N, feature, h/8, w/8), bits.

    reset: bool (N,), films that read x0. noise, hyper_noise: as ``Noise`` of one frame.
    """
    codec = model.inter
    # Both adaptors for all: films of a batch reset at different times, and these two are the small part.
    adapted = torch.where(reset[:, None, None, None], codec.reset_adaptor(x0), codec.feature_adaptor(feature))
    context = codec.context(adapted)
    prior_context = codec.prior_context(context)
    y = codec.analysis(codec.embedding(picture), context)
    z = codec.hyper_analysis(y)
    with torch.autocast(z.device.type, enabled=False):
        z = z.float()
        symbols = round_through(z).clamp(-LIMIT, LIMIT - 1)
        z_hard = codec.hyper_prior.bits(symbols.detach()).flatten(1).sum(1).detach()
        z_soft = codec.hyper_prior.bits(z + hyper_noise).flatten(1).sum(1)
    parameters = codec.first_parameters(symbols, prior_context).float()
    steps = codec.steps(parameters)
    scaled = y.float() / steps
    masks = two_pass_masks(*y.shape[1:], device=y.device)
    decoded, first = _pass(scaled, parameters[:, codec.config.latent :], masks[0], noise)
    more, second = _pass(scaled, codec.next_parameters(decoded, parameters), masks[1], noise)
    feature = codec.synthesis((decoded + more) * steps, context)
    return feature.float(), _sum((z_hard, z_soft), first, second)


def _put(into: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    """``into`` with other rows, and their gradients."""
    return into.index_copy(0, rows, values.to(into.dtype))


class BaseFrames:
    """T frames of B films, coded and drawn in turn.

    ``cascade``: a frame's loss reaches the frames before it through both buffers (paper §3.4); otherwise each
    frame learns for itself. ``checkpointing``: activations of codec, generator and autoencoder are computed
    again for their gradients.
    """

    def __init__(self, model: BaseNetworks, *, autocast: bool, cascade: bool, checkpointing: bool) -> None:
        self.model, self.autocast, self.cascade = model, autocast, cascade
        self.checkpointing = checkpointing

    def _run(self, function, *given):  # type: ignore[no-untyped-def]
        if self.checkpointing:
            return checkpoint(function, *given, use_reentrant=False, preserve_rng_state=False)
        return function(*given)

    def __call__(
        self,
        pictures: Tensor,
        intra: NDArray[np.bool_],
        reset: NDArray[np.bool_],
        noise: Noise,
        state: BaseState,
    ) -> BaseUnrolled:
        """pictures: float levels (B, T, 3, h, w), sides multiples of 64; intra, reset: (B, T)."""
        source = pictures / 127.5 - 1
        shown, latents, bits, proxies, tokens = [], [], [], [], []
        with torch.autocast(pictures.device.type, torch.bfloat16, enabled=self.autocast):
            weights = {kind: self.model.merged(kind) for kind in (True, False)}
            for t in range(pictures.shape[1]):
                of_frame = Noise(noise.latent[:, t], noise.hyper[:, t])
                found = self._frame(weights, source[:, t], intra[:, t], reset[:, t], of_frame, state)
                state, hard, soft, guidance = found
                with torch.autocast(pictures.device.type, enabled=False):  # as OneDC trained
                    decoded = self._run(self.model.vae.decode, state.x0)
                shown.append((decoded + 1) * 127.5)
                latents.append(state.x0)
                bits.append(hard)
                proxies.append(soft)
                tokens.append(guidance)
                if not self.cascade:
                    state = state.detached()
        x0, drawn, hard, soft, guidance = (
            torch.stack(parts, 1) for parts in (shown, latents, bits, proxies, tokens)
        )
        return BaseUnrolled(x0, drawn, hard, soft, guidance, state.detached())

    def _frame(
        self,
        weights: dict[bool, Weights],
        picture: Tensor,
        intra: NDArray[np.bool_],
        reset: NDArray[np.bool_],
        noise: Noise,
        state: BaseState,
    ) -> tuple[BaseState, Tensor, Tensor, Tensor]:
        """The state after a frame of each film; bits (B,), their proxy, tokens (B, token, h/64, w/64)."""
        model, device = self.model, picture.device
        films, _, height, width = picture.shape
        bits = picture.new_zeros(films)
        proxy = picture.new_zeros(films)
        tokens = picture.new_zeros(films, model.token_width, height // 64, width // 64)
        feature, x0, levels = state.feature, state.x0, list(state.levels)
        for opens in (True, False):
            which = np.flatnonzero(intra == opens)
            if not len(which):
                continue
            rows = torch.from_numpy(which).to(device)
            if opens:
                drawn, guidance, (hard, soft) = self._run(
                    code_intra, model, picture[rows], noise.latent[rows]
                )
                before = [torch.zeros_like(level[rows]) for level in levels]
            else:
                # The frame behind an I-frame resets whatever the period.
                resets = torch.from_numpy(reset[which] | state.opened[which]).to(device)
                given = (picture[rows], feature[rows], state.x0[rows], resets)
                coded, (hard, soft) = self._run(
                    code_inter, model, *given, noise.latent[rows], noise.hyper[rows]
                )
                feature = _put(feature, rows, coded)
                drawn, guidance = model.inter.pixel_head(coded), model.inter.token_head(coded)
                before = [level[rows] for level in levels]
            latent, after = self._run(model.draw, opens, weights[opens], drawn, guidance, before)
            x0 = _put(x0, rows, latent)
            levels = [_put(level, rows, new) for level, new in zip(levels, after, strict=True)]
            bits, proxy = _put(bits, rows, hard), _put(proxy, rows, soft)
            tokens = _put(tokens, rows, guidance)
        return BaseState(feature, x0, intra.copy(), levels), bits, proxy, tokens
