"""A tornado agrees with models loaded one by one, and says why a side is missing."""

import math

import pytest

import archlab
from archlab.errors import SpecError
from archlab.sweep.sensitivity import default_ranges, tornado

WORK = archlab.Workload(1, new=8192, context=8192)
METRICS = ("params", "kv_cache_bytes", "flops_prefill", "decode_bound_s", "max_context")


def alone(name: str, metric: str, changes: dict) -> float:
    """A metric of one model, by the analyzers themselves."""
    model = {key: value for key, value in changes.items() if not key.startswith("workload.")}
    spec, batch = archlab.load(name, model), changes.get("workload.batch", WORK.batch)
    context = changes.get("workload.context", WORK.context)
    work = archlab.Workload(batch, new=context, context=context, logits=WORK.logits)
    if metric == "params":
        return archlab.params(spec).total
    if metric == "kv_cache_bytes":
        return archlab.kv_cache(spec, context=context, batch=batch).total
    if metric == "flops_prefill":
        return archlab.flops(spec, work).total
    return archlab.fit(spec, hardware="h200-sxm", batch=batch).max_context


@pytest.mark.parametrize("name", ["gemma-2-9b", "gemma-4-26b-a4b", "recurrentgemma-2b"])
def test_each_side_is_the_model_loaded_alone(name):
    metrics = ("params", "kv_cache_bytes", "flops_prefill", "max_context")[: 4 if name == "gemma-2-9b" else 3]
    frame = tornado(archlab.load(name), WORK, "h200-sxm", metrics=metrics)
    assert len(frame) == len(metrics) * frame["key"].nunique()
    for row in frame.itertuples():
        for changes, found in (({row.key: row.low}, row.at_low), ({}, row.at_base), ({row.key: row.high}, row.at_high)):
            assert (
                row.reason if math.isnan(found) else found == pytest.approx(alone(name, row.metric, changes), rel=1e-9)
            ), row


def test_rows_are_sorted_by_what_they_change():
    frame = tornado(archlab.load("gemma-3-27b-text"), WORK, "h200-sxm", metrics=METRICS)
    assert list(dict.fromkeys(frame["metric"])) == list(METRICS)
    for _, rows in frame.groupby("metric"):
        sizes = rows["size"].dropna()
        assert sizes.is_monotonic_decreasing and rows["size"].notna().iloc[: len(sizes)].all()
        assert (sizes == rows[["change_low", "change_high"]].abs().max(axis=1)[sizes.index]).all()
    cache = frame[frame["metric"] == "kv_cache_bytes"].set_index("key")
    for key in ("n_layers", "attention.n_kv_heads", "attention.head_dim"):
        assert cache.loc[key, "change_high"] == pytest.approx(
            1, abs=0.1
        )  # 124 layers of a period of 6 are not twice 62
    assert cache.loc["workload.batch", "change_high"] == 1
    assert cache.loc[["d_model", "mlp.d_ff", "vocab_size"], "size"].tolist() == [0, 0, 0]


def test_what_cannot_be_is_left_out_with_its_reason():
    rows = tornado(archlab.load("embeddinggemma-300m"), WORK, metrics=["params"]).set_index("key")
    heads = rows.loc["attention.n_kv_heads"]
    assert heads["reason"].startswith("low: 1 cannot be halved; high: attention: n_heads (3) must be a multiple of")
    assert math.isnan(heads["size"]) and heads["low"] is None and heads["high"] == 2
    assert rows.index[-1] == "attention.n_kv_heads"
    assert rows.loc["d_model", "reason"] is None
    shadowed = (
        tornado(archlab.load("recurrentgemma-2b"), WORK, metrics=["params"]).set_index("key").loc["attention.n_heads"]
    )
    assert "recurrent.n_heads" in shadowed["reason"] and not shadowed["reason"].startswith("low")


def test_ranges_of_ones_own():
    spec = archlab.load("gemma-2-9b")
    frame = tornado(
        spec,
        WORK,
        keys={"model.local.window": (1024, 4097), "workload.context": ("4k", 8193)},
        metrics=["kv_cache_bytes"],
    )
    assert frame["key"].tolist() == ["workload.context", "local.window"]
    window = frame.set_index("key").loc["local.window"]
    assert window["at_low"] == archlab.kv_cache(archlab.load("gemma-2-9b", {"local.window": 1024}), 8192).total
    assert window["base"] == 4096 and window["at_base"] == archlab.kv_cache(spec, 8192).total
    assert frame["at_low"].iloc[0] == archlab.kv_cache(spec, 4096).total


def test_the_device_may_be_what_changes():
    """A decode step of batch 1 is bound by memory alone: twice the bandwidth is half the time."""
    keys = {
        "hardware.bandwidth_bytes_per_s": (2.4e12, 9.6e12),
        "hardware": ("h100-sxm", "rtx-4090"),
        "hardware.peak_flops.bf16": (5e14, 2e15),
    }
    frame = tornado(archlab.load("gemma-2-9b"), WORK, "h200-sxm", keys=keys, metrics=["decode_bound_s"]).set_index(
        "key"
    )
    assert frame.loc["hardware.bandwidth_bytes_per_s", "base"] == 4.8e12
    assert frame.loc["hardware.bandwidth_bytes_per_s", ["change_low", "change_high"]].tolist() == pytest.approx(
        [1, -0.5]
    )
    assert (
        frame.loc["hardware", "change_high"] == pytest.approx(4.8e12 / 1.008e12 - 1)
        and frame.loc["hardware", "base"] == "h200-sxm"
    )
    assert frame.loc["hardware.peak_flops.bf16", "size"] == pytest.approx(0, abs=1e-9)
    with pytest.raises(SpecError, match="did you mean 'bandwidth_bytes_per_s'"):
        tornado(archlab.load("gemma-2-9b"), WORK, "h200-sxm", keys={"hardware.bandwidth": (1, 2)})


@pytest.mark.parametrize("more, says", [
    ({"keys": {"local.windw": (1, 2)}}, "did you mean 'window'"),
    ({"keys": {"workload.contxt": (1, 2)}}, "unknown key workload.contxt"),
    ({"keys": {"local.window": 3}}, "local.window=3 must be two values, the low and the high"),
    ({"keys": {"local.window": (1, 2, 3)}}, "must be two values"),
    ({"metrics": ["parms"]}, "unknown metric 'parms'; did you mean 'params'"),
    ({"metrics": ["decode_bound_by"], "hardware": "h200-sxm"}, "is text; a tornado takes numbers"),
    ({"metrics": ["max_context"]}, "memory and limits need hardware"),
])  # fmt: skip
def test_bad_input_is_one_sentence(more, says):
    with pytest.raises(SpecError, match=says):
        tornado(archlab.load("gemma-2-9b"), WORK, **more)


def test_a_key_of_ones_own_that_another_hides_has_a_reason():
    (row,) = tornado(
        archlab.load("recurrentgemma-2b"), WORK, keys={"attention.n_heads": (5, 20)}, metrics=["params"]
    ).itertuples()
    assert "recurrent.n_heads" in row.reason and math.isnan(row.at_low) and math.isnan(row.at_high)


@pytest.mark.parametrize("name", archlab.models())
def test_every_preset_has_ranges(name):
    spec = archlab.load(name)
    ranges = default_ranges(spec, WORK)
    assert {"d_model", "n_layers", "vocab_size", "mlp.d_ff", "workload.context", "workload.batch"} <= set(ranges)
    assert all(high // 4 == (low or 0) for low, high in ranges.values())
    assert not [key for key in ranges if key.startswith(("vision.", "audio."))]
