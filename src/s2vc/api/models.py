"""Models by name, path or from a file's header, on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from s2vc.errors import InputError
from s2vc.models.files import DEFAULT, ModelFile, find_model
from s2vc.models.loading import Running, load_frame_model

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


def load(
    name: str = DEFAULT,
    device: str = "auto",
    *,
    dtype: str = "fp32",
    offload: bool = False,
    vae: str | None = None,
) -> Model:
    """Load a model by preset, id or path onto a device (auto, cpu, cuda, cuda:N, mps).

    What is loaded once can be shared by many calls:

    >>> import s2vc
    >>> model = s2vc.load("tiny", device="cpu")
    >>> [s2vc.encode("holiday.mp4", f"q{q}.s2vc", model=model, quality=q).frames for q in (10, 50)]
    [12, 12]

    How ``base`` runs, for smaller machines (docs/base.md): dtype, what its pictures are drawn in ("fp32",
    "fp16", "bf16"; symbols are read in float32 in any case); offload, generators are on the device only while
    they run; vae, "light" or a place of TAESD, which draws in place of its autoencoder.

    Raises ModelError where there is no such model, InputError where there is no such device or dtype.
    """
    return load_file(find_model(name), device, Running(dtype, offload, vae))


def load_file(model: ModelFile, device: str, running: Running = Running()) -> Model:  # noqa: B008
    """The model of a file that was found, on a device. Raises ModelError, InputError."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError):
        raise InputError(f"device {device} is not to be had here: use --device cpu") from None
    return Model(model, load_frame_model(model, place, running))


def set_threads(threads: int | None) -> None:
    """How many threads networks run on, where a number is given."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
