"""Calibrations: constants come back from timings made of them, the error stated is of what was left out."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import yaml

import archlab
from archlab.analyzers.kernels import Attention, Linear, Vector, kernels
from archlab.calibration import Composed, Error, Laws, LinearLaw, ProductLaw, StepLaw, SumLaw, calibrations_from
from archlab.errors import ArchlabError, SpecError
from archlab.hardware import hardware_from, load_hardware
from archlab.ledger import ledger
from archlab.measure.calibration import calibrate
from archlab.measure.device_file import dump, keys, without_block, write_calibration, write_device
from archlab.measure.fitting import nonnegative, positive, relative
from archlab.measure.laws import fit_kernels
from archlab.measure.provenance import config_hash
from archlab.measure.records import append_record
from archlab.measure.shapes import KINDS, name_of, operation_of, operations_for, operations_of
from archlab.paths import data_dir
from archlab.precision import load_precision

NOISE = 0.02
H200 = data_dir("conf") / "hardware" / "h200-sxm.yaml"

TRUTH = Laws(
    linear=LinearLaw(
        few_rows=8,
        few=SumLaw(launch_s=4e-6, bandwidth_bytes_per_s=4e12, operations_per_s=None),
        many=ProductLaw(
            launch_s=6e-6, bandwidth_bytes_per_s=3.5e12, flops_per_s=7.5e14, half_rows=60.0, half_inputs=300.0
        ),
    ),
    attention={
        kind: SumLaw(launch_s=launch, bandwidth_bytes_per_s=4e12, operations_per_s=rate)
        for kind, launch, rate in (("step", 8e-6, None), ("causal", 1e-5, 5e14), ("windowed", 1e-5, 2.5e14))
    },
    vector=SumLaw(launch_s=3e-6, bandwidth_bytes_per_s=2.5e12, operations_per_s=None),
    step=StepLaw(linear=1.05, step_attention=1.3, attention=0.95, seconds=4e-5),
)
SHAPES = (
    {}, {"attention.n_kv_heads": 1}, {"attention.n_kv_heads": 8}, {"mlp.d_ff": 4096}, {"mlp.d_ff": 16384},
    {"local.window": 4096}, {"d_model": 1536}, {"n_layers": 20},
)  # fmt: skip
SPECS = [archlab.load("gemma-3-4b-text", shape) for shape in SHAPES]
WORKS = [
    archlab.Workload(batch, new, context, logits="last")
    for batch, new, context in ((1, 4096, 4096), (1, 8192, 8192), (1, 1, 2048), (1, 1, 16384), (16, 1, 4096))
]
ABOUT = {"dtype": "bf16", "device": "NVIDIA H200", "status": "ok"}
ORIGIN = {
    "utc": "2026-11-21T10:00:00+00:00", "torch": "2.11.0+cu130", "code_version": "0123456789abcdef", "threads": 16,
    "gpu": "NVIDIA H200", "gpu_multiprocessors": 132,
}  # fmt: skip


def timed(operation, seconds):
    """The record of an operation that took so long."""
    kind = next(kind for kind, cls in KINDS.items() if isinstance(operation, cls))
    data = {"kind": kind, **dataclasses.asdict(operation)}
    return {"shape": name_of(operation), "operation": data, "median_s": seconds, "provenance": ORIGIN, **ABOUT}


def stepped(spec, work, seconds):
    """The record of a whole step that took so long; its model stands beside it."""
    sizes = {"batch": work.batch, "new": work.new, "context": work.context, "logits": work.logits}
    phase = "decode" if work.new == 1 else "prefill"
    named = {"model": spec.name, "config_hash": config_hash(spec), "config": spec.data, "phase": phase}
    return {**named, **sizes, "backend": "fast", "median_s": seconds, "provenance": ORIGIN, **ABOUT}


def true_seconds(spec, work):
    """Seconds of a step by the laws that the tests start from."""
    runs = kernels(ledger(spec, work), load_precision("bf16"))
    return sum(kernel.in_step(TRUTH, {}) * kernel.count for kernel in runs) + TRUTH.step.seconds


def noisy(seconds, noise):
    return float(seconds * np.exp(noise.normal(0, NOISE)))


@pytest.fixture(scope="module")
def operations():
    """Records of the GPU's grid and of exact shapes of the models, as the true laws make them, with 2 % of noise."""
    noise = np.random.default_rng(1)
    exact = [op for spec in SPECS for op in operations_of(spec, WORKS)]
    grid = [op for op in operations_for("cuda") if not getattr(op, "cap", False)]
    return [timed(op, noisy(op.kernel(2).alone(TRUTH), noise)) for op in dict.fromkeys([*grid, *exact])]


