"""One training step's forward pass for ``tiny``: T frames coded in turn, then the generator over all.

Frames are coded as the encoder codes them, with its rounding and without the blocks that it leaves alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from s2vc.codec import quantise
from s2vc.entropy.tables import Tables, default_scales
from s2vc.nn.blocks import round_through
from s2vc.nn.motion import BLOCK, constant
from s2vc.nn.tiny.codec import Buffer, Context
from s2vc.nn.tiny.entropy import TABLES, gaussian_bits, next_memory, scale_of
from s2vc.nn.tiny.generator import Levels
from s2vc.nn.tiny.model import TinyModel


@dataclass
class State:
    """What slots carry from step to step, detached: buffer, entropy memory and diffusion buffer."""

    buffer: Buffer
    memory: Tensor
    levels: Levels

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, for :meth:`of`; the buffer's come last."""
        at8, at16, at32 = self.levels
        return {"memory": self.memory, "at8": at8, "at16": at16, "at32": at32, **self.buffer.tensors()}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> State:
        buffer = Buffer.of({k: v for k, v in tensors.items() if k not in ("memory", "at8", "at16", "at32")})
        return cls(buffer, tensors["memory"], (tensors["at8"], tensors["at16"], tensors["at32"]))


@dataclass
class Unrolled:
    """Pictures in levels (B, T, 3, h, w); bits (B, T) as coded, and their proxy with gradients."""

    x0: Tensor
    reference: Tensor
    bits: Tensor
    bits_proxy: Tensor
    feature: Tensor
    state: State


@dataclass
class Noise:
    """Uniform noise in [−½, ½) that stands for rounding where the rate's gradient is taken.

    latent: (B, T, latent, h/16, w/16); hyper: (B, T, hyper, h/64, w/64), rounded up.
    """

    latent: Tensor
    hyper: Tensor


