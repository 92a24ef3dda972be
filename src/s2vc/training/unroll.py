"""One training step's forward pass for ``tiny``: T frames coded in turn, then the generator over all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

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


def count_bits(residual: Tensor, index: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Bits (N,) as coded of residuals (N, C, h, w) not yet rounded, and a proxy with useful gradients.

    index: of each position's table, not yet rounded down; below 1 a symbol is skipped. The residual is driven
    by the mass around its value plus uniform noise, the scale by the symbols as they are coded: noise would
    teach it a spread that rounding does not have. Skipped positions still teach the index what their symbols
    would have cost, so a scale can come back above the threshold.
    """
    scale = scale_of(index + (index.floor() - index).detach())  # a file's index is a whole number
    coded = index.detach() >= 1
    hard = gaussian_bits(residual.detach().round().clamp(-255, 255), scale)
    soft = gaussian_bits(residual + noise, scale.detach())
    counted = (hard.detach() * coded).flatten(1).sum(1)
    scale_term = hard.flatten(1).sum(1)
    symbol_term = (soft * coded).flatten(1).sum(1)
    proxy = counted + (scale_term - scale_term.detach()) + (symbol_term - symbol_term.detach())
    return counted, proxy


def _code_pass(residual: Tensor, mean: Tensor, index: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """One checkerboard pass: decoded latents and symbols, zero elsewhere."""
    coded = mask & (index.detach() >= 1)
    symbols = round_through(residual).clamp(-255, 255) * coded
    return (symbols + mean) * mask, symbols.detach()


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
    """One frame of B sequences: the next buffer and memory, and what its bits are counted from.

    That is y's residual and indices (B, latent, h/16, w/16), z and its indices (B, hyper, h/64, w/64).
    """
    codec, device = model.codec, picture.device.type
    opens = intra[:, None, None, None]
    buffer = replace(buffer, reference=torch.where(opens, 128.0, buffer.reference))
    memory = memory * (~opens)
    context = codec.context(buffer, motion, intra, reset, quality)
    y = codec.analyse(picture, context, intra, quality)
    z = codec.hyper_analyse(y, context)
    z_hat = round_through(z)
    mean0, hidden = codec.prior(z_hat, context)
    even = _checkerboard(y)
    with torch.autocast(device, enabled=False):
        z_index = model.entropy.hyper_soft(intra, quality)[..., None, None].expand_as(z).clamp(min=1)
        index0, trunk = model.entropy.first_pass(intra, quality, z_hat, motion, memory)
        y0, symbols0 = _code_pass(y - mean0, mean0, index0, even)
    mean1 = codec.second_mean(hidden, y0)
    with torch.autocast(device, enabled=False):
        index1 = model.entropy.second_pass(trunk, symbols0)
        y1, symbols1 = _code_pass(y - mean1, mean1, index1, ~even)
        residual = y - torch.where(even, mean0, mean1)
        index = torch.where(even, index0, index1)
        # An I-frame leaves no memory, nor does a chunk's start: the model learns to live with that.
        memory = next_memory(memory, symbols0 + symbols1) * (~opens)
    coded = (symbols0 + symbols1 != 0).any(1, keepdim=True)
    after, _ = codec.synthesise(y0 + y1, coded, context, intra, quality)
    return after, memory, [residual, index, z, z_index]


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
        residual, index, z, z_index = (
            torch.stack(parts, 1).flatten(0, 1) for parts in zip(*symbols, strict=True)
        )
        y_bits, y_proxy = count_bits(residual, index, latent_noise.flatten(0, 1))
        z_bits, z_proxy = count_bits(z, z_index, hyper_noise.flatten(0, 1))
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