@pytest.fixture(scope="module")
def steps():
    noise = np.random.default_rng(2)
    return [stepped(spec, work, noisy(true_seconds(spec, work), noise)) for spec in SPECS for work in WORKS]


def write(folder, operations, steps):
    for name, records in (("operations", operations), ("latency", steps)):
        for record in records:
            append_record(folder / f"{name}.jsonl", record)
    return folder


@pytest.fixture(scope="module")
def fitted(operations, steps, tmp_path_factory):
    return calibrate(write(tmp_path_factory.mktemp("run"), operations, steps), run="reports/h200")


@pytest.fixture
def device(fitted, tmp_path):
    """A calibrated device, as its file says it."""
    path = tmp_path / "h200-sxm.yaml"
    path.write_text(H200.read_text())
    write_calibration(path, fitted)
    return load_hardware(path)


# ---------------------------------------------------------------- least squares


def test_nonnegative_least_squares_is_the_best_of_all_sets_of_columns():
    random = np.random.default_rng(3)
    for _ in range(40):
        a, y = random.normal(size=(12, 4)), random.normal(size=12)
        found = nonnegative(a, y)
        assert (found >= 0).all()
        least = min(
            np.linalg.norm(y - a[:, list(chosen)] @ np.linalg.lstsq(a[:, list(chosen)], y, rcond=None)[0])
            for n in range(5)
            for chosen in itertools.combinations(range(4), n)
            if not n or (np.linalg.lstsq(a[:, list(chosen)], y, rcond=None)[0] >= 0).all()
        )
        assert np.linalg.norm(y - a @ found) == pytest.approx(least, rel=1e-9)


def test_a_point_that_is_far_off_does_not_pull_the_rest():
    x = np.linspace(1, 10, 40)
    y = 3 + 2 * x
    y[7] *= 30
    assert relative(np.stack((np.ones(40), x), 1), y) == pytest.approx([3, 2], rel=0.01)
    assert positive(lambda c: c[0] + c[1] * x, y, np.array([1.0, 1.0])) == pytest.approx([3, 2], rel=0.01)


def test_columns_that_the_points_do_not_tell_apart_stay_where_they_are_trusted():
    a = np.stack((np.linspace(1, 5, 9), np.zeros(9)), 1)
    found = relative(a, 2 * a[:, 0], prior=np.array([1.0, 7.0]), trust=np.array([0.0, 0.01]))
    assert found == pytest.approx([2, 7], rel=1e-6)


# ---------------------------------------------------------------- fits


def test_the_constants_of_single_kernels_come_back(operations):
    runs = [(KINDS[r["operation"]["kind"]], r) for r in operations]
    found = fit_kernels([(cls(**_sizes(r)).kernel(2), r["median_s"]) for cls, r in runs])
    assert found.linear.few_rows == 8
    few, many = found.linear.few, found.linear.many
    assert few.launch_s == pytest.approx(4e-6, rel=0.1) and few.bandwidth_bytes_per_s == pytest.approx(4e12, rel=0.1)
    assert many.flops_per_s == pytest.approx(7.5e14, rel=0.05)
    assert many.half_rows == pytest.approx(60, rel=0.3) and many.half_inputs == pytest.approx(300, rel=0.3)
    assert found.attention["step"].bandwidth_bytes_per_s == pytest.approx(4e12, rel=0.1)
    assert found.vector.bandwidth_bytes_per_s == pytest.approx(2.5e12, rel=0.1)
    for batch, m, n, k in ((1, 1, 7000, 3000), (1, 300, 5000, 2500), (1, 6000, 9000, 4100), (8, 40, 700, 2800)):
        nbytes = 2 * batch * (n * k + m * k + m * n)
        true = TRUTH.linear.seconds(batch, m, n, k, nbytes)
        assert found.linear.seconds(batch, m, n, k, nbytes) == pytest.approx(true, rel=0.05)


def _sizes(record):
    return {name: value for name, value in record["operation"].items() if name != "kind"}


