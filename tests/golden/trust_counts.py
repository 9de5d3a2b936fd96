"""Counts, caches, sizes of files, engines and devices of archlab beside what was published, built or printed."""

from __future__ import annotations

from collections.abc import Iterator

import test_engine_logs as logs
import test_hardware as devices
import test_precisions as precisions
import test_published as published
from trust_page import Beside, Section, number, percent

import archlab
from archlab.engines import load_engine
from archlab.engines.vllm import available
from archlab.ledger import ledger, stored
from archlab.precision import load_precision
from archlab.units import GIB, show_bytes, show_tokens
from archlab.workload import Workload

HEADS = ("published", "archlab", "error")
MIB = 2**20


def parameters() -> Section:
    """Every preset beside transformers, the released files and keras_hub."""
    pairs, rows = [], []
    for name, reference in published.PARAMETERS.items():
        counted = archlab.params(archlab.load(name))
        of_model = [Beside((name, "transformers"), counted.total, reference["total"])]
        if "hf_safetensors" in reference:
            of_model.append(Beside((name, "file"), counted.checkpoint, reference["hf_safetensors"]))
        if "keras_hub" in reference:
            otherwise = reference.get("keras_hub_counts", {})
            alike = archlab.params(archlab.load(name, otherwise.get("with"))).total + otherwise.get("adds", 0)
            of_model.append(Beside((name, "keras_hub"), alike, reference["keras_hub"]))
        pairs += of_model
        told = {pair.what[1]: number(pair.theirs) for pair in of_model}
        worst = max(of_model, key=lambda pair: abs(pair.error))
        rows.append([name, number(counted.total), *(told.get(x, "") for x in ("transformers", "file", "keras_hub")),
                     percent(worst.error, signed=True)])  # fmt: skip
    left_out = [
        f"{name}, of which {reference['keras_hub_left_out']}"
        for name, reference in published.PARAMETERS.items()
        if "keras_hub_left_out" in reference
    ]
    return Section(
        "Parameters", "transformers 5.23.0 on the meta device, headers of released files, keras_hub 0.32.0",
        "transformers builds each model's class on the meta device and counts. *In the file* are elements of the released "
        "safetensors where their headers were seen: buffers and weights that nothing reads are among them. keras_hub's "
        "presets count some models otherwise (another number of embedding rows, a second table, a head); archlab is asked "
        "for the same before it is compared.",
        ("model", "archlab", "transformers", "in the file", "keras_hub", "largest error"), pairs, rows,
        after="Not compared with keras_hub: " + "; ".join(left_out) + ".",
    )  # fmt: skip


def components() -> Section:
    """The same counts, by component."""
    pairs = []
    for name, reference in published.PARAMETERS.items():
        counted = archlab.params(archlab.load(name))
        for part, theirs in published.parts(reference["components"]).items():
            pairs.append(Beside((part, name), counted.by_part.get(part, 0), theirs))
    rows = [
        [part, str(len(of)), str(sum(pair.exact for pair in of)), percent(max(abs(pair.error) for pair in of))]
        for part in dict.fromkeys(pair.what[0] for pair in pairs)
        for of in [[pair for pair in pairs if pair.what[0] == part]]
    ]
    return Section(
        "Parameters by part", "the same modules, by component",
        "A total can be right for the wrong reasons; each part of each model is compared too.",
        ("part", "models that have it", "equal", "largest error"), pairs, rows,
    )  # fmt: skip


def reports() -> Section:
    """The tables of the Gemma reports, and sizes of model cards, to the digits that are printed."""
    return Section(
        "Published tables", "Gemma 1, 2 and 3 reports; model cards",
        "Gemma 1 and 2 print exact counts, for 256,128 padded rows of the embedding where 256,000 were released; archlab is "
        "asked for the padded ones. Gemma 3 prints millions and counts the projector with the embedding. Model cards print "
        "billions, and differ in what they count: the word beside the name says it. An error below half of the last digit "
        "printed is the rounding.",
        ("model", "what", *HEADS), [*_reports(), *_cards()], exact=False,
    )  # fmt: skip


