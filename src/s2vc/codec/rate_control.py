"""Rate control: frames' bits in, qualities out (docs/rate-control.md). Numbers only, no torch.

Qualities are those of key frames; the encoder gives a frame between two of them its own (``Layer``).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from s2vc.codec.bits_model import FRAMING_BITS, QUALITIES, Bits, inter_bits, quality_at
from s2vc.codec.layers import Layer
from s2vc.codec.rate_plans import CodedFrame, Plan

LARGEST_STEP = 2  # quality moves by so much from one P-frame to the next
LARGEST_INTRA_STEP = 6
_HYSTERESIS = 0.75  # a change costs bits and shows: the quality stays until the one wanted is so far away
_TRIES = 5
_SECOND_THOUGHT = 2.0  # an I-frame is coded anew where its cost moves the quality wanted by so much
_MOST_THOUGHTS = 3
_PAIR_DOUBT = 0.5  # of two tries of one frame: nothing but the quality differs
_CALM = 0.4  # of the bucket: where constant cost holds its level, so that an I-frame finds room
_CAUTION_INTRA = 1.3  # on what an I-frame yet to come would take
_SHORTEST_SCENE = 0.5  # seconds
_LEAST_SHARE = 0.5  # of the room: for an I-frame, whatever another may take
_CAUTION = 1.05  # on what is left for later frames under a cap
_FILL = 0.85  # of what fits: what a frame is planned to take, since estimates err


class QualityControl(Protocol):
    """What the encoder's state machine asks before and tells after each frame."""

    def choose(self, intra: bool, time: int) -> int:
        """The quality, 0 to 63, that the frame at ``time`` ticks has if it is a key frame."""

    def coded(self, payload_bits: int) -> int | None:
        """What the frame cost; None: it stands, else the quality, of a key frame, to code it at instead."""

    def known(self, quality: int, payload_bits: int) -> None:
        """The frame was coded by an earlier run that took the same choices."""

    def container(self, bits: int) -> None:
        """A chunk was written: all its bits but the payloads'."""


class LeakyBucket:
    """What a link of constant rate has still to carry: frames pour in, ``rate`` bits a second leak out.

    ``size`` bits are its rim. It is empty at first, and never holds less than nothing. A receiver that starts
    to show size / rate seconds after the first bit came never waits.
    """

    def __init__(self, rate: float, size: float) -> None:
        self.rate, self.size = rate, size
        self.level = 0.0
        self._time: float | None = None

    def drain_to(self, time: float) -> None:
        """Let time pass, seconds."""
        if self._time is not None:
            self.level = max(0.0, self.level - self.rate * (time - self._time))
        self._time = time

    @property
    def room(self) -> float:
        """Bits that still fit."""
        return self.size - self.level

    def pour(self, bits: float) -> bool:
        """Add a frame; False if it spilt."""
        self.level += bits
        return self.level <= self.size


def smooth(wanted: float, before: int | None, intra: bool) -> int:
    """The quality nearest to the one wanted, 0 … 63, that the frame before (None: there is none) allows."""
    if before is None:
        return int(np.clip(round(wanted), 0, QUALITIES - 1))
    if abs(wanted - before) < _HYSTERESIS:
        return before
    return round(_within_a_step(wanted, before, intra))


def _within_a_step(wanted: float, before: int | None, intra: bool) -> float:
    if before is None:
        return wanted
    step = LARGEST_INTRA_STEP if intra else LARGEST_STEP
    return float(np.clip(wanted, before - step, before + step))


