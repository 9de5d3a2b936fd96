"""The devices of conf/hardware against what drivers print, XLA's and macOS' limits, and the sheets' traps."""

from pathlib import Path

import pytest

from archlab.calibration import calibrations_from
from archlab.hardware import hardware_from, hardware_names, load_hardware
from archlab.measure.calibration import calibrate
from archlab.measure.device_file import keys
from archlab.measure.records import read_records
from archlab.paths import data_dir

DEVICES = {name: load_hardware(name) for name in sorted(p.stem for p in (data_dir("conf") / "hardware").glob("*.yaml"))}
MEASURED = {name: device for name, device in DEVICES.items() if device.status == "measured"}
SHEETS = {name: device for name, device in DEVICES.items() if name not in MEASURED}
each = pytest.mark.parametrize("device", SHEETS.values(), ids=SHEETS)
GIB, MIB = 2**30, 2**20

NVIDIA_SMI = {
    "t4": 15360, "l4": 23034, "l40s": 46068, "a10": 23028, "a40": 46068, "rtx-4090": 24564, "rtx-5090": 32607,
    "h100-sxm": 81559, "h100-nvl": 95830, "h200-sxm": 143771, "b200": 183359, "b300": 275040, "gb200": 189471,
    "gb300": 284208, "rtx-pro-6000-bw": 97887,
}  # fmt: skip
"""MiB that nvidia-smi prints, ECC on where it is on by default."""

XLA = {"tpu-v4": 30.75, "tpu-v5e": 15.75, "tpu-v5p": 95.74, "tpu-v6e": 31.25, "tpu-v7x": 94.75}
"""GiB in 'Used X of Y hbm', per device."""

METAL = {
    16: 0.74,
    18: 0.74,
    24: 0.74,
    32: 0.78,
    36: 0.78,
    64: 0.75,
    96: 0.75,
    128: 0.84,
    192: 0.75,
    256: 0.75,
    512: 0.75,
}
"""recommendedMaxWorkingSetSize / RAM by GiB of RAM."""


def test_there_are_seventy_devices_and_more():
    assert len(DEVICES) >= 70 and set(DEVICES) <= set(hardware_names())


@each
def test_a_device_says_what_it_is_and_where_from(device):
    assert device.name in DEVICES and DEVICES[device.name] is device
    assert device.status in ("verified", "partial") and len(device.source) > 20
    assert device.vendor != "unknown" and 2017 <= device.released <= 2026
    assert (device.kind == "gpu") == (device.segment is not None)
    assert (device.usable_bytes is None) == (device.usable_source == "none")
    assert (device.price_usd_per_hour is None) == (device.price_source == "none")
    assert device.interconnect_bytes_per_s is None or device.interconnect != "unknown"
    assert 0.5 * device.memory_bytes < device.available_bytes <= device.memory_bytes


@pytest.mark.parametrize("device", MEASURED.values(), ids=MEASURED)
def test_a_measured_device_is_what_its_run_gives(device):
    """The folder that its block names is here, and fitting it again gives the block."""
    for number_format, block in device.measured.items():
        folder = Path(__file__).parents[2] / block.run
        fitted = calibrate(folder, number_format, "fast", run=block.run)
        again = calibrations_from({number_format: keys(fitted.calibration)})[number_format]
        assert again.error == block.error and again.step == block.step and again.linear == block.linear
        assert block.error.n_configurations >= 3 and 0 < block.error.median < 1
        rates = list(read_records(folder / "rooflines.jsonl"))[-1]
        assert device.bandwidth_bytes_per_s == rates["read_bytes_per_s"] and rates["device"] == block.device


@each
def test_rates_are_dense(device):
    """A sparse rate is twice the dense one, so the ratios to bf16 (fp16 where there is none) would double."""
    rates = device.peak_flops
    half = rates.get("bf16", rates.get("fp16"))
    assert half == rates.get("fp16", half) or device.name == "gaudi3"  # its fp16 runs in other units
    assert rates.get("fp8", half) <= 2.1 * half
    assert rates.get("fp4", half) <= 8.1 * half  # GeForce: bf16 at half rate, fp32 accumulation
    assert rates.get("int4", half) <= 8.1 * half
    assert "fp4" not in rates or rates["fp4"] <= 3.4 * rates["fp8"] or device.vendor == "NVIDIA"


@each
def test_memory_is_read_in_a_time_that_devices_take(device):
    assert 3e-3 < device.memory_bytes / device.bandwidth_bytes_per_s < 0.7


@pytest.mark.parametrize(("name", "mib"), NVIDIA_SMI.items())
def test_memory_is_what_nvidia_smi_prints(name, mib):
    assert DEVICES[name].memory_bytes == mib * MIB


@pytest.mark.parametrize(("name", "gib"), XLA.items())
def test_a_tpu_has_what_xla_allows(name, gib):
    assert DEVICES[name].available_bytes / GIB == pytest.approx(gib, abs=0.005)


@pytest.mark.parametrize("device", [d for d in DEVICES.values() if d.kind == "mac"], ids=lambda d: d.name)
def test_a_mac_has_what_metal_recommends(device):
    ram = int(device.name.rsplit("-", 1)[1])
    assert device.memory_bytes == ram * GIB
    assert device.available_bytes / device.memory_bytes == pytest.approx(METAL[ram], abs=1e-3)


def test_two_devices_in_one_package_are_described_apart():
    card, chip = DEVICES["mi250x"], DEVICES["tpu-v7x"]
    assert card.memory_bytes == 64 * GIB and 2 * card.peak_flops["bf16"] == 383e12 and "two" in card.title
    assert chip.memory_bytes == 96 * GIB and 2 * chip.peak_flops["bf16"] == 2307e12 and "two" in chip.title


def test_links_are_counted_in_one_direction():
    one_way = {"a100-80-sxm": 300e9, "h100-sxm": 450e9, "b200": 900e9, "l4": 32e9, "t4": 16e9, "tpu-v5e": 200e9}
    assert {name: DEVICES[name].interconnect_bytes_per_s for name in one_way} == one_way


def test_the_traps_of_the_sheets():
    assert DEVICES["l40s"].peak_flops["bf16"] == 362.05e12  # dense; L40S's 733 is sparse
    assert DEVICES["rtx-4090"].peak_flops["bf16"] == 165.2e12  # 330 accumulates in fp16
    assert DEVICES["b300"].peak_flops["int8"] < DEVICES["b200"].peak_flops["int8"] / 25
    assert DEVICES["mi300x"].bandwidth_bytes_per_s == 5.3e12  # 10.3 is another memory's
    assert "bf16" not in DEVICES["t4"].peak_flops and "bf16" not in DEVICES["v100-32"].peak_flops


@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES)
def test_a_file_is_what_the_sweeps_read(device):
    """Hydra reads the group's files by its own YAML rules; the device must come out the same."""
    omegaconf = pytest.importorskip("omegaconf")
    path = Path(data_dir("conf")) / "hardware" / f"{device.name}.yaml"
    assert hardware_from(omegaconf.OmegaConf.to_container(omegaconf.OmegaConf.load(path))) == device
