"""What really ran is seen, and a timing of anything else than the fast way fails loudly."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

import archlab
from archlab.measure import ran as ran_module
from archlab.measure.bench import Bench
from archlab.measure.ran import Kernel, Ran, attention_layers, compiled, ran
from archlab.nn.kernels import torch_kernels
from archlab.nn.kernels.torch_kernels import unmasked
from archlab.paths import PACKAGE

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
SECONDS = 0.02
CAPPED = {
    "d_model": 32, "n_layers": 2, "vocab_size": 64, "attention.n_heads": 2, "attention.n_kv_heads": 1,
    "attention.head_dim": 8, "mlp.d_ff": 48, "local.window": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tiny, rates):
    with Bench(tiny, "cpu", "fp32", rooflines=rates) as made:
        yield made


def test_the_record_names_what_ran(built, prefill, decode):
    for work in (prefill, decode):
        record = built.run(work, SECONDS)
        assert (record.status, record.attention, record.compiled) == ("ok", "SDPA flash", 0)
        names = [kernel["name"] for kernel in record.kernels]
        shares = [kernel["share"] for kernel in record.kernels]
        assert "aten::mm" in names and len(names) == 8
        assert shares == sorted(shares, reverse=True) and 0.3 < sum(shares) <= 1.001


def test_the_reference_says_that_it_makes_scores(tiny, rates, decode):
    with Bench(tiny, "cpu", "fp32", rooflines=rates, backend="reference") as made:
        record = made.run(decode, SECONDS)
    assert (record.status, record.backend, record.runs) == ("ok", "reference", "Python")
    assert record.attention == "matrix products and a softmax"


def math_sdpa(q, keys, values, scale, cap):
    k, v = keys.transpose(1, 2), values.transpose(1, 2)
    return torch.ops.aten._scaled_dot_product_attention_math(q, k, v, scale=scale)[0]


def scores(q, keys, values, scale, cap):
    k, v = keys.transpose(1, 2), values.transpose(1, 2)
    return (q @ k.transpose(2, 3) * scale).softmax(-1) @ v


@pytest.mark.parametrize(
    ("slow", "said"),
    [(math_sdpa, "attention ran SDPA's math kernel"), (scores, "3 layers were to run a fused kernel, and 0 did")],
)
def test_another_attention_than_the_fused_one_fails(built, decode, monkeypatch, slow, said):
    monkeypatch.setattr(torch_kernels, "unmasked", slow)
    record = built.run(decode, SECONDS)
    assert record.status == "failed" and said in record.reason and record.median_s is None
    monkeypatch.setattr(torch_kernels, "unmasked", unmasked)
    assert built.run(decode, SECONDS).status == "ok"


def test_capped_scores_have_no_fused_kernel_on_a_cpu(rates, decode):
    spec = archlab.load("gemma-2-2b", CAPPED)
    with Bench(spec, "cpu", "fp32", rooflines=rates) as made:
        record = made.run(decode, SECONDS)
    assert (record.status, record.reason, record.attention) == ("ok", "", "matrix products and a softmax")
    assert (attention_layers(spec, capped_too=True), attention_layers(spec, capped_too=False)) == (2, 0)


def test_what_is_compiled_while_samples_are_taken_fails(built, decode, monkeypatch):
    graphs = iter(range(100))
    monkeypatch.setattr("archlab.measure.trial.compiled", lambda: next(graphs))
    record = built.run(decode, SECONDS)
    assert record.status == "failed" and record.reason == "torch.compile compiled 1 functions while samples were taken"


def test_compilations_are_counted_and_giving_up_is_refused():
    import torch._dynamo

    before = compiled()
    assert torch._dynamo.config.fail_on_recompile_limit_hit
    double = torch.compile(lambda x: x * 2 + before, backend="eager", dynamic=False)
    double(torch.ones(3))
    assert compiled() == before + 1
    double(torch.ones(4))
    assert compiled() == before + 2
    torch._dynamo.reset()


def test_a_recording_that_gives_other_logits_fails(built, decode, monkeypatch):
    monkeypatch.setattr("archlab.measure.trial.Replay.__call__", lambda self: self._run() + 1)
    record = built.run(decode, SECONDS)
    assert record.status == "failed" and "TorchScript trace gives logits that differ" in record.reason


# ---------------------------------------------------------------- a GPU's kernels, made up

FLASH = "pytorch_flash::flash_fwd_splitkv_kernel<Flash_fwd_kernel_traits<256, 64>>(Flash_fwd_params)"
GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64"
SOFTMAX = "void (anonymous namespace)::softmax_warp_forward<float, float, float, 9, false, false>"


@pytest.mark.parametrize(
    ("names", "said", "problem"),
    [
        ({FLASH: 3, GEMM: 12}, "FlashAttention", ""),
        ({"_read": 3, "_add": 3, GEMM: 12}, "Triton step attention", ""),
        ({"_causal": 3, GEMM: 12}, "Triton causal attention", ""),
        ({"cudnn_generated_fort_native_sdpa_sm90_flash_fprop": 3}, "cuDNN attention", ""),
        ({"fmha_cutlassF_bf16_aligned_64x64_rf_sm80": 3}, "memory-efficient attention", ""),
        ({FLASH: 2, GEMM: 13}, "FlashAttention", "3 layers were to run a fused kernel, and 2 did"),
        ({FLASH: 2, "flash_fwd_splitkv_combine_kernel": 2}, "FlashAttention", "and 2 did"),
        ({GEMM: 18, SOFTMAX: 3}, "matrix products and a softmax", "and 0 did"),
        ({GEMM: 18}, "", "attention ran as nothing that is known as attention"),
    ],
)
def test_kernels_of_a_gpu_are_known_by_their_names(tiny, names, said, problem):
    seen = Ran(tuple(Kernel(name, count, 1e-6) for name, count in names.items()), on_gpu=True)
    assert seen.attention == said
    found = seen.problem(tiny, CUDA)
    assert problem in found and bool(found) == bool(problem)


def test_the_names_of_our_own_kernels_are_those_of_their_functions():
    """A function that is renamed would no longer be known as attention."""
    for file, name in (("triton_decode.py", "_read"), ("triton_prefill.py", "_causal")):
        assert f"def {name}(" in (PACKAGE / "nn" / "kernels" / file).read_text()


@pytest.fixture
def cupti(monkeypatch):
    """A profiler that sees what it is told: (device type, name, microseconds)."""
    seen = []

    def event(device, name, us):
        return SimpleNamespace(device_type=device, key=name, count=1, self_device_time_total=us, self_cpu_time_total=us)

    def profiled(step, activities):
        step()
        return [event(*e) for e in seen]

    monkeypatch.setattr(ran_module, "_profiled", profiled)
    return seen


def test_a_gpu_is_asked_for_the_replay_and_without_cupti_for_the_pass(cupti):
    from torch.autograd import DeviceType

    calls = []
    cupti += [(DeviceType.CPU, "cudaGraphLaunch", 90.0), (DeviceType.CUDA, f"void {GEMM}", 30.0)]
    cupti += [(DeviceType.CUDA, "_read", 10.0)]
    found = ran(lambda: calls.append("replay"), lambda: calls.append("pass"), CUDA)
    assert calls == ["replay"] and found.on_gpu
    assert found.largest() == [{"name": GEMM, "share": 0.75}, {"name": "_read", "share": 0.25}]
    del cupti[1:]
    found = ran(lambda: calls.append("replay"), lambda: calls.append("pass"), CUDA)
    assert calls == ["replay", "replay", "pass"] and not found.on_gpu
    assert [kernel.name for kernel in found.kernels] == ["cudaGraphLaunch"]


def test_without_a_graph_a_gpu_timing_fails(tiny, rates, decode, monkeypatch):
    """And without CUPTI nothing is claimed about the kernels."""
    with Bench(tiny, "cpu", "fp32", rooflines=rates) as made:
        trial = made.trial(decode)
        trial.warm_up(0.0)
        trial.sample(0.0)
        monkeypatch.setattr(made, "device", CUDA)
        monkeypatch.setattr("archlab.measure.trial.ran", lambda *_: Ran(()))
        monkeypatch.setattr("archlab.measure.trial.release", lambda _: None)
        trial.finish()
        assert trial.problem == "no CUDA graph was captured: it ran as TorchScript trace"
        assert Ran(()).problem(tiny, CUDA) == ""
        assert any(
            "CUPTI is not there" in text for text in trial.warnings({"throttled": [], "before": None, "after": None})
        )


def test_sdpa_math_is_told_from_flash():
    q = torch.randn(1, 2, 4, 8)
    seen = ran(lambda: None, lambda: F.scaled_dot_product_attention(q, q, q), CPU)
    assert (seen.fused, seen.attention) == (1, "SDPA flash")
    seen = ran(lambda: None, lambda: torch.ops.aten._scaled_dot_product_attention_math(q, q, q), CPU)
    assert (seen.fused, seen.attention) == (0, "SDPA math")
