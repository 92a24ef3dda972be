"""Video in and out: files, pipes and picture folders as uint8 RGB frames with times.

``docs/video.md`` says what is read, what is converted and what each output keeps.
"""

from s2vc.video.base import VideoReader, VideoWriter
from s2vc.video.info import Colour, Frame, VideoInfo
from s2vc.video.opening import open_output, open_video
from s2vc.video.times import parse_size, parse_time

__all__ = [
    "Colour",
    "Frame",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "open_output",
    "open_video",
    "parse_size",
    "parse_time",
]
