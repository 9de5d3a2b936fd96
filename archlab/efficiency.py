"""What published systems reach of a device's data sheet: conf/efficiency.yaml, shares with their sources.

For devices that were never measured: laws made of the peaks and these shares. It is an assumption and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from archlab import yamlfile
from archlab.calibration import Laws, LinearLaw, ProductLaw, SumLaw
from archlab.fields import check_fields, names, real, text
from archlab.hardware import Hardware
from archlab.paths import data_dir


@dataclass(frozen=True)
class Efficiency:
    """One entry of the file: whom it is about, shares of the data sheet's peaks, seconds a launch."""

    title: str = text("whom it is about, in words")
    kinds: Sequence[str] = names("kinds of device")
    vendors: Sequence[str] = names("who makes them")
    segments: Sequence[str] = names("whom they are sold to")
    formats: Sequence[str] = names("number formats of weights, cache and products")
    bandwidth_share: float = real("share of the memory bandwidth")
    bandwidth_source: str = text("where it comes from")
    launch_s: float = real("seconds a kernel takes besides")
    launch_source: str = text("where it comes from")
    matmul_share: float = real("share of the peak of products")
    matmul_source: str = text("where it comes from")
    attention_share: float = real("share of it of causal attention")
    attention_source: str = text("where it comes from")
    windowed_share: float = real("share of it of attention with a window, of the pairs that are kept")
    windowed_source: str = text("where it comes from")

    def names(self, device: Hardware, number_format: str) -> bool:
        """Whether it is about this device and format."""
        return (
            device.kind in self.kinds
            and device.vendor in self.vendors
            and device.segment in self.segments
            and number_format in self.formats
        )

    def laws(self, device: Hardware, number_format: str) -> Laws:
        """The device's peaks, times the shares."""
        bandwidth = self.bandwidth_share * device.bandwidth_bytes_per_s
        peak, launch = device.flops_per_s(number_format), self.launch_s
        few = SumLaw(launch_s=launch, bandwidth_bytes_per_s=bandwidth, operations_per_s=None)
        many = ProductLaw(
            launch_s=launch, bandwidth_bytes_per_s=bandwidth, flops_per_s=self.matmul_share * peak, half_rows=0,
            half_inputs=0,
        )  # fmt: skip
        shares = {"causal": self.attention_share, "windowed": self.windowed_share}
        passes = {
            kind: SumLaw(launch_s=launch, bandwidth_bytes_per_s=None, operations_per_s=share * peak)
            for kind, share in shares.items()
        }
        return Laws(linear=LinearLaw(few_rows=1, few=few, many=many), attention={"step": few} | passes, vector=few)

    @property
    def sentence(self) -> str:
        """What is assumed."""
        return (
            f"at_published_efficiency takes what is published of {self.title}: {self.bandwidth_share:.0%} of the "
            f"bandwidth, {self.matmul_share:.0%} of the peak in products, {self.attention_share:.0%} in causal and "
            f"{self.windowed_share:.0%} in windowed attention, {self.launch_s * 1e6:g} us a launch "
            "(conf/efficiency.yaml)"
        )


def efficiency_of(device: Hardware, number_format: str | None) -> Efficiency | None:
    """What is published of such a device in such a format; None where nothing is."""
    if number_format is None or number_format not in device.peak_flops:
        return None
    return next((entry for entry in _entries() if entry.names(device, number_format)), None)


@lru_cache(maxsize=1)
def _entries() -> tuple[Efficiency, ...]:
    path = data_dir("conf") / "efficiency.yaml"
    with yamlfile.naming(path):
        return tuple(_entry(given) for given in yamlfile.read(path)["efficiencies"])


def _entry(given: dict) -> Efficiency:
    check_fields(Efficiency, "efficiencies", given)
    return Efficiency(**given)
