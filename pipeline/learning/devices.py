"""Devices and processes: CPU or GPU, one rank or several, a batch at once or in micro-batches."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.utils.checkpoint import checkpoint

from pipeline.config import TrainingSettings
from pipeline.errors import ConfigError, TrainingError

_MOST_THREADS = 8


def choose_device(wanted: str) -> torch.device:
    """Return the device for ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises
    ------
    ConfigError
        If CUDA is requested and not available, or more processes were started on this machine than it has
        GPUs.
    """
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise ConfigError(
            "The device is cuda, but there is no CUDA device or torch has no CUDA support",
            where="training.device",
            hint="Set it to auto or cpu, or run `taucal doctor`",
        )
    if wanted == "cpu" or not there:
        return torch.device("cpu")
    place, found = _place(), torch.cuda.device_count()
    if place >= found:
        raise ConfigError(
            f"Process {place + 1} of this machine finds no GPU of its own; found {found}",
            where="training.device",
            hint=f"Start {found} processes a machine at most, or set it to cpu",
        )
    return torch.device("cuda", place)


def _place() -> int:
    """Return the number of this process among those that torchrun has started on this machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextlib.contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch use so many threads while the block runs: results on the CPU depend on the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Ranks:
    """The rank of this process and the number of ranks that share a training."""

    rank: int
    number: int


def ranks() -> Ranks:
    """Return this process's rank and the number of ranks; 0 of 1 outside `torchrun`."""
    if distributed.is_available() and distributed.is_initialized():
        return Ranks(distributed.get_rank(), distributed.get_world_size())
    return Ranks(0, 1)


def join_ranks() -> None:
    """Join the process group that ``torchrun`` started; outside it nothing happens."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or distributed.is_initialized():
        return
    if not torch.cuda.is_available():
        distributed.init_process_group("gloo")
        return
    if _place() < torch.cuda.device_count():
        torch.cuda.set_device(_place())  # else every process takes memory of the first GPU as well
    # Not NCCL alone: what is no tensor of a GPU would go through the current one, and a study may set cpu.
    distributed.init_process_group("cpu:gloo,cuda:nccl")


class MicroBatched(nn.Module):
    """Logits of a whole batch at the memory of one micro-batch.

    The forward pass stores no activations; once the gradient of the loss with respect to all logits is known,
    each micro-batch is computed again, with the same dropout, and back-propagated. The step equals that of
    the whole batch for any loss, also one that couples the scans of a batch, where adding up gradients of
    separate losses is wrong. The network's output for a scan must not depend on the other scans.

    Parameters
    ----------
    size : int or None
        Scans of a micro-batch; None computes the batch at once.

    References
    ----------
    Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup, RepL4NLP 2021.
    """

    def __init__(self, network: nn.Module, size: int | None) -> None:
        super().__init__()
        self.network = network
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K) of volumes (N, 1, X, Y, Z) or images (N, C, H, W)."""
        if self.size is None or self.size >= len(x):
            logits: Tensor = self.network(x)
            return logits
        pieces = [checkpoint(self.network, piece, use_reentrant=False) for piece in torch.split(x, self.size)]
        return torch.cat(pieces)


def prepared(network: nn.Module, size: int | None, device: torch.device, *, compiled: bool) -> nn.Module:
    """Return the network as the training step calls it: in micro-batches, compiled, averaging over ranks."""
    step: nn.Module = MicroBatched(torch.compile(network) if compiled else network, size)  # type: ignore[arg-type]
    if ranks().number > 1:
        ids = [device.index] if device.type == "cuda" else None
        step = nn.parallel.DistributedDataParallel(step, device_ids=ids)
    return step


def mixed_precision(
    device: torch.device, precision: str = "auto"
) -> contextlib.AbstractContextManager[object]:
    """Activations in bfloat16 or float32; with ``"auto"`` bfloat16 where the device is a GPU that has it."""
    wanted = _computes_in_bfloat16(device) if precision == "auto" else precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


def _computes_in_bfloat16(device: torch.device) -> bool:
    """Whether a device is a GPU with bfloat16: one before Ampere stores it, but cannot convolve with it."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


@contextlib.contextmanager
def memory_named(settings: TrainingSettings) -> Iterator[None]:
    """Report in a sentence that a batch does not fit into the memory of the device.

    Raises
    ------
    TrainingError
        With the settings that need less of it.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        at_once = settings.micro_batch or settings.batch_size
        fewer = (
            f"Set training.micro_batch to {at_once // 2} or less, which leaves the step as it is (where the "
            "network has batch statistics, training.batch_size)"
        )
        coarser = "Set preprocessing.spacing_mm higher, or use a smaller network"
        raise TrainingError(
            f"The memory of the device does not hold a step of {at_once} scans at once",
            where="training.micro_batch" if settings.micro_batch else "training.batch_size",
            hint=fewer if at_once > 1 else coarser,
        ) from error