class RateControl:
    """A plan, held to a smooth quality, a bucket and a total that must not be exceeded.

    frame_seconds: a frame lasts, about. tick: seconds a tick of the frames' times. bucket: of a live link.
    cap: bits of all frames, framing included, that must not be exceeded. intra_only: quality changes at
    I-frames alone (``base``).

    After the last frame ``violations`` counts frames that spilt or went over the cap at the lowest quality
    there was, ``spent`` is all bits, and ``frames`` and ``closing`` (the container's bits behind the last
    frame that its framing did not count) hold what the next pass needs.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        frame_seconds: float,
        tick: float,
        bucket: LeakyBucket | None = None,
        cap: float | None = None,
        intra_only: bool = False,
    ) -> None:
        self.plan, self.bucket, self.cap, self.intra_only = plan, bucket, cap, intra_only
        self.frames: list[CodedFrame] = []
        self.violations = 0
        self.closing = 0.0
        self._frame_seconds, self._tick = frame_seconds, tick
        self.spent = 0.0
        self._framed = 0  # frames whose chunk is not written yet
        self._current: int | None = None
        self._before: int | None = None  # the quality of the frame before
        self._since_intra = -1
        self._layer = Layer.INTRA
        self._tried: dict[int, float] = {}

    def choose(self, intra: bool, time: int) -> int:
        seconds = time * self._tick
        if self.bucket is not None:
            self.bucket.drain_to(seconds)
        self._since_intra = 0 if intra else self._since_intra + 1
        self._layer, self._tried = Layer.of(self._since_intra, self.plan.period), {}
        wanted = self.plan.wanted(intra, seconds)
        if self.bucket is not None:
            wanted = min(wanted, self._bucket_quality(intra))
        if self.intra_only and not intra and self._current is not None:
            wanted = self._current
        self._before = self._current
        quality = smooth(wanted, self._before, intra)
        self._current = min(quality, self._fitting(self.plan.frame_bits(self._layer), quality))
        return self._current

    def _bucket_quality(self, intra: bool) -> float:
        """The quality at which the bucket comes to a calm level within the time that it takes to leak out (in
        half of it from above), and then has room for an I-frame: a scene may end at any time."""
        assert self.bucket is not None
        bucket = self.bucket
        if intra:
            return quality_at(self.plan.frame_bits(Layer.INTRA), _FILL * self._intra_room)
        calm = min(_CALM * bucket.size, max(0.0, bucket.size - self._reserve))
        seconds = bucket.size / bucket.rate * (0.5 if bucket.level > calm else 1.0)
        frames = max(8.0, seconds / self._frame_seconds)
        leaks = bucket.rate * self._frame_seconds * frames
        costs = inter_bits(self.plan.frame_bits, self.plan.period)
        return quality_at(frames * costs, leaks + calm - bucket.level)

    @property
    def _reserve(self) -> float:
        """Bits of the bucket for the next I-frame at the lowest quality."""
        return _CAUTION_INTRA * float(self.plan.frame_bits(Layer.INTRA)[0])

    @property
    def _intra_room(self) -> float:
        """What an I-frame may take: the next one is to fit behind the shortest scene."""
        assert self.bucket is not None
        spare = self.bucket.room - self._reserve + self.bucket.rate * _SHORTEST_SCENE
        return min(self.bucket.room, max(spare, _LEAST_SHARE * self.bucket.room))

    @property
    def _room(self) -> float:
        """Bits that this frame may take at most."""
        room = float("inf")
        if self.bucket is not None:
            room = self.bucket.room
        if self.cap is not None:
            room = min(room, self.cap - self.spent - _CAUTION * self.plan.least_after())
        return room

    def _fitting(self, costs: Bits, quality: int) -> int:
        """The highest quality up to ``quality`` whose expected cost leaves the room some air; else 0."""
        room = self._room
        if (self.intra_only and self._since_intra) or costs[quality] <= room:
            return quality
        return min(quality, int(quality_at(costs, _FILL * room)) if room > 0 else 0)

    def coded(self, payload_bits: int) -> int | None:
        assert self._current is not None
        quality, bits = self._current, payload_bits + FRAMING_BITS
        for tried, then in self._tried.items():
            self.plan.curves.learn(self._layer, tried, quality, float(np.log2(bits / then)), _PAIR_DOUBT)
        again = self._second_thought(quality, bits)
        if again is None:
            again = self._again(quality, bits)
        if again is not None:
            self._current = again
            return again
        self._accept(quality, bits)
        return None

    def known(self, quality: int, payload_bits: int) -> None:
        self._current = quality
        self._accept(quality, payload_bits + FRAMING_BITS)

    def _accept(self, quality: int, bits: float) -> None:
        self.violations += bits > self._room
        self.plan.coded(self._layer, quality, bits)
        if self.bucket is not None:
            self.bucket.pour(bits)
        self.spent += bits
        self._framed += 1
        self.closing = 0.0
        self.frames.append(CodedFrame(self._layer, quality, bits))

    def _second_thought(self, quality: int, bits: float) -> int | None:
        """Another quality for an I-frame that cost so much more or less than expected that it decides more
        than the frames behind it can make up for. Only downwards with a bucket."""
        if self._since_intra or len(self._tried) >= _MOST_THOUGHTS:
            return None
        wanted = _within_a_step(self.plan.rethink(quality, bits), self._before, intra=True)
        if self.bucket is not None:
            wanted = min(wanted, quality)
        if abs(wanted - quality) < _SECOND_THOUGHT or round(wanted) in self._tried:
            return None
        self._tried[quality] = bits
        return round(wanted)

    def _again(self, quality: int, bits: float) -> int | None:
        """Another quality for a frame that does not fit, unless it was the last resort."""
        room = self._room
        if not self._since_intra and self.bucket is not None and not self._tried:
            room = min(room, self._intra_room)
        settled = quality in self._tried or (self.intra_only and self._since_intra > 0)
        self._tried.setdefault(quality, bits)
        if bits <= room or settled:
            return None
        lowest, least = min(self._tried), self._layer.asked(0)  # below it all are coded alike
        if lowest <= least or len(self._tried) >= _TRIES:
            # Where even this is too much, the least of what was tried: that is not always quality 0.
            best = min(self._tried, key=lambda tried: (self._tried[tried], -tried))
            return None if best == quality else best
        if len(self._tried) == _TRIES - 1:
            return least
        costs = self.plan.frame_bits(self._layer)
        scaled = costs * (bits / costs[quality])
        return min(lowest - 1, max(least, int(quality_at(scaled, _FILL * room)) if room > 0 else least))

    def container(self, bits: int) -> None:
        surplus = bits - FRAMING_BITS * self._framed
        self._framed = 0
        self.closing += surplus
        self.spent += surplus
        self.plan.container(surplus)
