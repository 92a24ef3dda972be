"""Video in and out: files, pipes and picture folders as uint8 RGB frames with times.

``docs/video.md`` says what is read, what is converted and what each output keeps.
"""

from s2vc.video.base import VideoReader, VideoWriter
from s2vc.video.info import Colour, Frame, VideoInfo
from s2vc.video.opening import open_output, open_video
from s2vc.video.times import parse_size, parse_time
from s2vc.video.tracks import Extras, PacketQueue, cut_chapters

__all__ = [
    "Colour",
    "Extras",
    "Frame",
    "PacketQueue",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "cut_chapters",
    "open_output",
    "open_video",
    "parse_size",
    "parse_time",
]
