"""The longest context and the largest batch are exact inverses of memory: one more does not fit."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archlab
from archlab.analyzers.fit import MOST_BATCH, MOST_CONTEXT, largest, workload
from archlab.engines import ENGINES
from archlab.precision import load_precision, precision_names

MODELS = ["gemma-2-2b", "gemma-3-4b", "gemma-3-27b-text", "gemma-3n-e2b", "gemma-4-26b-a4b", "gemma-4-12b", "llama-3.1-8b",
          "t5gemma-2b-2b", "paligemma-3b-224", "recurrentgemma-2b"]  # fmt: skip
DEVICES = ["rtx-4090", "h100-sxm", "t4", "m4-max-128", "tpu-v5e", "mi300x"]


def pairs() -> list[tuple[str, str]]:
    """(engine, precision) that go together."""
    return [(e, p) for e in ENGINES for p in precision_names() if e in load_precision(p).engines]


@settings(max_examples=40, deadline=None)
@given(
    model=st.sampled_from(MODELS), device=st.sampled_from(DEVICES), pair=st.sampled_from(pairs()),
    batch=st.integers(1, 40), context=st.integers(1, 200_000), ranks=st.sampled_from([1, 1, 2]),
)  # fmt: skip
def test_one_more_does_not_fit(model, device, pair, batch, context, ranks):
    spec = archlab.load(model)
    engine, precision = pair
    way = "tp" if "tp" in ENGINES[engine].splits else "pp"
    asked = {"hardware": device, "precision": precision, "engine": engine, "parallel": {way: ranks}}
    found = archlab.fit(spec, batch=batch, context=context, **asked)

    def fits(b, c):
        return archlab.memory(spec, workload(spec, b, c), **asked).fits

    if 0 < found.max_context < MOST_CONTEXT:
        assert fits(batch, found.max_context) and not fits(batch, found.max_context + 1)
    if 0 < found.max_batch < MOST_BATCH:
        assert fits(found.max_batch, context) and not fits(found.max_batch + 1, context)
    if found.max_context == 0:
        assert not fits(batch, 1)
    if found.max_batch == 0:
        assert not fits(1, context)
    assert found.fits == (context <= found.max_context) == (batch <= found.max_batch)


@given(limit=st.integers(0, 1000), most=st.integers(1, 1000))
def test_the_search_ends_at_the_last_that_holds(limit, most):
    assert largest(lambda n: n <= limit, most) == min(limit, most)


@pytest.mark.parametrize("engine", list(ENGINES))
def test_memory_does_not_fall_with_context_or_batch(engine):
    spec = archlab.load("gemma-3-4b")
    sizes = [1, 2, 17, 500, 1023, 1024, 1025, 5000, 40_000]
    by_context = [archlab.memory(spec, workload(spec, 3, c), "h100-sxm", engine=engine).needed for c in sizes]
    by_batch = [archlab.memory(spec, workload(spec, b, 3000), "h100-sxm", engine=engine).needed for b in sizes[:6]]
    assert by_context == sorted(by_context) and by_batch == sorted(by_batch)
