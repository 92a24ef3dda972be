"""What is done to a sequence after it was cut out (TRAINING §4): mirror, light, colour, fade, grain."""

from __future__ import annotations

import numpy as np

from s2vc.training.sequences import Footage

MIRROR_SHARE = 0.5
LIGHT_SHARE = 0.3  # brightness and white balance
FADE_SHARE = 0.04
FREEZE_SHARE = 0.03  # the shot stands still from some frame on
GRAIN_SHARE = 0.1
GRAIN = (0.5, 2.5)  # σ of film grain in levels


def augmented(footage: Footage, random: np.random.Generator) -> Footage:
    """A sequence as it is shown to the network; the teacher's features stay those of the plain picture."""
    chances = random.random(5)  # drawn at once, so that what one needs does not move the others
    frames, motion, features = footage.frames, footage.motion, footage.features
    feature_of = footage.feature_of
    if chances[0] < MIRROR_SHARE:
        frames = frames[:, :, ::-1]
        motion = motion[:, :, ::-1] * np.array([-1, 1], np.int16)
        features = None if features is None else features[..., ::-1]
    count = len(frames)
    if chances[1] < FREEZE_SHARE and count > 2:
        at = int(random.integers(1, count))
        order = np.minimum(np.arange(count), at)
        frames, feature_of = frames[order], feature_of[order]
        motion = motion.copy()
        motion[at + 1 :] = 0
    gain, offset = np.ones((count, 1, 1, 3), np.float32), np.float32(0)
    if chances[2] < LIGHT_SHARE:
        gain = gain * np.float32(random.uniform(0.7, 1.15)) * random.uniform(0.92, 1.08, 3).astype(np.float32)
        offset = np.float32(random.uniform(-15, 25))
    if chances[3] < FADE_SHARE and count > 4:
        begin = int(random.integers(0, count - 3))
        length = int(random.integers(3, min(24, count - begin) + 1))
        ramp = np.clip((np.arange(count) - begin) / length, 0, 1).astype(np.float32)
        if random.random() < 0.5:
            ramp = 1 - ramp  # from black
        gain = gain * (1 - 0.95 * ramp)[:, None, None, None]
    grain = random.uniform(*GRAIN) if chances[4] < GRAIN_SHARE else 0.0
    if grain or offset or (gain != 1).any():
        levels = frames * gain + offset
        if grain:
            noise = random.standard_normal(frames.shape[:3], dtype=np.float32)
            levels += (np.float32(grain) * noise)[..., None]
        frames = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return Footage(frames, motion, features, feature_of)
