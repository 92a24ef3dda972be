"""Model files: how they are named, found, checked and loaded. torch comes with the networks, not before."""

from s2vc.models.files import ModelFile, find_model
from s2vc.models.loading import load_frame_model, load_symbol_model

__all__ = ["ModelFile", "find_model", "load_frame_model", "load_symbol_model"]