def test_a_step_is_predicted_within_the_noise(fitted):
    calibration = fitted.calibration
    assert calibration.error.n_configurations == len(SPECS) and len(fitted.left_out) == len(SPECS) * len(WORKS)
    assert 0.1 * NOISE < calibration.error.median < 1.5 * NOISE and calibration.error.p90 < 4 * NOISE
    assert calibration.composed.error.median < 1.5 * NOISE
    factors = calibration.step
    assert factors.linear == pytest.approx(1.05, rel=0.05) and factors.step_attention == pytest.approx(1.3, rel=0.15)
    assert factors.attention == pytest.approx(0.95, rel=0.15)  # a tenth of a prefill: noise tells no more
    errors = fitted.kernel_errors
    assert set(errors) == {"linear", "vector", "step", "causal", "windowed"} and max(errors.values()) < 2 * NOISE
    assert (calibration.contexts, calibration.batches) == ([2048, 16384], [1, 16])
    assert (calibration.multiprocessors, calibration.threads) == (132, None)


def test_a_configuration_that_differs_shows_in_its_own_error_and_not_as_zero(operations, steps, tmp_path):
    """One model took half as long again as the laws say: no fit to the others can know, so its error is a third."""
    odd = config_hash(SPECS[3])
    spoilt = [s | {"median_s": s["median_s"] * (1.5 if s["config_hash"] == odd else 1)} for s in steps]
    found = calibrate(write(tmp_path, operations, spoilt))
    errors = {r.config_hash: [] for r in found.left_out}
    for r in found.left_out:
        errors[r.config_hash].append(abs(r.predicted_s / r.measured_s - 1))
    assert np.median(errors.pop(odd)) == pytest.approx(1 / 3, abs=0.05)
    assert max(np.median(each) for each in errors.values()) < 4 * NOISE
    assert found.calibration.error.p90 > 0.25 > found.calibration.error.median


def test_the_left_out_are_predicted_by_the_others_alone(operations, steps, tmp_path):
    """What is said of a configuration does not depend on how long it took itself."""
    odd = config_hash(SPECS[5])
    doubled = [s | {"median_s": s["median_s"] * (2 if s["config_hash"] == odd else 1)} for s in steps]
    first, second = (calibrate(write(tmp_path / name, operations, s)) for name, s in (("a", steps), ("b", doubled)))
    own = [[r.predicted_s for r in found.left_out if r.config_hash == odd] for found in (first, second)]
    assert own[0] == own[1] and len(own[0]) == len(WORKS)


# ---------------------------------------------------------------- a folder's lines


def test_lines_that_do_not_count_are_counted(operations, steps, tmp_path):
    said = []
    folder = write(tmp_path, operations, steps)
    with (folder / "operations.jsonl").open("a") as file:
        file.write('{"torn": \n"not an object"\n')
    for record in (
        operations[0] | {"operation": {"kind": "convolution"}},
        operations[0] | {"dtype": "fp4"},
        operations[0] | {"status": "failed", "median_s": None},
    ):
        append_record(folder / "operations.jsonl", record)
    for record in (
        {k: v for k, v in steps[0].items() if k != "config"} | {"config_hash": "nobody's"},
        steps[0] | {"source": "extrapolated"},
        steps[0] | {"median_s": 0},
        steps[0] | {"dtype": "fp32"},
        steps[0] | {"config": {**SPECS[1].data}},
    ):
        append_record(folder / "latency.jsonl", record)
    found = calibrate(folder, say=said.append)
    assert found.passed_over == {
        "torn, in operations.jsonl": 2,
        "no operations, in operations.jsonl": 2,
        "operations that failed": 1,
        "steps of a model that is neither written beside them nor known by its hash": 2,
        "steps that were extrapolated, not measured": 1,
        "no steps, in latency.jsonl": 1,
        "of another dtype or device": 1,
    }
    assert "passed over 2 lines: torn, in operations.jsonl" in said
    assert len(found.left_out) == len(steps)


