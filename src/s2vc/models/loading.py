"""The one place that knows which preset is which class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from s2vc.codec.protocol import FrameModel, SymbolModel
from s2vc.codec.tiny_symbols import BLOCK, TinySymbols
from s2vc.entropy.integer import TABLES, IntegerEntropyModel
from s2vc.entropy.tables import Tables
from s2vc.errors import ModelError
from s2vc.models.files import ModelFile

if TYPE_CHECKING:
    import torch


def _check_preset(model: ModelFile) -> None:
    if model.preset != "tiny":
        raise ModelError(f"{model.path}: preset {model.preset} is not known to this version: update s2vc")


def load_symbol_model(model: ModelFile) -> tuple[SymbolModel, int]:
    """What reads a model's symbols, and what its pictures' sides are padded to; no torch."""
    _check_preset(model)
    try:
        arrays = {k[8:]: v for k, v in model.tensors("entropy.").items()}
        tables = Tables.from_arrays({k[7:]: v for k, v in model.tensors("tables.").items()})
        if len(tables) != TABLES:
            raise ValueError(f"{len(tables)} symbol tables instead of {TABLES}")
        return TinySymbols(IntegerEntropyModel(arrays), tables), BLOCK
    except (KeyError, ValueError) as error:
        raise ModelError(f"{model.path} lacks parts of its entropy model ({error}): fetch it again") from None


@dataclass(frozen=True)
class Running:
    """How ``base`` runs (docs/base.md). ``tiny`` runs as it is.

    ``dtype``: "fp32", "fp16" or "bf16", what pictures are drawn in; what symbols depend on is float32 in any
    case. ``offload``: generators are on the device only while they run. ``vae``: another decoder of latents
    into pictures, see ``load_light``.
    """

    dtype: str = "fp32"
    offload: bool = False
    vae: str | None = None


def load_frame_model(
    model: ModelFile,
    device: torch.device,
    running: Running = Running(),
) -> FrameModel:
    """A model's networks on a device."""
    if model.preset == "base":
        return _load_base(model, device, running)
    _check_preset(model)
    if running != Running():
        raise ModelError(
            f"{model.id} runs in one way only: leave out --dtype, --offload and --vae, which are for base"
        )
    import torch

    from s2vc.codec.tiny import TinyFrameModel
    from s2vc.nn.tiny.adaptation import code_groups
    from s2vc.nn.tiny.codec import TinyCodec
    from s2vc.nn.tiny.config import TinyConfig
    from s2vc.nn.tiny.generator import TinyGenerator

    symbols, _ = load_symbol_model(model)
    assert isinstance(symbols, TinySymbols)
    try:
        config = TinyConfig(**model.config)
        networks: dict[str, torch.nn.Module] = {
            "codec": TinyCodec(config),
            "generator": TinyGenerator(config),
        }
        for name, network in networks.items():
            tensors = model.tensors(f"{name}.")
            state = {k[len(name) + 1 :]: torch.from_numpy(v).float() for k, v in tensors.items()}
            network.load_state_dict(state)
    except (TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"{model.path} is of another geometry ({reason}): update s2vc or the model"
        ) from None
    groups = symbols.model.code_groups
    if groups is not None and groups.tolist() != code_groups(config):
        raise ModelError(f"{model.path} adapts other layers than this s2vc: update s2vc or the model")
    codec, generator = networks["codec"], networks["generator"]
    assert isinstance(codec, TinyCodec) and isinstance(generator, TinyGenerator)
    return TinyFrameModel(codec, generator, symbols, device)


def _load_base(model: ModelFile, device: torch.device, running: Running) -> FrameModel:
    """The published system: each point when it is first asked for."""
    from s2vc.codec.base import BaseFrameModel
    from s2vc.models.published_import import DTYPES, check_dtype
    from s2vc.models.published_loading import ModelFolder, PublishedNetworks
    from s2vc.nn.base.model import BaseModel

    check_dtype(running.dtype)
    drawn = DTYPES[running.dtype]
    folder = ModelFolder.open(model.path)

    networks = PublishedNetworks(folder, device, running.offload)

    def load(number: int) -> BaseModel:
        return BaseModel(partial(networks.load, folder.points[number]), drawn, running.offload)

    light = None
    if running.vae is not None:
        from s2vc.models.light import load_light

        light = load_light(running.vae, device, drawn)
    return BaseFrameModel(len(folder.points), load, device, light)
