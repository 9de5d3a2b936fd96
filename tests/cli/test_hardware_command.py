"""`archlab hardware`: the listing, a device, a file of the user's own, and files that cannot be."""

import json

import pytest

from archlab.hardware import hardware_names, load_hardware

SHORT = """\
name: mine
title: My board
kind: gpu
memory_bytes: 24 GiB
bandwidth_bytes_per_s: 960e9
peak_flops: {bf16: 100e12}
status: unverified
source: the box
"""


def test_the_listing_is_80_columns_wide_and_names_every_device(archlab_command):
    lines = archlab_command("hardware").out.splitlines()
    assert max(map(len, lines)) <= 80
    named = set()
    for first in (line.split()[0] for line in lines if line):
        head, *sizes = first.split("/")
        named |= {head, *(f"{head.rsplit('-', 1)[0]}-{size}" for size in sizes)}
    assert set(hardware_names()) <= named


def test_the_listing_is_grouped_by_what_devices_are(archlab_command):
    out = archlab_command("hardware").out
    headings = ["Data-centre GPUs", "Workstation GPUs", "Consumer GPUs", "Laptops", "Macs", "Edge", "TPUs"]
    at = [out.index(f"\n{h}\n") for h in headings]
    assert at == sorted(at) and out.index("\nh100-sxm ") < at[1] and out.index("\nm4-pro-24/64 ") > at[4]


@pytest.mark.parametrize("name", hardware_names())
def test_a_screen_has_every_fact(name, archlab_command):
    device, out = load_hardware(name), archlab_command("hardware", name).out
    assert all(len(line) <= 80 for line in out.splitlines() if not line.startswith("file "))
    said = " ".join(out.split())
    for fact in (device.title, device.vendor, str(device.released), device.status, device.source):
        assert fact in said or (fact in ("unknown", "None") and device.status == "measured")
    for number_format, block in (device.measured or {}).items():
        assert f"calibrated {number_format}, {block.date}" in said and f"{block.error.median:.1%} (median)" in said
    assert all(f in said for f in (device.usable_source, device.price_source, device.notes) if f != "none")
    assert f"{device.memory_bytes:,}" in said and all(rate in said for rate in device.peak_flops)
    assert f"conf/hardware/{name}.yaml" in said


def test_a_document_has_every_field(archlab_command):
    facts = json.loads(archlab_command("hardware", "tpu-v5e", "--json").out)
    assert facts["memory_bytes"] == 16 * 2**30 and facts["available_bytes"] == facts["usable_bytes"] == 63 * 2**28
    assert facts["interconnect_bytes_per_s"] == 200e9 and facts["price_usd_per_hour"] and facts["tdp_w"] is None
    assert len(json.loads(archlab_command("hardware", "--json").out)) == len(hardware_names())


def test_a_file_of_ones_own_by_path_and_by_name(archlab_command, tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(SHORT)
    by_path = archlab_command("hardware", "mine.yaml", "--json")
    assert json.loads(by_path.out)["available_bytes"] == 24 * 2**30
    assert "mine.yaml" in archlab_command("hardware", "mine.yaml").out
    (tmp_path / "own" / "hardware").mkdir(parents=True)
    (tmp_path / "own" / "hardware" / "mine.yaml").write_text(SHORT)
    monkeypatch.setenv("ARCHLAB_CONFIG_DIR", str(tmp_path / "own"))
    assert archlab_command("hardware", "mine", "--json").out == by_path.out
    assert "\nOther GPUs\nmine " in archlab_command("hardware").out
    (tmp_path / "own" / "hardware" / "bad.yaml").write_text("name: bad\n")
    listing = archlab_command("hardware")
    assert listing.code == 0 and "mine" in listing.out and "archlab: bad: hardware.title is missing" in listing.err


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("H100", "'h100-nvl', 'h100-pcie' or 'h100-sxm'"),
        ("rtx4090", "'rtx-4090'"),
        ("RTX 4090", "'rtx-4090'"),
        ("h100-smx", "'h100-sxm'"),
        ("m4-pro", "'m4-pro-24' or 'm4-pro-64'"),
    ],
)
def test_an_unknown_device_is_met_with_its_like(word, near, archlab_command):
    done = archlab_command("hardware", word)
    assert done.code == 2 and f"unknown device {word!r}; did you mean {near}" in done.err


BAD = [
    ("memory_bytes: 24 GiB", "memory_bytes: 80", "hardware.memory_bytes=80 is in bytes: write 80 GiB"),
    ("memory_bytes: 24 GiB", "memory_bytes: 81559", "hardware.memory_bytes=81559 is in bytes: write 81559 MiB"),
    ("memory_bytes: 24 GiB", "memory_bytes: 24 gigs", "hardware.memory_bytes='24 gigs' is not a number of bytes"),
    ("memory_bytes: 24 GiB", "memory_bytes: 24.5", "hardware.memory_bytes=24.5 must be a whole number"),
    ("memory_bytes: 24 GiB", "memory_bytes: -1", "hardware.memory_bytes=-1 must be a whole number"),
    ("memory_bytes: 24 GiB", "memory_bytes: 1 KiB", "hardware.memory_bytes=1024 is in bytes"),
    ("status: un", "usable_bytes: 20\nstatus: un", "hardware.usable_bytes=20 is in bytes: write 20 GiB"),
    ("status: un", "usable_bytes: 25 GiB\nstatus: un", "is more than hardware.memory_bytes=25769803776"),
    ("960e9", "3350", "hardware.bandwidth_bytes_per_s=3350 is in bytes per second: write 3350e9 for GB/s"),
    ("960e9", "3.35", "write 3.35e9 for GB/s or 3.35e12 for TB/s"),
    ("960e9", "fast", "hardware.bandwidth_bytes_per_s='fast' must be a number above 0"),
    ("960e9", ".inf", "hardware.bandwidth_bytes_per_s=inf must be a number above 0"),
    ("100e12", "989", "hardware.peak_flops.bf16=989 is in FLOP per second: write 989e12 for TFLOP/s"),
    ("100e12", ".nan", "hardware.peak_flops={'bf16': nan} must be a table"),
    ("{bf16: 100e12}", "{bf17: 100e12}", "must be a table of format: FLOP per second"),
    ("{bf16: 100e12}", "{}", "must be a table of format: FLOP per second"),
    ("status: un", "interconnect_bytes_per_s: 450\nstatus: un", "hardware.interconnect_bytes_per_s=450 is in bytes per second: write 450e9"),
    ("kind: gpu", "kind: gpus", "hardware.kind='gpus' must be one of gpu, tpu"),
    ("kind: gpu", "kind: gpu\nsegment: datacentre", "did you mean 'datacenter'?"),
    ("kind: gpu", "kind: gpu\nreleased: 24", "hardware.released=24 must be a whole number from 1990"),
    ("kind: gpu", "kind: gpu\nprice_usd_per_hour: 0", "hardware.price_usd_per_hour=0 must be a number above 0"),
    ("source: the box\n", "", "hardware.source is missing: where the numbers come from"),
    ("source: the box", "sources: the box", "unknown key hardware.sources; did you mean 'source'?"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "sentence"), BAD, ids=[new for _, new, _ in BAD])
def test_a_device_that_cannot_be(old, new, sentence, archlab_command, tmp_path):
    (tmp_path / "mine.yaml").write_text(SHORT.replace(old, new))
    done = archlab_command("hardware", "mine.yaml")
    assert done.code == 2 and sentence in done.err and done.out == ""
    assert len(done.err.strip().splitlines()) == 1 and "Traceback" not in done.err
