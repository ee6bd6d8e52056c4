"""Devices, and micro-batches whose step is that of the whole batch."""

from __future__ import annotations

import contextlib

import pytest
import torch

from models.losses import build_loss
from models.networks import build_network
from pipeline.config import TrainingSettings
from pipeline.errors import ConfigError, TrainingError
from pipeline.learning.devices import (
    MicroBatched,
    arithmetic,
    batch_threads,
    choose_device,
    join_ranks,
    keep_thin_volumes_exact,
    made_beside_steps,
    memory_named,
    mixed_precision,
)


def test_cuda_where_there_is_none_is_refused():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ConfigError, match=r"there is no CUDA device.*Set it to auto"):
        choose_device("cuda")


@pytest.fixture
def two_gpus(monkeypatch) -> None:
    """A machine on which torch finds two GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_each_process_of_a_machine_has_a_gpu_of_its_own(two_gpus, monkeypatch):
    for place in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", place)
        assert choose_device("auto") == torch.device("cuda", int(place))
        assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match="Process 3 of this machine finds no GPU of its own; found 2"):
        choose_device("auto")


def test_ranks_of_one_machine_share_its_cores_for_their_batches(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(12)), raising=False)
    monkeypatch.setenv("WORLD_SIZE", "8")  # on four machines
    found = []
    for local in ("1", "2", "12"):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
        found.append(batch_threads(torch.device("cuda", 0)))
    assert found == [8, 5, 1]
    assert batch_threads(torch.device("cpu")) == 1


def test_processes_on_gpus_can_exchange_what_lies_on_the_cpu_too(two_gpus, monkeypatch):
    # A study may set the CPU, and epochs and validation logits are compared on it.
    chosen, joined = [], []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.distributed, "init_process_group", joined.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    join_ranks()
    assert joined == []
    monkeypatch.setenv("WORLD_SIZE", "2")
    join_ranks()
    monkeypatch.setenv("LOCAL_RANK", "5")  # the study sets the CPU, or it is refused later
    join_ranks()
    assert chosen == [1]
    backends = torch.distributed.BackendConfig(joined[0]).get_device_backend_map()
    assert backends == {"cpu": "gloo", "cuda": "nccl"}


def test_a_batch_is_made_on_a_stream_of_its_own_and_its_memory_kept_for_the_step(monkeypatch):
    happened = []

    class Stream(contextlib.nullcontext):
        device = torch.device("cuda", 1)

        def synchronize(self) -> None:
            happened.append("done")

    class Made:
        def record_stream(self, stream) -> None:
            happened.append(f"kept for the {stream}")

    @contextlib.contextmanager
    def entered(stream):
        happened.append("entered")
        yield
        happened.append("left")

    monkeypatch.setattr(torch.cuda, "stream", entered)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: f"steps of {device}")

    def make() -> tuple[Made, Made]:
        happened.append("made")
        return Made(), Made()

    assert len(made_beside_steps(Stream(), make)) == 2
    kept = "kept for the steps of cuda:1"
    assert happened == ["entered", "made", "left", "done", kept, kept]
    assert [m.item() for m in made_beside_steps(None, lambda: (torch.tensor(3), torch.tensor(4)))] == [3, 4]


@pytest.mark.parametrize(
    ("micro", "error", "message"),
    [
        (None, torch.OutOfMemoryError("CUDA out of memory"), r"batch_size: .*32 scans.*micro_batch to 16"),
        (1, RuntimeError("can't allocate memory: 4 bytes"), r"micro_batch: .* 1 scans.*spacing_mm higher"),
    ],
)
def test_a_batch_that_does_not_fit_names_the_settings_that_need_less_memory(micro, error, message):
    settings = TrainingSettings(batch_size=32, micro_batch=micro)
    with pytest.raises(TrainingError, match=message), memory_named(settings):
        raise error
    with pytest.raises(RuntimeError, match="other"), memory_named(settings):
        raise RuntimeError("other")


@pytest.mark.parametrize("loss", ["ce", "gce", "mmce"])
@pytest.mark.parametrize("size", [1, 3, 4])
def test_a_step_in_pieces_is_the_step_of_the_whole_batch(loss, size):
    # In double precision, so that the order of sums does not matter.
    torch.manual_seed(0)
    network = build_network("small_cnn", 3, (16, 16, 16), width=4, dropout=0.0).double()
    x, y = torch.rand(10, 1, 16, 16, 16, dtype=torch.float64), torch.arange(10) % 3
    gradients = []
    for pieces in (None, size):
        network.zero_grad()
        build_loss(loss, 3)(MicroBatched(network, pieces)(x), y).backward()
        gradients.append([p.grad.clone() for p in network.parameters()])
    for whole, summed in zip(*gradients, strict=True):
        torch.testing.assert_close(summed, whole, rtol=1e-9, atol=1e-12)


def test_adding_up_gradients_of_pieces_would_be_wrong_for_gce(rng):
    logits, y = torch.from_numpy(rng.normal(0, 2, (8, 3))).requires_grad_(), torch.arange(8) % 3
    loss = build_loss("gce", 3)
    (whole,) = torch.autograd.grad(loss(logits, y), logits)
    parts = sum(loss(a, b) / 2 for a, b in zip(logits.split(4), y.split(4), strict=True))
    (summed,) = torch.autograd.grad(parts, logits)
    assert (whole - summed).abs().max() > 0.01


def test_pieces_keep_no_activations_of_the_whole_batch():
    network = build_network("small_cnn", 3, (16, 16, 16), width=4)
    x = torch.rand(8, 1, 16, 16, 16)

    def kept(size) -> int:
        sizes = []

        def pack(tensor):
            sizes.append(tensor.numel() * (tensor.grad_fn is not None or not tensor.is_leaf))
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            MicroBatched(network, size)(x)
        return sum(sizes)

    assert kept(2) * 20 < kept(None)


def test_micro_batches_repeat_dropout():
    # The forward pass is computed twice and must drop the same features both times.
    network = build_network("small_cnn", 2, (16, 16, 16), width=4, dropout=0.5)
    x, y = torch.rand(6, 1, 16, 16, 16), torch.arange(6) % 2
    torch.manual_seed(1)
    step = MicroBatched(network, 2)
    loss = torch.nn.functional.cross_entropy(step(x), y)
    loss.backward()
    found = network.head[-1].bias.grad.clone()
    torch.manual_seed(1)
    network.zero_grad()
    logits = torch.cat([network(piece) for piece in x.split(2)])
    torch.nn.functional.cross_entropy(logits, y).backward()
    torch.testing.assert_close(found, network.head[-1].bias.grad)


def test_arithmetic_is_set_for_the_block_and_restored():
    flags = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [flag.allow_tf32 for flag in flags]
    with arithmetic(tf32=True, deterministic=True):
        assert [flag.allow_tf32 for flag in flags] == [True, True]
        assert torch.are_deterministic_algorithms_enabled()
    with arithmetic(tf32=False, deterministic=False):
        assert [flag.allow_tf32 for flag in flags] == [False, False]
        assert not torch.are_deterministic_algorithms_enabled()
    assert [flag.allow_tf32 for flag in flags] == before


def test_a_layer_without_a_deterministic_algorithm_is_named_with_the_setting():
    message = (
        "max_pool3d_with_indices_backward_cuda does not have a deterministic implementation, but you set"
    )
    with (
        pytest.raises(
            ConfigError, match=r"training\.deterministic: A layer .*\(max_pool3d_with_indices_back"
        ),
        arithmetic(tf32=False, deterministic=True),
    ):
        raise RuntimeError(message)
    with pytest.raises(RuntimeError, match="out of memory"), arithmetic(tf32=False, deterministic=True):
        raise RuntimeError("out of memory")
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(("precision", "dtype"), [("auto", torch.float32), ("bfloat16", torch.bfloat16)])
def test_precision_is_that_of_the_activations(precision, dtype):
    layer = torch.nn.Linear(3, 2)
    with mixed_precision(torch.device("cpu"), precision):
        assert layer(torch.ones(1, 3)).dtype == dtype
    assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize("has_it", [True, False])
def test_a_gpu_that_cannot_convolve_in_bfloat16_keeps_float32(has_it, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "autocast", lambda *_, enabled: asked.append(enabled))
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or has_it
    )
    mixed_precision(torch.device("cuda", 0))
    mixed_precision(torch.device("cuda", 0), "bfloat16")
    assert asked == [has_it, True]


@pytest.mark.parametrize(("depth", "kernel"), [(1, 3), (2, 3), (3, 3), (2, 5), (3, 5), (4, 5)])
def test_gradients_of_thin_volumes_in_bfloat16_are_near_those_in_float32(depth, kernel):
    torch.manual_seed(0)
    layer = torch.nn.Conv3d(16, 16, kernel, padding=kernel // 2)
    keep_thin_volumes_exact(layer)
    x = torch.randn(8, 16, depth, 6, 6)
    gradients = []
    for precision in ("float32", "bfloat16"):
        for _ in range(10):  # what is left unset has the value of whatever lay there before
            del [torch.full((size,), 3e38) for size in (1_000, 5_000, 20_000, 70_000)][:]
            layer.zero_grad()
            with mixed_precision(torch.device("cpu"), precision):
                y = layer(x)
            (y.float() ** 2).mean().backward()
            gradients.append(layer.weight.grad.clone())
    for gradient in gradients[1:]:
        torch.testing.assert_close(
            gradient, gradients[0], rtol=0.02, atol=0.02 * float(gradients[0].abs().max())
        )


def test_thick_volumes_stay_in_bfloat16():
    layer = torch.nn.Conv3d(1, 4, 3, padding=1)
    keep_thin_volumes_exact(layer)
    with mixed_precision(torch.device("cpu"), "bfloat16"):
        assert layer(torch.ones(1, 1, 3, 3, 3)).dtype == torch.bfloat16
        assert layer(torch.ones(1, 1, 2, 3, 3)).dtype == torch.float32