def _reports() -> Iterator[Beside]:
    for name, printed in published.REPORTS["gemma"].items():
        counted = archlab.params(archlab.load(name, {"vocab_size": 256128}))
        yield Beside((name, "embedding"), counted.by_part["embedding"], printed["embedding"])
        yield Beside((name, "the rest"), counted.total - counted.by_part["embedding"], printed["rest"])
    for name, printed in published.REPORTS["gemma3"].items():
        counted = archlab.params(archlab.load(name))
        vision, projector = (counted.by_part.get(part, 0) for part in ("vision", "projector"))
        embedding = counted.by_part["embedding"] + projector
        found = {"vision": vision, "embedding": embedding, "rest": counted.total - embedding - vision}
        for part, millions in printed.items():
            if millions:
                yield Beside((name, f"{part}, millions"), found[part] / 1e6, millions)


def _cards() -> Iterator[Beside]:
    for name, sizes in published.REPORTS["sizes"].items():
        for what, printed in sizes.items():
            counted = published.SIZES[what](archlab.params(archlab.load(name))) / 1e9
            yield Beside((name, f"{what.replace('_', ' ')}, billions"), counted, float(printed), printed)


def caches() -> Section:
    """The cache of every preset at three contexts beside what transformers allocates."""
    pairs, rows = [], []
    for name, at in published.CACHES.items():
        spec = archlab.load(name)
        of_model = [
            Beside((name, context), archlab.kv_cache(spec, int(context), source=int(context) if spec.encoder else 0).total,
                   reference["total"])
            for context, reference in at.items()
        ]  # fmt: skip
        pairs += of_model
        different = max(abs(pair.ours - pair.theirs) for pair in of_model)
        rows.append([name, *(show_bytes(pair.ours) if pair.ours else "0" for pair in of_model), number(different)])
    contexts = [show_tokens(int(context)) for context in next(iter(published.CACHES.values()))]
    return Section(
        "KV cache", "static caches that transformers 5.23.0 allocates, bf16",
        "Bytes of one sequence in bf16: a full layer holds the context, a sliding one at most its window, layers that read "
        "another's keys and values hold nothing. With an encoder, its output is as long as the context.",
        ("model", *contexts, "largest difference, bytes"), pairs, rows,
    )  # fmt: skip


def flops() -> Section:
    """FLOPs of a prefill of 8,192 tokens beside an independent count."""
    pairs = []
    for name, printed in published.REPORTS["flops_8k"].items():
        spec = archlab.load(name)
        rows = {logits: archlab.flops(spec, Workload(new=8192, logits=logits)) for logits in ("all", "last")}
        found = {"exact": rows["all"].total, "dense": rows["all"].dense, "last": rows["last"].total}
        pairs += [Beside((name, what), float(f"{found[what]:.4e}"), printed[what]) for what in printed]
    return Section(
        "FLOPs of a prefill", "a count of its own over transformers' modules",
        "8,192 tokens, 2 FLOPs a multiply-add, to five digits. *exact* keeps causal and windowed pairs, *dense* counts the "
        "full square as tracers see it, *last* is exact with one row of logits. `archlab check MODEL` compares with two "
        "tracers, as integers, for any model.",
        ("model", "what", *HEADS), pairs,
    )  # fmt: skip


def engines() -> Section:
    """Caches and pools that engines printed."""
    return Section(
        "What engines print", "logs of llama.cpp, ollama and vLLM",
        "Each is within the rounding of what was printed, or of the pool that it was printed for; `tests/golden/engine_logs.yaml` has the commands and the sources. "
        "Which published numbers cannot be reproduced, and why nothing is fitted to them, is in [memory.md](memory.md).",
        ("engine", "model", "what", *HEADS), [*_llama_cpp(), *_vllm()], exact=False,
    )  # fmt: skip


def _llama_cpp() -> Iterator[Beside]:
    for entry in logs.LOGS["llama_cpp"]:
        of = f"cache, {entry['part']}, {entry['batch']} x {entry['context']:,}{_options(entry)}, {_unit(entry)}"
        yield Beside(("llama.cpp", entry["model"], of), _scaled(entry, logs.cache(entry, "llama_cpp")), *_told(entry))
    for entry in logs.LOGS["llama_cpp_output"]:
        engine = load_engine("llama_cpp", {"n_seq": entry["n_seq"]})
        found = engine.output_bytes(ledger(archlab.load(entry["model"])), Workload(context=1))
        yield Beside(("llama.cpp", entry["model"], "output buffer, MiB"), _scaled(entry, found), *_told(entry))


