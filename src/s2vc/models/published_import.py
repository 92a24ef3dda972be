"""The published release into a model folder: what points share once, the rest by point (issue 14).

A tensor is stored once for all points whose tensor of that name has the same bytes; one file for each set of
points. So nothing is assumed of what the points share.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from s2vc.errors import InputError, ModelError, OutputError
from s2vc.models.files import INDEX
from s2vc.models.published import Tensor, layout
from s2vc.models.published_loading import ModelFolder
from s2vc.models.published_release import Description, Release, select
from s2vc.nn.base.config import BaseConfig

FORMAT, VERSION = "s2vc-model-folder", 1
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}

# What the entropy coder's tables and means come out of (ARCHITECTURE §9): always float32.
_ENTROPY = (
    "intra.hyper_synthesis.",
    "intra.prior.",
    "intra.common.",
    "intra.pass_adaptors.",
    "intra.spatial_prior.",
    "inter.",
)
_NOT_ENTROPY = tuple(
    f"inter.{part}." for part in ("embedding", "analysis", "hyper_analysis", "pixel_head", "token_head")
)
# What one rate point keeps for itself in the published training, whatever else it may share.
_OF_A_POINT = ("inter.", "adapters.", "generator.fusions.", "generator.reduction.", "generator.unet.conv_in.")

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


def feeds_entropy(name: str) -> bool:
    """Whether tables or means of the entropy coder depend on the tensor in every frame."""
    return name.startswith(_ENTROPY) and not name.startswith(_NOT_ENTROPY)


def stored_dtype(name: str, dtype: str) -> torch.dtype:
    return torch.float32 if feeds_entropy(name) else DTYPES[dtype]


@dataclass(frozen=True)
class Sizes:
    """Bytes of a model folder: base U-Net identical in all points, or not."""

    shared: int
    unshared: int


def predict_sizes(
    tensors: Sequence[Tensor], points: Mapping[str, tuple[str, str]], dtype: str, entropy: bool = True
) -> Sizes:
    """What the points would take, by their tensors' shapes alone.

    ``entropy``: with the networks that feed the entropy coder in float32, as they are stored.
    """

    def bytes_of(wanted: Callable[[str], bool]) -> int:
        total = 0
        for tensor in tensors:
            if wanted(tensor.name):
                kept = stored_dtype(tensor.name, dtype) if entropy else DTYPES[dtype]
                total += kept.itemsize * torch.Size(tensor.shape).numel()
        return total

    point = bytes_of(lambda name: name.startswith(_OF_A_POINT))
    still = bytes_of(lambda name: name.startswith("intra."))
    vae = bytes_of(lambda name: name.startswith("vae."))
    base = bytes_of(lambda name: name.startswith("generator.") and not name.startswith(_OF_A_POINT))
    stills = len({intra for _, intra in points.values()})
    rest = len(points) * point + stills * still + vae
    return Sizes(rest + base, rest + len(points) * base)


def describe_sizes(folder: Path, points: Sequence[str] | None, dtype: str) -> list[str]:
    """Lines that say what the points would take on disk, whether or not they share their base U-Net.

    For the published system the archives need not be there yet.
    """
    check_dtype(dtype)
    described = Description.of(folder)
    chosen = {point: described.points[point] for point in select(described, points)}
    if described.config is None:
        tensors = Release(folder, points, described).tensors
    else:
        tensors = layout(described.config)
    lines = [f"{len(chosen)} points ({', '.join(chosen)}), size on disk:"]
    for entropy, what in (
        (False, f"{dtype} throughout"),
        (True, f"{dtype}, networks that feed the entropy coder in fp32 (as stored)"),
    ):
        sizes = predict_sizes(tensors, chosen, dtype, entropy)
        lines += [
            f"{sizes.shared / 1e9:8.2f} GB  {what}; base U-Net identical in all points",
            f"{sizes.unshared / 1e9:8.2f} GB  {what}; base U-Net different in each",
        ]
    return lines


def check_release(folder: Path, points: Sequence[str] | None) -> str:
    """Look at every archive's header; one line that says that all is there, or an error that says what is not
    there.
    """
    release = Release(folder, points)
    return f"{folder}: {len(release.points)} points, {release.bytes / 1e9:.2f} GB, every tensor has its place"


def check_dtype(dtype: str) -> None:
    """Raises InputError for a dtype that models are not stored in."""
    if dtype not in DTYPES:
        raise InputError(f"there is no dtype {dtype}: choose from {', '.join(DTYPES)}")


def _content(tensor: torch.Tensor) -> str:
    """SHA-256 of a tensor's dtype, shape and bytes."""
    total = hashlib.sha256(f"{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
    total.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


class _State:
    """What an interrupted import has done: digests of archives that have not changed since."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.json"
        try:
            self.digests: dict[str, dict[str, str]] = json.loads(self.path.read_text())
        except (OSError, ValueError):
            self.digests = {}

    def save(self) -> None:
        partial = self.path.with_suffix(".tmp")
        partial.write_text(json.dumps(self.digests))
        partial.replace(self.path)


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{path}|{status.st_size}|{status.st_mtime_ns}"


def _digests(release: Release, state: _State, done: Callable[[int], None]) -> dict[str, dict[str, str]]:
    """Archive -> our name -> digest of the source tensor."""
    found: dict[str, dict[str, str]] = {}
    for point in release.points:
        for tensor in release.tensors:
            path = release.path(point, tensor)
            if path in found:
                continue
            stamp = _stamp(release.folder / path)
            if stamp not in state.digests:
                state.digests[stamp] = {
                    other.name: _content(release.read(path, other))
                    for other in release.tensors
                    if other.archive == tensor.archive
                }
                state.save()
            found[path] = state.digests[stamp]
            done((release.folder / path).stat().st_size)
    return found


def _cast(tensor: torch.Tensor, name: str, dtype: str) -> torch.Tensor:
    cast = tensor.to(stored_dtype(name, dtype)).contiguous()
    if not torch.isfinite(cast).all():
        raise ModelError(f"tensor {name} does not fit {dtype}: import with --dtype bf16 or fp32")
    return cast


def _write(
    path: Path, tensors: Sequence[tuple[Tensor, str]], release: Release, dtype: str, done: Any
) -> None:
    """A safetensors file, one tensor in memory at a time."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for tensor, _ in tensors:
        kept = stored_dtype(tensor.name, dtype)
        size = kept.itemsize * torch.Size(tensor.shape).numel()
        header[tensor.name] = {
            "dtype": _NAMES[kept],
            "shape": list(tensor.shape),
            "data_offsets": [place, place + size],
        }
        place += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    partial = path.with_name(path.name + ".tmp")
    with open(partial, "wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for tensor, source in tensors:
            cast = _cast(release.read(source, tensor), tensor.name, dtype)
            stream.write(cast.flatten().view(torch.uint8).numpy().data)
            done(cast.nbytes)
    partial.replace(path)


def import_release(
    folder: Path,
    target: Path,
    points: Sequence[str] | None = None,
    dtype: str = "fp16",
    *,
    description: Description | None = None,
    progress: Progress | None = None,
) -> ModelFolder:
    """Write a model folder from a published release.

    ``points``: names of rate points (None: all). ``dtype``: "fp16", "bf16" or "fp32", of all but what feeds
    the entropy coder. The folder appears whole or not at all; an interrupted import goes on where it was. The
    same release and dtype give the same digest anywhere. Raises InputError, ModelError or OutputError, all of
    which but a full disk's come before anything is written.
    """
    check_dtype(dtype)
    if target.exists():
        raise OutputError(f"{target} exists: choose another folder, or remove it")
    if not target.parent.is_dir():
        raise OutputError(f"cannot write {target}: folder {target.parent} does not exist: make it first")
    described = description or Description.of(folder)
    release = Release(folder, points, described)
    pairs = {point: described.points[point] for point in release.points}
    least = predict_sizes(release.tensors, pairs, dtype).shared
    partial = target.with_name(f".{target.name}.part")
    held = sum(file.stat().st_size for file in partial.glob("*.safetensors")) if partial.is_dir() else 0
    free = shutil.disk_usage(target.parent).free
    if least - held > free:
        raise OutputError(
            f"{target.parent} has {free / 1e9:.1f} GB free and the model needs {least / 1e9:.1f} GB or more: "
            "free some space, choose another disk, or name fewer --points"
        )
    try:
        partial.mkdir(exist_ok=True)
        return _import(release, target, partial, dtype, progress)
    except OSError as error:
        raise OutputError(
            f"cannot write {target} ({error.strerror}): free some space or choose another disk; "
            "what was done is kept for the next try"
        ) from None


def _import(
    release: Release, target: Path, partial: Path, dtype: str, progress: Progress | None
) -> ModelFolder:
    # Reading and writing count alike; the writing is known once it is known what the points share.
    counted, total = 0, 2 * release.bytes

    def done(size: int) -> None:
        nonlocal counted
        counted += size
        if progress is not None:
            progress(counted, total)

    digests = _digests(release, _State(partial), done)

    digest = hashlib.sha256(f"{dtype}\0{json.dumps(asdict(release.config), sort_keys=True)}\0".encode())
    groups: dict[tuple[str, ...], list[tuple[Tensor, str]]] = defaultdict(list)
    for tensor in release.tensors:
        holders: dict[str, list[str]] = defaultdict(list)
        for point in release.points:
            content = digests[release.path(point, tensor)][tensor.name]
            holders[content].append(point)
            digest.update(f"{point}\0{tensor.name}\0{content}\0".encode())
        for held_by in holders.values():
            groups[tuple(held_by)].append((tensor, release.path(held_by[0], tensor)))

    total = counted + sum(
        stored_dtype(tensor.name, dtype).itemsize * torch.Size(tensor.shape).numel()
        for held in groups.values()
        for tensor, _ in held
    )
    files: dict[str, list[str]] = {}
    for same, tensors in groups.items():
        name = "shared" if len(same) == len(release.points) > 1 else "-".join(("point", *same))
        # An interrupted import of other bytes must not leave its files to this one.
        mark = hashlib.sha256(digest.digest() + name.encode()).hexdigest()[:8]
        path = partial / f"{name}.{mark}.safetensors"
        if path.exists():
            done(path.stat().st_size)
        else:
            _write(path, tensors, release, dtype, done)
        files[path.name] = list(same)

    index = _index(f"base-{dtype}", digest.hexdigest(), dtype, release.points, release.config, files)
    for file in partial.iterdir():
        if file.name not in files:
            file.unlink()
    (partial / INDEX).write_text(json.dumps(index, indent=1) + "\n")
    partial.rename(target)
    return ModelFolder.open(target)


def write_folder(
    target: Path, config: BaseConfig, tensors: Mapping[str, torch.Tensor], dtype: str, *, model_id: str
) -> ModelFolder:
    """A model folder of one rate point, named ``point``, from tensors named as in ``layout``.

    It takes the place of what ``target`` held once it is whole. The same tensors and dtype give the same
    digest anywhere. Raises ModelError where a tensor does not fit the dtype.
    """
    check_dtype(dtype)
    names = [tensor.name for tensor in layout(config)]
    stored = {name: _cast(tensors[name], name, dtype) for name in names}
    widths = asdict(config)
    digest = hashlib.sha256(f"{dtype}\0{json.dumps(widths, sort_keys=True)}\0".encode())
    for name in names:
        digest.update(f"point\0{name}\0{_content(stored[name])}\0".encode())
    partial = target.with_name(f".{target.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(stored, partial / "point.safetensors", {"format": "pt"})
    index = _index(model_id, digest.hexdigest(), dtype, ["point"], config, {"point.safetensors": ["point"]})
    (partial / INDEX).write_text(json.dumps(index, indent=1) + "\n")
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return ModelFolder.open(target)


def _index(
    model_id: str,
    digest: str,
    dtype: str,
    points: Sequence[str],
    config: BaseConfig,
    files: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "preset": "base",
        "id": model_id,
        "digest": digest,
        "dtype": dtype,
        "points": list(points),
        "config": asdict(config),
        "files": dict(files),
    }


def verify_import(
    folder: Path, target: Path, *, description: Description | None = None, progress: Progress | None = None
) -> int:
    """Compare every tensor of a model folder with the release it came from; the number compared.

    Raises ModelError naming the first that differs.
    """
    model = ModelFolder.open(target)
    release = Release(folder, model.points, description)
    compared = 0
    for number, point in enumerate(release.points):
        read = model.reader(point)
        for tensor in release.tensors:
            expected = _cast(release.read(release.path(point, tensor), tensor), tensor.name, model.dtype)
            if not torch.equal(read(tensor.name), expected):
                raise ModelError(
                    f"{target}: {tensor.name} of point {point} is not the release's: import again"
                )
            compared += 1
        if progress is not None:
            progress(number + 1, len(release.points))
    return compared
