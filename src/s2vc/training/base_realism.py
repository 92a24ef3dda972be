"""Realism for ``base``: OneDC's second stage (ARCHITECTURE §14.2), on latents.

The *real score* is Stable Diffusion as it was published. The *critic* begins as a copy of it: it learns to
denoise what the codec shows now (the *fake score*), and to tell it from originals by features of the same
U-Net. OneDC gives both a caption of the picture and pulls the real score towards it; footage has no captions,
so both are given the empty prompt and nothing is pulled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from s2vc.errors import ModelError
from s2vc.nn.base.config import LATENT
from s2vc.nn.base.generator import TIMESTEPS, guidance
from s2vc.training.realism import matching_loss

MATCHED = (0.02, 0.64)  # of all timesteps, at which scores are compared
CRITIC_ADVERSARIAL = 1e-2  # weight beside the critic's denoising
STRIDE = 4  # and side of what the head's second convolution reads


class Head(nn.Module):
    """Features of the U-Net's middle (N, width, h, w) -> real or shown (N, 1, …)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 4, stride=2, padding=1)
        self.second = nn.Conv2d(width, width, STRIDE, stride=STRIDE)
        groups = min(32, width // 8)  # 32 of Stable Diffusion's 1280
        self.norms = nn.ModuleList([nn.GroupNorm(groups, width) for _ in range(2)])
        self.exit = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.norms[0](self.first(x)))
        # OneDC's pictures of 512 leave 4 x 4 here; others are filled up.
        x = F.pad(x, (0, -x.shape[-1] % STRIDE, 0, -x.shape[-2] % STRIDE))
        return self.exit(F.silu(self.norms[1](self.second(x)))).float()  # type: ignore[no-any-return]


class Critic(nn.Module):
    """What learns beside the generator."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet, self.head = unet, Head(unet.config["block_out_channels"][-1])

    def judge(self, noisy: Tensor, steps: Tensor, prompt: Tensor) -> Tensor:
        """Real or shown, of noised latents (N, 4, h, w) at timesteps (N,): (N, 1, …)."""
        unet = self.unet
        context = prompt.expand(len(noisy), -1, -1)
        time = unet.time_embedding(unet.time_proj(steps).to(unet.dtype))
        x = unet.conv_in(noisy)
        for block in unet.down_blocks:
            x, _ = block(x, temb=time, **guidance(block, context))
        return self.head(unet.mid_block(x, time, encoder_hidden_states=context))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class StableDiffusion:
    """A folder as diffusers keep it. ``prompt``: the empty one, float32 (1, tokens, width)."""

    path: Path
    schedule: DDPMScheduler
    prompt: Tensor

    @classmethod
    def open(cls, name: str, device: torch.device) -> StableDiffusion:
        """Raises ModelError where it is not Stable Diffusion as diffusers keep it, or predicts no noise."""
        from transformers import CLIPTextModel, CLIPTokenizer

        path = Path(name)
        for part in ("unet", "scheduler", "tokenizer", "text_encoder"):
            if not (path / part).is_dir():  # else it is taken for a name on the Hub
                raise ModelError(f"{path} is not Stable Diffusion as diffusers keep it: it has no {part}/")
        try:
            schedule = DDPMScheduler.from_pretrained(path / "scheduler")
            tokenizer = CLIPTokenizer.from_pretrained(path / "tokenizer")
            encoder = CLIPTextModel.from_pretrained(path / "text_encoder").float()
            config = UNet2DConditionModel.load_config(path / "unet")
        except (OSError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise ModelError(
                f"{path} is not Stable Diffusion as diffusers keep it ({reason}): fetch it again"
            ) from None
        predicts = schedule.config["prediction_type"]
        if predicts != "epsilon" or config["in_channels"] != LATENT:
            raise ModelError(
                f"{path} predicts {predicts} from {config['in_channels']} channels, not noise from {LATENT}: "
                "name Stable Diffusion 1.5"
            )
        words = tokenizer("", padding="max_length", truncation=True, return_tensors="pt")
        with torch.no_grad():
            prompt = encoder(words.input_ids).last_hidden_state
        return cls(path, schedule, prompt.to(device))

    def unet(self) -> UNet2DConditionModel:
        """A copy of its own, float32. Raises ModelError."""
        try:
            return UNet2DConditionModel.from_pretrained(
                self.path / "unet", torch_dtype=torch.float32, low_cpu_mem_usage=False
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise ModelError(f"cannot read {self.path / 'unet'} ({reason}): fetch it again") from None

    def empty_unet(self) -> UNet2DConditionModel:
        """One that has yet to be given its weights."""
        return UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(self.path / "unet"))


def timesteps(uniform: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """int64 timesteps from numbers in [0, 1), evenly between two shares of all."""
    return (TIMESTEPS * (low + (high - low) * uniform)).long()


def x0_of(stable: StableDiffusion, unet: UNet2DConditionModel, noisy: Tensor, steps: Tensor) -> Tensor:
    """The latents, float32, that a U-Net sees behind the noise: ``noisy`` (N, 4, h, w) at ``steps`` (N,)."""
    kept = stable.schedule.alphas_cumprod.to(noisy.device)[steps][:, None, None, None]
    noise = unet(noisy, steps, stable.prompt.expand(len(noisy), -1, -1)).sample.float()
    return (noisy - (1 - kept).sqrt() * noise) / kept.sqrt()


def matching_term(
    stable: StableDiffusion,
    real: UNet2DConditionModel,
    critic: Critic,
    latents: Tensor,
    steps: Tensor,
    noise: Tensor,
) -> Tensor:
    """Distribution matching of shown latents (N, 4, h, w), noised alike for both scores."""
    with torch.no_grad():
        noisy = stable.schedule.add_noise(latents, noise, steps)
        x0_real, x0_fake = (x0_of(stable, unet, noisy, steps) for unet in (real, critic.unet))
    return matching_loss(latents, x0_real, x0_fake)


def adversarial_term(
    stable: StableDiffusion, critic: Critic, latents: Tensor, steps: Tensor, noise: Tensor
) -> Tensor:
    """The generator's side of the diffusion GAN."""
    noisy = stable.schedule.add_noise(latents, noise, steps)
    return F.softplus(-critic.judge(noisy, steps, stable.prompt)).mean()


def denoising_term(
    stable: StableDiffusion, critic: Critic, latents: Tensor, steps: Tensor, noise: Tensor
) -> Tensor:
    """The critic learns to denoise what is shown now."""
    noisy = stable.schedule.add_noise(latents, noise, steps)
    found = critic.unet(noisy, steps, stable.prompt.expand(len(latents), -1, -1)).sample
    return (found.float() - noise).square().mean()


def judging_term(
    stable: StableDiffusion, critic: Critic, shown: Tensor, real: Tensor, steps: Tensor, noise: Tensor
) -> Tensor:
    """The critic's side of the diffusion GAN: latents of pictures shown and of originals, noised alike."""
    noisy = [stable.schedule.add_noise(latents, noise, steps) for latents in (shown, real)]
    fake, true = critic.judge(torch.cat(noisy), steps.repeat(2), stable.prompt).chunk(2)
    return F.softplus(fake).mean() + F.softplus(-true).mean()