@pytest.mark.slow
def test_a_model_is_known_by_its_hash_where_it_is_not_written_down(operations, steps, tmp_path):
    """Of presets and of the suite's studies; others must be given."""
    hashes = {config_hash(spec) for spec in SPECS[3:]}
    bare = [{k: v for k, v in s.items() if k != "config"} for s in steps]
    with pytest.raises(ArchlabError, match="steps of 0 configurations"):
        calibrate(write(tmp_path / "a", operations, [s for s in bare if s["config_hash"] in hashes]))
    found = calibrate(write(tmp_path / "b", operations, bare), specs=SPECS)
    assert found.calibration.error.n_configurations == len(SPECS)
    assert {r.model for r in found.left_out} == {"gemma-3-4b-text"}


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda ops, steps: (ops, []), "no latency.jsonl, which the suite writes"),
        (lambda ops, steps: ([], steps), "no operations.jsonl, which measure_operations writes"),
        (lambda ops, steps: ([o for o in ops if o["operation"]["kind"] != "vector"], steps), "0 elementwise kernels"),
        (lambda ops, steps: ([o for o in ops if o["operation"].get("new") != 1], steps), "0 step attentions"),
        (lambda ops, steps: ([o for o in ops if o["operation"].get("m") != 1 or o["operation"]["m"] > 8], steps),
         "few rows, up to 64"),
        (lambda ops, steps: (ops, steps[: 2 * len(WORKS)]), "steps of 2 configurations were measured, and at least 3"),
        (lambda ops, steps: ([o | {"device": f"card {i % 2}"} for i, o in enumerate(ops)], steps),
         "of several devices, card 0, card 1"),
        (lambda ops, steps: (ops, [s | {"backend": ("fast", "reference")[i % 2]} for i, s in enumerate(steps)]),
         "of several backends, fast, reference"),
        (lambda ops, steps: (ops, [s | {"device": "another"} for s in steps]), "holds no measurement"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_in_a_sentence(operations, steps, tmp_path, spoil, sentence):
    ops, whole = spoil(operations, steps)
    if "few rows" in sentence:
        ops = [o for o in ops if o["operation"]["kind"] != "linear" or o["operation"]["m"] > 64]
    with pytest.raises(ArchlabError, match=sentence) as problem:
        calibrate(write(tmp_path, ops, whole))
    assert "\n" not in str(problem.value)


def test_one_of_several_formats_is_named(operations, steps, tmp_path):
    folder = write(tmp_path, [*operations, operations[0] | {"dtype": "fp16"}], steps)
    with pytest.raises(ArchlabError, match="several number formats, bf16, fp16"):
        calibrate(folder)
    with pytest.raises(ArchlabError, match="no measurement of fp32, only of bf16, fp16"):
        calibrate(folder, dtype="fp32")
    assert calibrate(folder, dtype="bf16").dtype == "bf16"


# ---------------------------------------------------------------- the block in a file


def test_a_file_keeps_its_other_lines_and_says_the_calibration(fitted, device, tmp_path):
    path = tmp_path / "h200-sxm.yaml"
    text = path.read_text()
    assert text.startswith(H200.read_text()) and "# agrees within 4 %" in text
    assert device.measured == {"bf16": fitted.calibration}
    assert dataclasses.replace(device, measured=None) == load_hardware("h200-sxm")
    write_calibration(path, fitted)
    assert path.read_text() == text
    write_calibration(path, dataclasses.replace(fitted, dtype="fp16"))
    assert list(load_hardware(path).measured) == ["bf16", "fp16"]
    assert [p.name for p in tmp_path.iterdir()] == ["h200-sxm.yaml"]


def test_a_block_in_the_middle_of_a_file_is_taken_out_alone(fitted, tmp_path):
    path = tmp_path / "card.yaml"
    lines = H200.read_text().replace("name: h200-sxm", "name: card").splitlines(keepends=True)
    old = dump({"bf16": keys(fitted.calibration)})
    path.write_text("".join(lines[:5]) + old + "\n# a remark\n" + "".join(lines[5:]))
    write_calibration(path, fitted)
    assert path.read_text() == "".join(lines[:5]) + "# a remark\n" + "".join(lines[5:]) + old
    assert without_block(without_block(path.read_text())) == without_block(path.read_text())


def test_numbers_are_written_as_the_floats_that_they_are(fitted):
    block = yaml.safe_load(dump({"bf16": keys(fitted.calibration)}))["measured"]
    assert calibrations_from(block) == {"bf16": fitted.calibration}
    assert json.loads(json.dumps(block)) == block


def test_a_machine_without_a_file_gets_one(fitted, tmp_path):
    rooflines = {
        "device": "AMD EPYC, 2 threads", "kind": "cpu", "memory_bytes": 2**34, "read_bytes_per_s": 1.5e10,
        "matmul_flops_per_s": 1.2e11, "dtype": "bf16", "utc": "2026-11-21T10:00:00+00:00",
    }  # fmt: skip
    path = tmp_path / "new" / "here.yaml"
    write_device(path, rooflines, fitted)
    found = load_hardware(path)
    assert (found.name, found.kind, found.status) == ("here", "cpu", "measured")
    assert (found.bandwidth_bytes_per_s, found.flops_per_s("bf16")) == (1.5e10, 1.2e11)
    assert found.calibration("bf16") == fitted.calibration and found.calibration("fp32") is None
    with pytest.raises(ArchlabError, match="is there already"):
        write_device(path, rooflines, fitted)
    with pytest.raises(ArchlabError, match="memory_bytes=1 is in bytes"):
        write_device(tmp_path / "wrong.yaml", rooflines | {"memory_bytes": 1}, fitted)
    assert not (tmp_path / "wrong.yaml").exists()


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("bf16", "linaer"), {}, "unknown key hardware.measured.bf16.linaer; did you mean 'linear'"),
        (("bf17",), {}, "unknown format hardware.measured.bf17; did you mean 'bf16'"),
        (("bf16", "linear", "few", "launch_s"), -1e-6, "few.launch_s=-1e-06 must be a number of 0 or more"),
        (("bf16", "linear", "few", "launch"), 1e-6, "unknown key .*few.launch; did you mean 'launch_s'"),
        (("bf16", "linear", "many", "flops_per_s"), 0, "many.flops_per_s=0 must be a number above 0"),
        (("bf16", "linear", "many"), None, "linear.many=None must be a table"),
        (("bf16", "linear", "few_rows"), 1.5, "few_rows=1.5 must be a whole number"),
        (("bf16", "attention", "casual"), {}, "unknown key .*attention.casual; did you mean 'causal'"),
        (("bf16", "attention"), {}, "attention.step is missing"),
        (("bf16", "step", "linear"), "1.1", "step.linear='1.1' must be a number of 0 or more"),
        (("bf16", "error"), None, "error=None must be a table"),
        (("bf16", "error", "median"), float("nan"), "error.median=nan must be"),
        (("bf16", "contexts"), [4096], "contexts=.* must be two whole numbers"),
        (("bf16", "batches"), [8, 1], "batches=.* must be two whole numbers"),
        (("bf16", "operations"), {"linear batch=1 m=1 n=8 k=8": 0}, "which must be seconds above 0"),
        (("bf16", "date"), 20261121, "date=20261121 must be text"),
        (("bf16",), 5, "hardware.measured.bf16=5 must be a table"),
        ((), [], r"hardware.measured=\[\] must be a table"),
    ],
)
def test_a_wrong_block_is_refused_in_a_sentence(fitted, path, value, sentence):
    data = {**yaml.safe_load(H200.read_text()), "memory_bytes": 2**37, "measured": {"bf16": keys(fitted.calibration)}}
    data = json.loads(json.dumps(data))
    at = data
    for name in ("measured", *path)[:-1]:
        at = at[name]
    at[("measured", *path)[-1]] = value
    with pytest.raises(SpecError, match=sentence) as problem:
        hardware_from(data)
    assert "\n" not in str(problem.value)