def noise_shapes(model: TinyModel, frames: int, crop: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of one sample's noise: latent and hyper."""
    c, at16, at64 = model.config, crop // 16, -(-crop // 64)
    return (frames, c.latent, at16, at16), (frames, c.hyper, at64, at64)


def initial_state(
    model: TinyModel, batch: int, height: int, width: int, device: torch.device | None = None
) -> State:
    buffer = model.codec.empty_buffer(batch, height, width, device)
    memory = torch.zeros(batch, model.config.latent, height // 16, width // 16, device=device)
    return State(buffer, memory, model.generator.empty_levels(batch, height, width, device))


def _checkerboard(like: Tensor) -> Tensor:
    c, y, x = (torch.arange(n, device=like.device) for n in like.shape[1:])
    return ((c[:, None, None] + y[:, None] + x) % 2 == 0)[None]


def count_bits(
    residual: Tensor, symbols: Tensor, index: Tensor, kept: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Bits (N,) as coded of symbols (N, C, h, w), and a proxy with useful gradients.

    residual: what was rounded to them. index: of each position's table, not yet rounded down; below 1 a
    symbol is skipped. kept: bool (N, 1, h, w), blocks that the encoder codes. The residual is driven by the
    mass around its value plus uniform noise, the scale by the symbols as they are coded: noise would teach it
    a spread that rounding does not have. Skipped positions still teach the index what their symbols would
    have cost, so a scale can come back above the threshold.
    """
    scale = scale_of(index + (index.floor() - index).detach())  # a file's index is a whole number
    coded = index.detach() >= 1
    hard = gaussian_bits(symbols, scale)
    soft = gaussian_bits(residual + noise, scale.detach())
    counted = (hard.detach() * coded).flatten(1).sum(1)
    scale_term = hard.flatten(1).sum(1)
    symbol_term = (soft * (coded & kept)).flatten(1).sum(1)
    proxy = counted + (scale_term - scale_term.detach()) + (symbol_term - symbol_term.detach())
    return counted, proxy


def _thresholds(kappa: float) -> Tensor:
    return torch.from_numpy(quantise.thresholds(Tables.gaussian(default_scales()), kappa))


def _rounded(residual: Tensor, index: Tensor) -> Tensor:
    """Whole numbers as the encoder rounds (:mod:`s2vc.codec.quantise`), all as if coded."""
    table = constant(residual.device, _thresholds, quantise.KAPPA)
    magnitude = residual.abs()
    whole = magnitude.floor()
    few = whole < quantise.LARGEST  # so that what is not a number comes through, and stops the run by name
    row = torch.where(index >= 1, index, 1.0).clamp(max=TABLES - 1).long()
    threshold = torch.where(few, table[row, torch.where(few, whole, 0.0).long()], 0.5)
    return (residual.sign() * (whole + (magnitude - whole >= threshold))).clamp(-255, 255)


@dataclass
class _Latents:
    """What two checkerboard passes made of y, (B, latent, h/16, w/16): decoded latents and their symbols.

    residual: what was rounded. rounded: to what, skipped positions too. index: of tables, not rounded down.
    """

    decoded: Tensor
    symbols: Tensor
    residual: Tensor
    rounded: Tensor
    index: Tensor


class _Passes:
    """Both passes over a frame's latents, as often as the encoder tries them."""

    def __init__(
        self,
        model: TinyModel,
        y: Tensor,
        z: Tensor,
        context: Context,
        motion: Tensor,
        intra: Tensor,
        quality: Tensor,
        memory: Tensor,
    ) -> None:
        self.model, self.y, self.even = model, y, _checkerboard(y)
        self.mean, self.hidden = model.codec.prior(z, context)
        with torch.autocast(y.device.type, enabled=False):
            self.index, self.trunk = model.entropy.first_pass(intra, quality, z, motion, memory)

    def __call__(self, kept: Tensor) -> _Latents:
        """kept: bool (B, 1, h/16, w/16), the blocks that are coded; the others' symbols are zero."""
        device, even = self.y.device.type, self.even
        with torch.autocast(device, enabled=False):
            decoded, symbols, rounded = self._code(self.mean, self.index, even, kept)
        mean = self.model.codec.second_mean(self.hidden, decoded)
        with torch.autocast(device, enabled=False):
            index = self.model.entropy.second_pass(self.trunk, symbols)
            second = self._code(mean, index, ~even, kept)
            return _Latents(
                decoded + second[0],
                symbols + second[1],
                self.y - torch.where(even, self.mean, mean),
                torch.where(even, rounded, second[2]),
                torch.where(even, self.index, index),
            )

    def _code(self, mean: Tensor, index: Tensor, mask: Tensor, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Decoded latents and symbols of one pass, zero elsewhere; symbols of all that are kept."""
        residual = self.y - mean
        rounded = _rounded(residual.detach(), index.detach()) * kept
        coded = mask & kept & (index.detach() >= 1)
        symbols = rounded * coded
        through = (residual - residual.detach()) * coded  # zero, with the residual's gradient
        return (symbols + through + mean) * mask, symbols, rounded


@torch.no_grad()
def _worth_coding(
    model: TinyModel, picture: Tensor, context: Context, passes: _Passes, intra: Tensor, quality: Tensor
) -> Tensor:
    """Blocks (B, 1, h/16, w/16) that the encoder codes: as ``TinyAnalysis._worth_coding`` finds them."""
    everything = torch.ones_like(intra[:, None, None, None]).expand(-1, -1, *context.at16.shape[2:])
    tried = passes(everything)
    scale = scale_of(tried.index.floor())
    bits = gaussian_bits(tried.symbols, scale) - gaussian_bits(torch.zeros_like(scale), scale)
    bits = (bits * (tried.index >= 1)).sum(1, keepdim=True)
    coded = (tried.symbols != 0).any(1, keepdim=True)
    unfollowed = replace(context, origin=None)  # it tells nothing of this frame
    after, _ = model.codec.synthesise(tried.decoded, coded, unfollowed, intra, quality)
    bought = _block_errors(context.prediction, picture) - _block_errors(after.reference, picture)
    step = model.codec.decoder_step(intra, quality).log().mean(1, keepdim=True).exp()
    return intra[:, None, None, None] | (bought > quantise.BLOCK_PRICE * step**2 * bits)


def _block_errors(picture: Tensor, source: Tensor) -> Tensor:
    """Sums of squared differences over each block, (B, 1, h/16, w/16)."""
    return F.avg_pool2d((picture - source).square().sum(1, keepdim=True), BLOCK) * BLOCK**2


def code_frame(
    model: TinyModel,
    picture: Tensor,
    motion: Tensor,
    intra: Tensor,
    reset: Tensor,
    quality: Tensor,
    memory: Tensor,
    buffer: Buffer,
) -> tuple[Buffer, Tensor, list[Tensor]]:
    """One frame of B sequences as it is coded: the next buffer and memory, and what bits are counted from.

    That is of y (B, latent, h/16, w/16) residual, symbols, indices and which blocks are coded; then z and its
    indices (B, hyper, h/64, w/64).
    """
    codec, device = model.codec, picture.device.type
    opens = intra[:, None, None, None]
    buffer = replace(buffer, reference=torch.where(opens, 128.0, buffer.reference))
    memory = memory * (~opens)
    context = codec.context(buffer, motion, intra, reset, quality)
    y = codec.analyse(picture, context, intra, quality)
    z = codec.hyper_analyse(y, context)
    passes = _Passes(model, y, round_through(z), context, motion, intra, quality, memory)
    # Old versions of torch would keep bfloat16 weights without gradients for what follows.
    with torch.autocast(device, torch.bfloat16, torch.is_autocast_enabled(device), cache_enabled=False):
        kept = _worth_coding(model, picture, context, passes, intra, quality)
    latents = passes(kept)
    with torch.autocast(device, enabled=False):
        z_index = model.entropy.hyper_soft(intra, quality)[..., None, None].expand_as(z).clamp(min=1)
        # An I-frame leaves no memory, nor does a chunk's start: the model learns to live with that.
        memory = next_memory(memory, latents.symbols) * (~opens)
    coded = (latents.symbols != 0).any(1, keepdim=True)
    after, _ = codec.synthesise(latents.decoded, coded, context, intra, quality)
    return after, memory, [latents.residual, latents.rounded, latents.index, kept, z, z_index]


class Frames(nn.Module):
    """T frames of B sequences, coded in turn, then shown by the generator: tensors in, tensors out.

    ``cascade``: a frame's loss reaches the frames before it through feature buffer and diffusion buffer
    (paper §3.4); otherwise each frame learns for itself. ``checkpointing``: a frame's activations are
    computed again for its gradient. ``code``: ``code_frame``, or what it was compiled to.
    """

    def __init__(
        self,
        model: TinyModel,
        *,
        autocast: bool,
        cascade: bool = True,
        checkpointing: bool = False,
        code: Callable[..., tuple[Buffer, Tensor, list[Tensor]]] = code_frame,
    ) -> None:
        super().__init__()
        self.model, self.code = model, code
        self.autocast, self.cascade, self.checkpointing = autocast, cascade, checkpointing
        self.names = list(initial_state(model, 1, 16, 16).tensors())

    def forward(
        self,
        pictures: Tensor,
        motion: Tensor,
        intra: Tensor,
        reset: Tensor,
        quality: Tensor,
        latent_noise: Tensor,
        hyper_noise: Tensor,
        *state: Tensor,
    ) -> tuple[Tensor, ...]:
        """Pictures, references, bits, their proxy and features; then the state the next step begins with."""
        # ``state``: tensors in the order of ``State.tensors``, which is what a graph can be given.
        before = State.of(dict(zip(self.names, state, strict=True)))
        buffer, memory = before.buffer, before.memory
        references, features, symbols = [], [], []
        with torch.autocast(pictures.device.type, torch.bfloat16, enabled=self.autocast):
            for t in range(pictures.shape[1]):
                given = (
                    *(pictures[:, t], motion[:, t], intra[:, t], reset[:, t], quality[:, t]),
                    *(memory, buffer),
                )
                if self.checkpointing:
                    coded = checkpoint(
                        self.code, self.model, *given, use_reentrant=False, preserve_rng_state=False
                    )
                else:
                    coded = self.code(self.model, *given)
                buffer, memory, rest = coded
                references.append(buffer.reference)
                features.append(buffer.feature)
                symbols.append(rest)
                if not self.cascade:
                    buffer = replace(
                        buffer, reference=buffer.reference.detach(), feature=buffer.feature.detach()
                    )
            shown, kept = torch.stack(features, 1), torch.stack(references, 1)
            x0, levels = _show(self.model, shown, kept, intra, before.levels, self.cascade)
        # All frames at once: the arithmetic is small and made of many steps.
        residual, rounded, index, kept_blocks, z, z_index = (
            torch.stack(parts, 1).flatten(0, 1) for parts in zip(*symbols, strict=True)
        )
        y_bits, y_proxy = count_bits(residual, rounded, index, kept_blocks, latent_noise.flatten(0, 1))
        whole = z.detach().round().clamp(-255, 255)
        all_of_z = torch.ones_like(z[:, :1], dtype=torch.bool)
        z_bits, z_proxy = count_bits(z, whole, z_index, all_of_z, hyper_noise.flatten(0, 1))
        shape = pictures.shape[:2]
        bits, proxy = (y_bits + z_bits).reshape(shape), (y_proxy + z_proxy).reshape(shape)
        return x0, kept, bits, proxy, shown, *State(buffer, memory, levels).tensors().values()


def _tensors(*given: Tensor | State | Noise) -> list[Tensor]:
    """The tensors of ``unroll``'s arguments, one by one, as ``Frames`` takes them."""
    flat: list[Tensor] = []
    for one in given:
        if isinstance(one, Noise):
            flat += [one.latent, one.hyper]
        elif isinstance(one, State):
            flat += one.tensors().values()
        else:
            flat.append(one)
    return flat


def captured(frames: Frames, *example: Tensor | State | Noise) -> nn.Module:
    """``frames`` as two CUDA graphs, forward and backward, for arguments of ``unroll`` of these shapes.

    A step is ten thousand small kernels, which a GPU computes faster than Python asks for them.
    """
    copies = tuple(tensor.clone() for tensor in _tensors(*example))
    torch.cuda.make_graphed_callables(frames, copies, allow_unused_input=True)  # type: ignore[no-untyped-call]
    return frames  # whose forward it has replaced


def unroll(
    frames: nn.Module,
    pictures: Tensor,
    motion: Tensor,
    intra: Tensor,
    reset: Tensor,
    quality: Tensor,
    noise: Noise,
    state: State,
) -> Unrolled:
    """What ``frames`` (:class:`Frames`, or a graph of it) makes of a step's batch.

    pictures: float levels (B, T, 3, h, w); motion (B, T, h/16, w/16, 2); flags and quality (B, T).
    """
    given = _tensors(pictures, motion, intra, reset, quality, noise, state)
    x0, kept, bits, proxy, shown, *after = frames(*given)
    detached = {name: tensor.detach() for name, tensor in zip(state.tensors(), after, strict=True)}
    return Unrolled(x0, kept, bits, proxy, shown, State.of(detached))


def _show(
    model: TinyModel, feature: Tensor, reference: Tensor, intra: Tensor, levels: Levels, cascade: bool
) -> tuple[Tensor, Levels]:
    if cascade:
        return model.generator(feature, reference, intra, levels)  # type: ignore[no-any-return]
    pictures = []
    for t in range(intra.shape[1]):
        window = slice(t, t + 1)
        x0, (at8, at16, at32) = model.generator(
            feature[:, window], reference[:, window], intra[:, window], levels
        )
        levels = (at8.detach(), at16.detach(), at32.detach())
        pictures.append(x0)
    return torch.cat(pictures, 1), levels
