"""The encoder under rate control: retries leave no trace, stopped runs go on, a live bucket holds."""

from __future__ import annotations

from s2vc.bitstream import Chunk
from s2vc.codec.encoder import VideoEncoder
from s2vc.codec.known import KnownPackets
from s2vc.codec.layers import BETWEEN_COARSER, KEY_PERIOD
from s2vc.codec.rate_control import LeakyBucket, RateControl
from s2vc.codec.rate_plans import AverageRate, ConstantQuality

WIDTH, HEIGHT, KEYINT, FRAMES = 50, 38, 8, 20
TICK = 1 / 25


class Fixed:
    """Qualities given beforehand; with ``tries`` each frame is first coded at other ones."""

    def __init__(self, qualities: list[int], tries: int = 0) -> None:
        self.qualities, self.tries = qualities, tries
        self.frame, self.left = -1, 0

    def choose(self, intra: bool, time: int) -> int:
        self.frame += 1
        self.left = self.tries
        return 63 if self.tries else self.qualities[self.frame]

    def coded(self, payload_bits: int) -> int | None:
        self.left -= 1
        if self.left < 0:
            return None
        return self.qualities[self.frame] if self.left == 0 else 5

    def known(self, quality: int, payload_bits: int) -> None:
        raise AssertionError

    def container(self, bits: int) -> None:
        pass


def code(model, pictures, control, known=None, low_delay=False) -> list[Chunk]:
    networks = model.networks
    encoder = VideoEncoder(
        networks,
        WIDTH,
        HEIGHT,
        quality=32,
        keyint=KEYINT,
        reset_period=networks.reset_period,
        control=control,
        known=known,
        low_delay=low_delay,
    )
    coded = [chunk for n, picture in enumerate(pictures) for chunk in encoder.push(picture, n, 1)]
    return [one.chunk for one in [*coded, *encoder.flush()]]


def test_tries_leave_no_trace(model, scene):
    pictures = scene(FRAMES, WIDTH, HEIGHT)
    qualities = [20 + n % 7 for n in range(FRAMES)]
    plain = code(model, pictures, Fixed(qualities))
    own = [max(0, quality - BETWEEN_COARSER * (n % KEYINT > 0)) for n, quality in enumerate(qualities)]
    assert [quality for chunk in plain for quality in chunk.qualities] == own
    assert code(model, pictures, Fixed(qualities, tries=2)) == plain


def live(**options) -> RateControl:
    plan = AverageRate(12_000, pixels=WIDTH * HEIGHT, seconds=TICK, keyint=KEYINT, period=KEY_PERIOD)
    return RateControl(plan, frame_seconds=TICK, tick=TICK, **options)


def test_a_stopped_run_goes_on_as_if_it_had_not(model, scene):
    pictures = scene(FRAMES, WIDTH, HEIGHT)
    whole = code(model, pictures, live())
    assert len({quality for chunk in whole for quality in chunk.qualities}) > 1
    assert code(model, pictures, live(), known=KnownPackets(whole[:1], "film")) == whole


def test_one_packet_a_frame_is_held_to_the_bucket(model, scene):
    bucket = LeakyBucket(14_000, 9_000)
    control = RateControl(
        ConstantQuality(63, WIDTH * HEIGHT, KEY_PERIOD), frame_seconds=TICK, tick=TICK, bucket=bucket
    )
    chunks = code(model, scene(FRAMES, WIDTH, HEIGHT), control, low_delay=True)
    assert len(chunks) == FRAMES
    assert control.violations == 0
    level = 0.0
    for chunk in chunks:
        level = max(0.0, level - 14_000 * TICK) + 8 * len(chunk.packets[0].payload)
        assert level <= 9_000


def test_a_model_of_one_quality_an_interval_keeps_it(model, scene, monkeypatch):
    monkeypatch.setattr(model.networks, "quality_per_frame", False)
    control = live(intra_only=True)
    chunks = code(model, scene(FRAMES, WIDTH, HEIGHT), control)
    assert all(len(set(chunk.qualities)) == 1 for chunk in chunks)