def test_nothing_of_a_block_may_be_missing(fitted):
    whole = keys(fitted.calibration)
    for name in ("date", "device", "run", "torch", "linear", "attention", "vector", "error", "contexts"):
        with pytest.raises(SpecError, match=f"measured.bf16.{name} is missing"):
            calibrations_from({"bf16": {k: v for k, v in whole.items() if k != name}})


# ---------------------------------------------------------------- what a latency then is


def test_a_calibrated_device_predicts_and_says_how_wrong(fitted, device):
    fresh = archlab.load("gemma-3-4b-text", {"mlp.d_ff": 7168, "d_model": 2048})
    for work in WORKS:
        found = archlab.latency(fresh, work, device, "bf16")
        assert found.source == "predicted" and found.error_band == fitted.calibration.error
        assert found.seconds == pytest.approx(true_seconds(fresh, work), rel=0.06)
        assert found.seconds == pytest.approx(sum(found.by_part.values())) and "step" in found.by_part
        least = archlab.latency(fresh, work, "h200-sxm", "bf16")
        assert found.bound_seconds == least.seconds == least.bound_seconds and least.source == "bound"
        assert any("2026-11-21 on NVIDIA H200" in said and "reports/h200" in said for said in found.assumptions)


def test_a_device_without_a_calibration_bounds_and_says_at_which_rates(device):
    spec = archlab.load("gemma-2b")
    for hardware, precision in (("rtx-4090", "bf16"), (device, "fp16"), (device, "fp8"), (device, "int4")):
        found = archlab.latency(spec, WORKS[2], hardware, precision)
        assert (found.source, found.error_band) == ("bound", None) and found.seconds == found.bound_seconds
        assert any("GB/s" in said and "data sheet" in said for said in found.assumptions)
    kept = dataclasses.replace(load_precision("bf16"), kv="fp8")
    assert archlab.latency(spec, WORKS[2], device, kept).source == "bound"


