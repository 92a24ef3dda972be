"""The rate that the published system's authors report, of a file of ours (ARCHITECTURE §4.5, §5.3)."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean

import torch

from s2vc.bitstream import Chunk, Header, Packet
from s2vc.codec.base import BaseFrameModel
from s2vc.codec.base_frame import exact
from s2vc.codec.packets import read_packet
from s2vc.codec.protocol import FrameKind, Parts
from s2vc.codec.schedule import padded_size
from s2vc.errors import SymbolMismatchError
from s2vc.nn.base.intra import PASSES
from s2vc.nn.base.prior import fold, gaussian_bits


def reported_rate(model: BaseFrameModel, header: Header, chunks: Iterable[Chunk]) -> float:
    """Bits a pixel, the mean over frames: what published curves show, to be laid beside a file's true size.

    An I frame counts for the estimate of its y, without z, over the padded picture; a P frame for its bytes
    over the picture. Container and checksums do not count. Raises SymbolMismatchError.
    """
    height, width = padded_size(header.height, header.width, model.multiple)
    rates = []
    for chunk in chunks:
        for number, (packet, quality) in enumerate(zip(chunk.packets, chunk.qualities, strict=True)):
            if chunk.intra and number == 0:
                bits = _estimated_bits(model, packet, quality, (height, width), header.checksum_bytes)
                rates.append(bits / (height * width))
            else:
                rates.append(8 * len(packet.payload) / (header.height * header.width))
    return fmean(rates)


def _estimated_bits(
    model: BaseFrameModel, packet: Packet, quality: int, size: tuple[int, int], checksum_bytes: int
) -> float:
    """Of an I frame's y, by the densities themselves where the file has tables."""
    frame = model.symbols.frame(model.new_buffer(*size), FrameKind(intra=True, reset=False, quality=quality))
    bits = 0.0

    def counted() -> Parts:
        nonlocal bits
        parts = frame.parts()
        part = next(parts)
        while True:
            symbols = yield part
            if part.name != "z":
                scales = fold(frame.scales, frame.mask, PASSES)[0]
                values = torch.from_numpy(symbols).to(scales)
                bits += gaussian_bits(values, scales).sum(dtype=torch.float64).item()
            try:
                part = parts.send(symbols)
            except StopIteration:
                return

    with exact():
        read = read_packet(counted(), packet, checksum_bytes)
    if read is None:
        raise SymbolMismatchError(
            "an I frame reads differently here than where it was encoded: measure there"
        )
    return bits
