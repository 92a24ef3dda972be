"""Live over UDP on 127.0.0.1, datagrams being lost: python examples/lossy_link.py [MODEL [LOSS]]

Each frame's packet leaves at once (low_delay). Where a datagram is missing, the receiver puts in one byte FF:
no packet begins with it, so the decoder looks for the next chunk at once, shows the last good picture
meanwhile (conceal) and is right again with the next I-frame (keyint).
"""

import io
import random
import socket
import sys
import threading

import numpy as np

import s2vc

PIECE = 1200  # bytes of a datagram, which fit any link
FRAMES, KEYINT = 36, 6


class Sender(io.RawIOBase):
    """A file to write to: what comes up to a flush leaves as numbered datagrams, of which some are lost."""

    def __init__(self, address: tuple[str, int], loss: float) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.address, self.loss = address, loss
        self.waiting, self.number, self.lost = b"", 0, 0
        self.draw = random.Random(6)

    def write(self, data) -> int:
        self.waiting += bytes(data)
        return len(data)

    def flush(self) -> None:
        data, self.waiting = self.waiting, b""
        for start in range(0, len(data), PIECE):
            # The first one carries the header: a real program sends it until it is acknowledged.
            if self.number and self.draw.random() < self.loss:
                self.lost += 1
            else:
                datagram = self.number.to_bytes(4, "big") + data[start : start + PIECE]
                self.socket.sendto(datagram, self.address)
            self.number += 1

    def end(self) -> None:
        """An empty datagram says that nothing more comes; it may be lost too, so there are some."""
        for _ in range(3):
            self.socket.sendto(b"", self.address)
        self.socket.close()


class Receiver(io.RawIOBase):
    """A file to read from; datagrams that come late are dropped."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(30)
        self.ready, self.number, self.ended = b"", 0, False

    def read(self, size: int = -1) -> bytes:
        while not self.ready and not self.ended:
            datagram = self.socket.recv(65536)
            number = int.from_bytes(datagram[:4], "big")
            if not datagram:
                self.ended = True
            elif number >= self.number:
                self.ready = b"\xff" * (number > self.number) + datagram[4:]
                self.number = number + 1
        data, self.ready = self.ready[:size], self.ready[size:]
        return data


def pictures():
    """A square that moves over a gradient."""
    across, down = np.meshgrid(np.arange(96), np.arange(64))
    for t in range(FRAMES):
        picture = np.stack([across * 2, down * 3, across + down], -1).astype(np.uint8)
        picture[20:40, 10 + t : 30 + t] = (250, 200, 40)
        yield picture


def send(target: Sender, model: s2vc.Model) -> None:
    """Encode and send."""
    with s2vc.Encoder(target, 96, 64, rate=25, model=model, keyint=KEYINT, low_delay=True) as encoder:
        for picture in pictures():
            encoder.write(picture)
    target.end()


model = s2vc.load(sys.argv[1] if len(sys.argv) > 1 else "tiny", device="cpu")
receiver = Receiver()
sender = Sender(receiver.socket.getsockname(), float(sys.argv[2]) if len(sys.argv) > 2 else 0.1)
thread = threading.Thread(target=send, args=(sender, model))
thread.start()
frames = list(s2vc.Decoder(receiver, model=model, conceal=True))
thread.join()
print(f"{sender.number} datagrams, {sender.lost} lost")
print(f"{len(frames)} frames, {sum(frame.concealed for frame in frames)} concealed")
print("".join("." if frame.concealed else "#" for frame in frames))
