"""Light decoders of ``base``'s latents, in the place of its autoencoder's."""

from __future__ import annotations

import re

import torch
from diffusers import AutoencoderTiny
from diffusers.utils.logging import set_verbosity_error
from safetensors import SafetensorError
from safetensors.torch import load_file

from s2vc.errors import ModelError
from s2vc.nn.base.vae import LightDecoder

TAESD = "madebyollin/taesd"


def load_light(place: str, device: torch.device, dtype: torch.dtype) -> LightDecoder:
    """A light decoder for inference.

    ``place``: "light" (TAESD from the Hugging Face hub or its cache), the folder of a diffusers
    ``AutoencoderTiny``, or a safetensors file with TAESD's own names. Raises ModelError.
    """
    try:
        if place.endswith(".safetensors"):
            decoder = AutoencoderTiny().decoder
            # The first layer there is a clamp, which is none here.
            decoder.layers.load_state_dict(
                {
                    re.sub(r"decoder\.(\d+)", lambda found: str(int(found[1]) - 1), key): tensor
                    for key, tensor in load_file(place).items()
                    if key.startswith("decoder.")
                }
            )
        else:
            set_verbosity_error()  # its remarks on its own files mean nothing to who decodes
            name = TAESD if place == "light" else place
            decoder = AutoencoderTiny.from_pretrained(
                name, use_safetensors=True, low_cpu_mem_usage=False
            ).decoder
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"there is no light autoencoder at {place} ({reason}): name the folder or file of one with --vae"
        ) from None
    return LightDecoder(decoder).to(device, dtype).eval().requires_grad_(False)