def test_what_was_not_measured_is_said(device):
    def said(work, model="gemma-3-4b-text"):
        return " ".join(archlab.latency(archlab.load(model), work, device).assumptions)

    assert "not measured" not in said(archlab.Workload(1, 1, 4096))
    assert "64k tokens were not measured, only 2k to 16k" in said(archlab.Workload(1, 1, 65536))
    assert "64 sequences were not measured, only 1 to 16" in said(archlab.Workload(64, 1, 4096))
    assert "kind step_capped was not measured, and is taken for step" in said(WORKS[2], "gemma-2-9b")
    assert "kind windowed_capped was not measured, and is taken for windowed" in said(WORKS[1], "gemma-2-9b")
    assert "several matrices at once" in said(WORKS[2], "gemma-4-26b-a4b")


def composed(device, spec, works, seconds=2e-3):
    """The device with exact shapes of workloads, each of them the same seconds, and steps that are their kernels' sum."""
    calibration = device.calibration("bf16")
    known = {name_of(op): seconds for op in operations_of(spec, works)}
    nothing = SumLaw(launch_s=0.0, bandwidth_bytes_per_s=None, operations_per_s=None)
    band = Composed(vector=nothing, step=StepLaw(), error=Error(median=0.01, p90=0.02, n_configurations=5))
    return dataclasses.replace(
        device, measured={"bf16": dataclasses.replace(calibration, operations=known, composed=band)}
    )


@pytest.mark.parametrize("work", WORKS, ids=str)
def test_a_workload_of_known_shapes_is_composed_of_them(device, work):
    spec = archlab.load("gemma-3-4b-text")
    found = archlab.latency(spec, work, composed(device, spec, [work]))
    assert (found.source, found.error_band.median) == ("composed", 0.01)
    runs = (34 * 4 + 1) + 34  # four products and an attention a layer, and the head
    assert found.seconds == pytest.approx(runs * 2e-3) and found.by_part["head"] == 2e-3
    other = archlab.load("gemma-3-4b-text", {"mlp.d_ff": 10304})
    assert archlab.latency(other, work, composed(device, spec, [work])).source == "predicted"


def test_points_are_predicted_beside_their_bounds_where_a_device_is_calibrated(device, fitted):
    work = archlab.Workload(new=8192, logits="last")
    grid = {"attention.n_kv_heads": [1, 2, 4], "workload.context": [1, 1024, 8192], "pattern": [["global"], ["local"]]}
    spec = archlab.load("gemma-3-4b-text")
    plain, points = (archlab.evaluate(spec, work, d, grid=grid) for d in ("h200-sxm", device))
    assert not [name for name in plain.columns if "predicted" in name]
    for phase in ("prefill", "decode"):
        assert (points[f"{phase}_bound_s"] == plain[f"{phase}_bound_s"]).all()
        parts = [n for n in points.columns if n.startswith(f"{phase}_predicted_") and n != f"{phase}_predicted_s"]
        assert sum(points[name] for name in parts) == pytest.approx(points[f"{phase}_predicted_s"])
    one = archlab.load("gemma-3-4b-text", {"attention.n_kv_heads": 2, "pattern": ["global"]})
    found = archlab.latency(one, archlab.Workload(1, 1, 1024, logits="last"), device)
    assert found.source == "predicted"
    assert points["decode_predicted_s"][1, 1, 0] == pytest.approx(found.seconds, rel=1e-12)
    frame = points.frame()
    assert (frame["predicted_error_median"] == fitted.calibration.error.median).all()
    assert (frame["predicted_error_p90"] == fitted.calibration.error.p90).all()


@pytest.mark.parametrize("name", ["gemma-2-9b", "gemma-3-12b-text", "llama-3.1-8b", "gemma-4-12b"])
def test_an_operation_counts_as_the_kernel_that_it_stands_for(name):
    spec, timed_kinds = archlab.load(name), set()
    for work in WORKS:
        for kernel in kernels(ledger(spec, work), load_precision("bf16")):
            op = operation_of(kernel)
            assert (op is None) == isinstance(kernel, Vector)
            if op is not None:
                made = op.kernel(2)
                assert made.key == kernel.key == name_of(op)
                for fact in ("flops", "stored_bytes", "activation_bytes"):
                    assert getattr(made, fact) == getattr(kernel, fact), fact
                timed_kinds.add(made.kinds if isinstance(made, Attention) else type(made))
    assert {Linear, ("step",), ("causal",)} <= timed_kinds