def _vllm() -> Iterator[Beside]:
    for entry in logs.LOGS["vllm"]:
        found = logs.pool_of(entry)
        for what, said in entry["says"].items():
            of = f"{what.replace('_', ' ')}, at most {entry['max_model_len']:,} tokens"
            yield Beside(("vLLM", entry["model"], of), getattr(found, what), said)
    for entry in logs.LOGS["vllm_pool"]:
        rest = (entry[key] * GIB for key in ("capacity", "peak_torch", "non_torch"))
        found = available(*rest, entry["gpu_memory_utilization"])
        yield Beside(("vLLM", "", f"pool of {entry['capacity']} GiB, GiB"), _scaled(entry, found), *_told(entry))


def _unit(entry: dict) -> str:
    return next(unit for unit in logs.UNITS if unit in entry)


def _scaled(entry: dict, found: float) -> float:
    return found / logs.UNITS[_unit(entry)]


def _told(entry: dict) -> tuple[float, str]:
    return entry[_unit(entry)], str(entry[_unit(entry)])


def _options(entry: dict) -> str:
    given = ({"kv": entry["kv"]} if "kv" in entry else {}) | entry.get("options", {})
    return "".join(f", {key}={str(value).lower()}" for key, value in given.items())


def files() -> Section:
    """Sizes of quantised files."""
    seen = [(model, name, size, unit, "seen") for name, model, size, unit, _ in precisions.SEEN.values()]
    recalled = [(model, name, size, precisions.GB, "recalled") for model, name, size, _ in precisions.RECALLED]
    pairs = []
    for model, name, size, unit, worth in seen + recalled:
        found = precisions.decoder_bytes(archlab.load(model), load_precision(name)) / unit
        of = "GiB" if unit == precisions.GIB else "GB"
        pairs.append(Beside((model, name, f"{worth}, {of}"), found, size, str(size)))
    pairs += [*_tables()]
    untested = sorted(set(precisions.precision_names()) - {pair.what[1] for pair in pairs})
    return Section(
        "Files of quantised weights", "model cards and logs",
        "*seen* was looked up, *recalled* was written down from memory and is worth less; *table* is the buffer of the token "
        "table that llama.cpp prints. A file also holds about 10 MB of metadata, which archlab does not count.",
        ("model", "precision", "worth, unit", *HEADS), pairs, exact=False,
        after=f"No file was found to compare with for {', '.join(untested)}; their bits a weight follow from the layouts "
        f"({len(precisions.DEFINITIONS)} formats are held to the arithmetic of their definitions).",
    )  # fmt: skip


def _tables() -> Iterator[Beside]:
    for model, precision, size in precisions.TABLES:
        rows = ledger(archlab.load(model))
        rule = precision if isinstance(precision, str) else precisions.own(weights=precision)
        entry, weight, _ = next(found for found in stored(rows) if found[1].role == "embedding")
        found = load_precision(rule).weight_bits(rows, entry, weight) / 8 / MIB
        named = precision if isinstance(precision, str) else "4 bits, a 16-bit scale for 32"
        yield Beside((model, named, "table, MiB"), found, size, f"{size:.2f}")


def memories() -> Section:
    """What programs can have of a device."""
    known = devices.DEVICES
    pairs = [
        Beside((name, "nvidia-smi, MiB"), known[name].memory_bytes / MIB, mib)
        for name, mib in devices.NVIDIA_SMI.items()
    ]
    pairs += [
        Beside((name, "XLA, GiB"), round(known[name].available_bytes / GIB, 2), gib) for name, gib in devices.XLA.items()
    ]  # fmt: skip
    seen = {pair.what[0] for pair in pairs}
    macs = sum(device.kind == "mac" for device in known.values())
    return Section(
        "Memory of devices", "nvidia-smi, XLA",
        "What a driver reports is less than the name of a card says. The files were written from these numbers: equal means that "
        "they were copied right.",
        ("device", "who says it", *HEADS), pairs,
        after=f"Of the {len(known)} devices {macs} are Macs, whose shares are what Metal recommends for their memory; the other "
        f"{len(known) - len(seen) - macs} are as their files say (`archlab hardware NAME` gives source and status). Rates and "
        "bandwidths are data sheets', dense.",
    )  # fmt: skip


def sections() -> list[Section]:
    """All of them, in the order of the page."""
    return [parameters(), components(), reports(), caches(), flops(), engines(), files(), memories()]
