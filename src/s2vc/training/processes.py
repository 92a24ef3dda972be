"""The processes of a run, as torchrun starts them: each takes an equal part of every batch (DDP).

Gradients are averaged in one piece. With a loss that is a mean over samples and random streams by sample, n
processes train as one does. On a CPU that is also the fast way to use two cores: oneDNN's weight gradients
spin at a barrier between threads, which costs fifty times their work as soon as anything else runs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn


def allow_many_files() -> None:
    """Each mapped array holds a file open, and a library has thousands: take what a user may have at most."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows counts otherwise
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1 << 16 if hard == resource.RLIM_INFINITY else hard
    with contextlib.suppress(ValueError, OSError):  # some systems allow less than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


class Processes:
    """Rank, count, and the few things that processes do together; without torchrun there is one."""

    def __init__(self) -> None:
        self.share = (int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
        self.rank, self.count = self.share
        local = int(os.environ.get("LOCAL_RANK", "0"))
        cuda = torch.cuda.is_available()
        self.device = torch.device("cuda", local) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(self.device)  # CUDA graphs are captured on the current one
            torch.backends.cudnn.benchmark = False  # a stage has the same shapes in every step
        self._mine = self.count > 1 and not dist.is_initialized()
        if self._mine:
            # The first to have prepared its share of the footage waits long for the last.
            dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(days=2))

    def close(self) -> None:
        if self._mine:
            dist.destroy_process_group()

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            dist.barrier()

    def total(self, values: Tensor) -> Tensor:
        """The sum over processes."""
        if self.count > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values

    def mean(self, value: float) -> float:
        """The mean over processes, so that all of them see the same clock."""
        return float(self.total(torch.tensor(value, dtype=torch.float64))) / self.count

    def any(self, flag: bool) -> bool:
        return self.mean(float(flag)) > 0

    def gathered(self, rows: Tensor) -> Tensor:
        """Rows of all processes, in their order."""
        if self.count == 1:
            return rows
        content = rows.contiguous().view(torch.uint8)  # gloo knows neither bool nor int16
        parts = [torch.empty_like(content) for _ in range(self.count)]
        dist.all_gather(parts, content)
        return torch.cat(parts).view(rows.dtype)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """A parameter that this process had no use for counts as zero."""
        if self.count == 1:
            return
        learning = [p for p in parameters if p.requires_grad]
        for p in learning:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        grads = [p.grad for p in learning if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in grads])
        dist.all_reduce(flat)
        flat /= self.count
        for g, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            g.copy_(part.reshape(g.shape))
