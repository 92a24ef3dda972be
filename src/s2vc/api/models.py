"""Models by name, path or from a file's header, on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from s2vc.errors import InputError
from s2vc.models.files import DEFAULT, ModelFile, find_model
from s2vc.models.loading import load_frame_model

if TYPE_CHECKING:
    from s2vc.codec.protocol import FrameModel


@dataclass(frozen=True)
class Model:
    """A loaded model: share it between encoders and decoders. ``load`` makes one."""

    file: ModelFile
    networks: FrameModel

    @property
    def id(self) -> str:
        """The name files carry, such as ``tiny-1``."""
        return self.file.id


def load(name: str = DEFAULT, device: str = "auto") -> Model:
    """Load a model by preset, id or path onto a device (auto, cpu, cuda, cuda:N, mps).

    What is loaded once can be shared by many calls:

    >>> import s2vc
    >>> model = s2vc.load("tiny", device="cpu")
    >>> [s2vc.encode("holiday.mp4", f"q{q}.s2vc", model=model, quality=q).frames for q in (10, 50)]
    [12, 12]

    Raises ModelError where there is no such model, InputError where there is no such device.
    """
    return load_file(find_model(name), device)


def load_file(model: ModelFile, device: str) -> Model:
    """The model of a file that was found, on a device. Raises ModelError, InputError."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError):
        raise InputError(f"device {device} is not to be had here: use --device cpu") from None
    return Model(model, load_frame_model(model, place))


def set_threads(threads: int | None) -> None:
    """How many threads networks run on, where a number is given."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