def keep_thin_volumes_exact(network: nn.Module) -> None:
    """Let a convolution of volumes thinner than its kernel take float32 where a CPU computes in bfloat16.

    There oneDNN 3.x leaves a part of the kernel's gradient unset and writes beyond its end: training stops at
    a gradient that is not finite, or goes on with a wrong one. Seen with torch 2.13 on processors that have
    AVX512-BF16, at 2 of 3 planes and 2 to 4 of 5; thicker volumes and images are right.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv3d):
            layer.register_forward_hook(_again_if_thin)


def _again_if_thin(layer: nn.Conv3d, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    (x,) = inputs
    kernel = layer.dilation[0] * (layer.kernel_size[0] - 1) + 1
    if x.device.type != "cpu" or output.dtype != torch.bfloat16 or x.shape[2] >= kernel:
        return output
    with torch.autocast("cpu", enabled=False):
        return nn.Conv3d.forward(layer, x.float())  # not the layer itself, which would come here again


@contextlib.contextmanager
def arithmetic(*, tf32: bool, deterministic: bool) -> Iterator[None]:
    """Let GPUs use TF32 for float32, and only deterministic algorithms, or not, while the block runs.

    Raises
    ------
    ConfigError
        If a layer has no deterministic algorithm.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark)
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses
    matmul.allow_tf32 = cudnn.allow_tf32 = tf32
    cudnn.benchmark = before[2] and not deterministic
    torch.use_deterministic_algorithms(deterministic or was_deterministic)
    try:
        yield
    except RuntimeError as error:
        if "does not have a deterministic implementation" not in str(error):
            raise
        raise ConfigError(
            f"A layer has no deterministic algorithm on this device ({str(error).split()[0]})",
            where="training.deterministic",
            hint="Set it to false, or use a network without such layers",
        ) from error
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before
        torch.use_deterministic_algorithms(was_deterministic)


def memory_order(spatial_dims: int) -> torch.memory_format:
    """Return the memory order that convolutions on a GPU prefer: channels last."""
    return torch.channels_last if spatial_dims == 2 else torch.channels_last_3d


def to_device(batch: Tensor, device: torch.device) -> Tensor:
    """Move volumes (N, 1, X, Y, Z) or images (N, C, H, W) to a device, in the memory order it prefers."""
    if device.type != "cuda":
        return batch
    batch = batch if batch.is_cuda else batch.pin_memory()
    return batch.to(device, non_blocking=True, memory_format=memory_order(batch.ndim - 2))


def batch_threads(device: torch.device) -> int:
    """Return how many threads prepare batches: for a GPU, one for each core that nothing else uses, up to 8.

    Of this process's own cores, which ranks of one machine share; what is prepared does not depend on it.
    """
    if device.type == "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_MOST_THREADS, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1))


def stream_beside_steps(device: torch.device) -> torch.cuda.Stream | None:
    """Return a stream of a GPU on which batches are prepared while steps run; None for a CPU."""
    return torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]


def made_beside_steps(stream: torch.cuda.Stream | None, make: Callable[[], Sequence[Tensor]]) -> list[Tensor]:
    """Return what `make` makes, all of it done, on a stream of its own.

    Steps are queued on the default stream, and a copy from the CPU's memory waits for all that is queued on
    its stream: on the default one, each of the dozen copies of a batch would wait for a whole step.
    """
    if stream is None:
        return list(make())
    with torch.cuda.stream(stream):
        made = list(make())
    stream.synchronize()
    for tensor in made:  # or its memory would be given to the next batch while a queued step still reads it
        tensor.record_stream(torch.cuda.default_stream(stream.device))
    return made


def augments_whole_batches(device: torch.device) -> bool:
    """Return whether a device augments batches faster than the CPU's threads do scan by scan."""
    return device.type == "cuda"


def resident_on(device: torch.device, images: Tensor) -> Tensor:
    """Return a whole training set on a GPU if it fits into a quarter of its free memory, else unchanged."""
    if device.type != "cuda" or 4 * images.nbytes > torch.cuda.mem_get_info(device)[0]:
        return images
    return images.to(device)
