"""An encode that was stopped goes on at its last whole chunk (``encode(resume=True)``)."""

from __future__ import annotations

from s2vc.bitstream import Chunk, StreamReader
from s2vc.bitstream.header import MAGIC
from s2vc.codec.known import KnownPackets, another_encoding
from s2vc.errors import DamagedError, FormatError, OutputError
from s2vc.video.staging import StagedFile


def _whole_chunks(staged: StagedFile) -> tuple[list[Chunk], int]:
    """(chunks that a stopped run left whole, bytes up to the end of the last one)."""
    with open(staged.path, "rb") as file:
        magic = file.read(len(MAGIC))
        if not MAGIC.startswith(magic):
            raise OutputError(
                f"{staged.path} was not left by a stopped run: remove it, or name another output"
            )
        file.seek(0)
        try:
            reader = StreamReader(file)
        except FormatError:  # stopped within the header
            return [], 0
        chunks: list[Chunk] = []
        try:
            for item in reader:
                if isinstance(item, Chunk):
                    if item.damaged:
                        break
                    chunks.append(item)
        except DamagedError:
            pass
        read = sum(len(chunk.packets) for chunk in chunks)
        entries = [entry for entry in reader.index() if entry.frame + entry.frames <= read]
    if not entries:
        return [], 0
    frames = entries[-1].frame + entries[-1].frames
    return [chunk for chunk in chunks if chunk.first_frame < frames], entries[-1].end


class ContinuedFile:
    """A file that is written once more from its beginning: what is there must come out the same.

    ``known``: the packets that are there, so that nobody has to make them again. What is written is flushed,
    so that a kill costs no more than a chunk.
    """

    def __init__(self, staged: StagedFile) -> None:
        self._staged = staged
        chunks, self._kept = _whole_chunks(staged)
        self.known = KnownPackets(chunks, str(staged.path))
        self._old = open(staged.path, "rb")  # noqa: SIM115
        self._position = 0
        if not self._kept:
            staged.cut_to(0)

    def write(self, data: bytes) -> int:
        """Compare with what is there, or add to it. Raises OutputError where they differ."""
        old = self._old.read(min(len(data), max(0, self._kept - self._position)))
        if data[: len(old)] != old:
            raise another_encoding(str(self._staged.path))
        self._position += len(old)
        if len(old) < len(data):
            if self._position == self._kept > 0:
                self._staged.cut_to(self._kept)
            self._position += self._staged.write(data[len(old) :])
            self._staged.flush()
        return len(data)

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Let go of the old bytes; the staged file is its owner's."""
        self._old.close()
