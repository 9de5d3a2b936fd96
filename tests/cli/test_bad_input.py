"""Bad input gets one sentence on stderr and exit code 2: never a traceback, never a guess."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archlab
from archlab.errors import ArchlabError
from archlab.presets import read
from archlab.schema import known_keys

MODEL = (
    "name: m\nfamily: gemma\nsource: me\nd_model: 64\nn_layers: 4\nvocab_size: 100\ncontext: 128\npattern: [global]\n"
)
REST = "attention: {n_heads: 4, n_kv_heads: 2, head_dim: 16}\nmlp: {d_ff: 128}\n"

ON_THE_COMMAND_LINE = [
    (["describe", "gema-3-1b"], "unknown model 'gema-3-1b'; did you mean 'gemma-3-1b'?"),
    (["describe", "gemma-3-1b", "attention.n_kv_head=2"], "did you mean 'n_kv_heads'?"),
    (["describe", "gemma-3-1b", "n_layer=2"], "did you mean 'n_layers'?"),
    (["describe", "gemma-3-1b", "n_layers=many"], "n_layers='many' must be a whole number from 1 to 100,000"),
    (["describe", "gemma-3-1b", "n_layers=2.5"], "n_layers=2.5 must be a whole number"),
    (["describe", "gemma-3-1b", "n_layers=true"], "n_layers=True must be a whole number"),
    (["describe", "gemma-3-1b", "d_model=-2"], "d_model=-2 must be"),
    (["describe", "gemma-3-1b", "attention.n_kv_heads=3"], "n_heads (4) must be a multiple of n_kv_heads (3); 2 or 4"),
    (["describe", "gemma-3-1b", "attention.head_dim=7"], "head_dim (7) must be even"),
    (["describe", "gemma-3-1b", "local.window=0"], "local.window=0 must be a whole number of 1 or more"),
    (["describe", "gemma-3-1b", "attention.window=8"], "would not reach the local layers, which set local.window"),
    (["describe", "gemma-2b", "local.window=8"], "no layer of the pattern ['global'] is local"),
    (["describe", "gemma-3-1b", "mlp=3"], "mlp is a section"),
    (["describe", "gemma-3-1b", "mlp.activation=gelo"], "did you mean 'gelu'?"),
    (["describe", "gemma-3-1b", "pattern=[local*0]"], "pattern entry 'local*0'"),
    (["describe", "gemma-3-1b", "pattern=[]"], "pattern=[] must be a list of names"),
    (["describe", "gemma-3-1b", "n_layers=[1"], "is not valid YAML"),
    (["describe", "gemma-3-1b", "n_layers=3", "n_layers=4"], "n_layers is given twice"),
    (["describe", "gemma-3-1b", "gemma-2b"], "takes one model, not 2"),
    (["describe", "no/such/file.yaml"], "no/such/file.yaml cannot be read: no such file or directory"),
    (["describe", "/"], "cannot be read"),
    (["compare"], "compare takes two or more models, not 0"),
    (["compare", "gemma-2b"], "compare takes two or more models, not 1 (gemma-2b)"),
    (["compare", "gemma-2b", "gemma-7b", "-o", "x.html", "--hardware", "h20"], "unknown device 'h20'"),
    (["compare", "gemma-2b", "gemma-7b", "-o", "x.html", "--hardware", "t4"], "t4 has no bf16 rate"),
    (["check", "gemma-2b", "--context", "banana"], "context='banana' is not a number of tokens; write it as 8192 or 8k"),
    (["measure", "gemma-3-270m", "--context", "banana"], "context='banana'"),
    (["measure", "gemma-3-270m", "--context", "0"], "must be a whole number of 1 or more"),
    (["measure", "gemma-3-270m", "--phase", "sideways"], "phase='sideways'"),
    (["measure", "gemma-3-270m", "--backend", "referense"], "must be fast or reference; did you mean 'reference'?"),
    (["measure", "gpt2-xl", "--backend", "fast", "--device", "cpu"], "backend=fast does not cover gpt2-xl here"),
    (["measure", "gemma-3-270m", "--device", "cuda:99"], "device='cuda:99' is not there"),
    (["measure", "gemma-3-27b-text", "--context", "1m", "--batch", "4096", "--device", "cpu"], "too much"),
    (["hardware", "h10"], "unknown device 'h10'"),
    (["new", "x/y", "--from", "gemma-2b"], "'x/y' is not a name"),
    (["report", "no-such-run"], "no-such-run"),
    (["sweep"], "sweep takes a study"),
    (["sweep", "attention_head"], "did you mean 'attention_heads'?"),
    (["sweep", "attention_heads", "hold=banana"], "hold='banana' must be one of params, flops"),
    (["sweep", "attention_heads", "model.attention.n_kv_head=1,2"], "n_kv_head"),
    (["sweep", "attention_heads", "hardware=h20"], "unknown device 'h20'"),
    (["sweep", "attention_heads", "workload.context=banana"], "is not a number of tokens"),
    (["sweep", "attention_heads", "model.mlp.d_ff=2,3"], "d_ff cannot be an axis too"),
    (["sweep", "attention_heads", "--frob"], "unknown option --frob"),
    (["sweep", "attention_heads", "--cfg", "job", "--info", "all"], "Only one of"),
    (["sweep", "attention_heads", "hold=params", "hold=flops"], "hold is given twice"),
    (["sweep", "model=gemma-2-9b", "~model.attention.softcap"], "would delete a key; set it to null"),
    (["sweep", "attention_heads", "window"], "unexpected word 'window'"),
    (["sweep", "modle=gemma-2b"], "unknown key modle; did you mean 'model'?"),
    (["sweep", "model=gemma-2b", "model.local.window=8"], "no layer of the pattern"),
    (["sweep", "model=(("], "is not key=value as Hydra reads it"),
    (["describe", "gemma-3-1b", "spans.a.layers=3"], "spans.a changes nothing; set a key of a section in it"),
    (["describe", "gemma-3-1b", "spans.a.layers=3,77", "spans.a.mlp.d_ff=8"], "'77' of spans.a.layers='3,77' names no layer of the 26"),
    (["describe", "gemma-3-1b", "spans.a.layers=-27", "spans.a.mlp.d_ff=8"], "spans.a.layers='-27' names no layer of the 26"),
    (["describe", "gemma-3-1b", "spans.a.layers=[3]", "spans.a.mlp.d_ff=8"], "spans.a.layers=[3] must be text or a whole number"),
    (["describe", "gemma-3-1b", "spans.a.layers=3", "spans.a.global.softcap=8"], "spans.a.global has no effect: the layers 3 are local"),
    (["describe", "gemma-3-1b", "spans.a.layers=:", "spans.a.attention.window=3", "spans.a.local.window=4", "spans.a.global.window=9"],
     "spans.a.attention.window has no effect"),
    (["describe", "recurrentgemma-2b", "spans.a.layers=0", "spans.a.attention.softcap=3"],
     "spans.a.attention.softcap has no effect: no recurrent layer takes it"),
    (["describe", "gemma-3-1b", "spans.a.layers=3", "spans.a.local.block=rglru"], "local.window has no effect with block: rglru"),
    (["describe", "gemma-3n-e2b", "local.kv=shared"], "would not reach the layers of span shared, which sets spans.shared.attention.kv"),
    (["describe", "t5gemma-2-270m-270m", "encoder.attention.rope_theta=7"],
     "encoder.attention.rope_theta would not reach the local layers, which set encoder.local.rope_theta; set that key"),
    (["describe", "t5gemma-2-270m-270m", "encoder.head.tied=false"], "unknown key encoder.head.tied"),
    (["describe", "t5gemma-2-270m-270m", "encoder.cross_attention={}"], "unknown key encoder.cross_attention"),
    (["describe", "gemma-3-1b", "name="], "name=None must be one line of text"),
    (["describe", "gemma-3n-e2b", "spans.sparse.mlp.sparsity=1.5"], "archlab: spans.sparse.mlp: sparsity (1.5) is a share, below 1"),
    (["describe", "gemma-3n-e2b", "altup.streams=1"], "archlab: altup: streams (1) must be 2 or more"),
    (["describe", "gemma-3n-e2b", "spans.shared.attention.n_kv_heads=4"],
     "spans.shared.attention: layer 20 reads the K/V of layer 18, so n_kv_heads (4) must be 2"),
    (["describe", "gemma-3-1b", "attention.source=merged"], "archlab: attention: source: merged needs an encoder section"),
    (["describe", "gemma-3-1b", "attention.kv=shared"], "archlab: attention: layer 0 shares K/V, but no local layer before it"),
    (["describe", "gemma-3-4b", "vision.patches.image_size=900"], "patch_size (14); 12 or 15 would do"),
    (["describe", "gemma-3-1b", "n_layers=99999999999"], "must be a whole number from 1 to 100,000"),
    (["describe", "gemma-3-1b", "pattern=[local*99999999]"], "longer than 100,000 layers"),
    (["describe", "gemma-3-1b", "pattern=[glob]"], "pattern entry 'glob' has no section glob; did you mean 'global'?"),
    (["describe", "gemma-3-1b", "pattern=[mlp]"], "'mlp' is the name of a section"),
    (["compare", "gemma-2b", "gemma-2b"], "gemma-2b is given twice; each model needs a name of its own"),
    (["explore", "gemma-2b", "gemma-2b"], "gemma-2b is given twice"),
    (["explore", "-o", "nowhere/x.html"], "there is no folder 'nowhere'; make it, or write x.html elsewhere"),
    (["sweep", "model=gemma-2b,gemma-7b,gemma-2b"], "gemma-2b is given twice"),
    (["compare", "gemma-2b", "gemma-7b", "-o", "q.html", "--csv"], "--csv is for the table; -o writes the report"),
    (["compare", "gemma-2b", "gemma-7b", "--hardware", "h20"], "unknown device 'h20'"),
    (["compare", "gemma-2b", "gemma-7b", "--hardware", ""], "unknown device ''"),
    (["compare", "gemma-2b", "gemma-7b", "-o", "x.html", "--hardware", ""], "unknown device ''"),
    (["compare", "gemma-2b", "gemma-7b", "-o", "x.html", "--precision", ""], "unknown precision ''"),
    (["compare", "gemma-2b", "gemma-7b", "-o", ""], "must be the HTML file to write"),
    (["compare", "gemma-2b", "gemma-7b", "--workload", "chat-8k"], "name its file with -o"),
    (["compare", "gemma-2b", "gemma-7b", "-o", "x.html", "--workload", "nope"], "unknown workload 'nope'"),
    (["check", "gemma-2b", "--context", "0"], "context=0 must be a whole number"),
    (["check", "gemma-2b", "--context", "1e3"], "context='1e3' is not a number of tokens"),
    (["measure", "gemma-3-270m", "--dtype", "fp16", "--device", "cpu"], "use fp32 or bf16"),
    (["sweep", "attention_heads", "hold_multiple=0"], "hold_multiple='0' must be a whole number of 1 or more"),
    (["sweep", "attention_heads", "hold_multiple=none"], "hold_multiple='none' must be"),
    (["sweep", "attention_heads", "hold_by=d_f"], "hold_by='d_f' must be one of mlp.d_ff, n_layers, d_model"),
    (["sweep", "attention_heads", "rows=some"], "rows='some' must be one of auto, all, kept"),
    (["sweep", "attention_heads", "where=memory_byts < 3"], "unknown column 'memory_byts'; did you mean 'memory_bytes'?"),
    (["sweep", "attention_heads", "where=memory_bytes <"], "is not a condition"),
    (["sweep", "attention_heads", "objectives=least params"], "must begin with min or max"),
    (["sweep", "attention_heads", "epsilon=-1"], "epsilon='-1' must be a number above 0"),
    (["sweep", "attention_heads", "sample=3"], "sample is set by archlab"),
    (["sweep", "attention_heads", "quality=losses.csv"], "quality='losses.csv' is no file"),
    (["sweep", "attention_heads", "model.mlp.d_ff=100"], "d_ff cannot be given too"),
    (["sweep", "model=gemma-2b", "model.mlp.d_ff=interval(1,2)"], "has no list of values"),
    (["sweep", "model=gemma-2b", "model.mlp.d_ff=64,64"], "model.mlp.d_ff has the value 64 twice"),
    (["sweep", "model=gemma-2b", "precision.kv=4,8"], "precision.kv cannot be an axis"),
    (["sweep", "model=gemma-2b", "workload.new=4"], "unknown key workload.new"),
    (["sweep", "model=gemma-2b", "hardware="], "unknown device ''"),
    (["sweep", "model=gemma-2b", "out="], "out= needs the folder"),
    (["sweep", "window", "grid={workload.context:[banana]}"], "workload.context='banana' is not a number of tokens"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "sentence"), ON_THE_COMMAND_LINE, ids=[" ".join(w) for w, _ in ON_THE_COMMAND_LINE])
def test_one_sentence_and_exit_2(words, sentence, archlab_command, tmp_path):
    done = archlab_command(*words)
    assert done.code == 2
    assert sentence in done.err
    assert len(done.err.strip().splitlines()) == 1 and "Traceback" not in done.err
    assert done.out == ""
    assert list(tmp_path.iterdir()) == []  # nothing half-written


IN_THE_WAY = [
    *((words, "'afile' is a file, not a folder; x.html cannot be written there") for words in (
        ["explore", "gemma-3-1b", "-o", "afile/x.html"],
        ["compare", "gemma-2b", "gemma-7b", "-o", "afile/x.html"],
        ["compare", "gemma-2b", "gemma-7b", "-o", "afile/deep/x.html"],
        ["report", "run", "-o", "afile/x.html"],
    )),
    *((words, "'emptyd' is a folder; name the HTML file to write, such as emptyd/report.html") for words in (
        ["explore", "-o", "emptyd"],
        ["compare", "gemma-2b", "gemma-7b", "-o", "emptyd"],
        ["report", "run", "-o", "emptyd"],
    )),
    (["report", "afile"], "'afile' is a file; a run is a folder"),
    (["report", "--all", "afile"], "'afile' is a file; --all takes the folder that holds the runs' folders"),
    (["compare", "m.yaml", "d2/m.yaml"], "m.yaml and d2/m.yaml are both called m; each model needs a name of its own"),
    (["explore", "m.yaml", "d2/m.yaml"], "m.yaml and d2/m.yaml are both called m"),
    (["sweep", "model=m.yaml,d2/m.yaml"], "m.yaml and d2/m.yaml are both called m"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "sentence"), IN_THE_WAY, ids=[" ".join(w) for w, _ in IN_THE_WAY])
def test_what_is_there_already_is_named_as_it_was_typed(words, sentence, archlab_command, tmp_path):
    for folder in ("emptyd", "d2"):
        (tmp_path / folder).mkdir()
    (tmp_path / "afile").write_text("")
    for path in ("m.yaml", "d2/m.yaml"):
        (tmp_path / path).write_text(MODEL + REST)
    before = sorted(tmp_path.rglob("*"))
    done = archlab_command(*words)
    assert (done.code, done.out) == (2, "") and sentence in done.err and len(done.err.splitlines()) == 1
    assert ".part" not in done.err and sorted(tmp_path.rglob("*")) == before


FILES = [
    (MODEL + REST + "d_model: 65\n", "key 'd_model' is given twice, in lines 4 and 11"),
    (MODEL + "attention: {n_heads: 4, n_heads: 4}\n", "key 'n_heads' is given twice"),
    (MODEL + "attention: {n_heads: 4, n_kv_heads: 2, head_dim: 16, window: 8}\nglobal: {window: 4}\nmlp: {d_ff: 8}\n", "attention.window has no effect: global.window replace it"),
    (MODEL + "mlp: {d_ff: 128}\n", "attention.n_heads is missing: query heads"),
    (MODEL.replace("d_model: 64\n", "") + REST, "d_model is missing"),
    (MODEL + REST + "global: {block: attention}\nmlp.d_ff: 3\n", "unknown key mlp.d_ff"),
    ("defaults: [gemma-3-1b, _self_]\nname: m\nlocal.window: 3\n", "must be written as local: {window: ...}"),
    ("defaults: [_self_, gemma-3-1b]\nname: m\n", "defaults must be [MODEL, _self_]"),
    (MODEL + REST + "atention: {n_heads: 2}\n", "unknown key atention; did you mean 'attention'?"),
    (MODEL + REST + "head: 3\n", "head must be a section of keys, not 3"),
    (MODEL + REST + "norm: {epsilon: 1e-6}\n", "unknown key norm.epsilon"),
    (MODEL + REST + "global: {block: mamba}\n", "global.block='mamba' is not a block"),
    (MODEL.replace("[global]", "global") + REST, "pattern='global' must be a list of names"),
    (MODEL + "attention: {n_heads: 4\n", "is not valid YAML at line"),
    ("[1, 2]\n", "must hold keys and values, not list"),
    ("\x00", "is not valid YAML"),
    ("", "must hold keys and values"),
    ("1: 2\n", "key 1 in line 1 must be a word"),
    ("defaults: [gemma-2x, _self_]\nname: m\n", "unknown model 'gemma-2x'"),
    ("defaults: gemma-2b\nname: m\n", "defaults must be [MODEL, _self_]"),
    ("defaults: [m, _self_]\nname: m\n", "go round in a circle"),
    ("defaults: [gemma-3-1b, _self_]\nname: m\nattention: {window: 3}\n", "would not reach the local layers"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "sentence"), FILES, ids=range(len(FILES)))
def test_a_file_that_cannot_be(text, sentence, archlab_command, tmp_path):
    (tmp_path / "m.yaml").write_text(text)
    done = archlab_command("describe", "m.yaml")
    assert done.code == 2 and sentence in done.err and len(done.err.strip().splitlines()) == 1


def test_a_file_that_is_not_text(archlab_command, tmp_path):
    (tmp_path / "m.yaml").write_bytes(b"\xff\xfe\x00name")
    done = archlab_command("describe", "m.yaml")
    assert done.code == 2 and "not a text file in UTF-8" in done.err


def test_a_good_file_with_everything_left_to_defaults(archlab_command, tmp_path):
    (tmp_path / "m.yaml").write_text(MODEL + REST)
    done = archlab_command("describe", "m.yaml", "--json")
    assert done.code == 0 and json.loads(done.out)["params"] == archlab.params(archlab.load(tmp_path / "m.yaml")).total


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**6) | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(known_keys(read("gemma-3-1b"))) | st.text(max_size=12), anything)
def test_any_override_is_taken_or_refused_in_one_sentence(key, value):
    try:
        spec = archlab.load("gemma-3-1b", {key: value})
    except ArchlabError as problem:
        assert str(problem)
    else:
        assert archlab.params(spec).total > 0


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["name", "d_model", "pattern", "attention", "mlp", "local", "defaults", "x"]), anything
    )
)
def test_any_document_is_taken_or_refused_in_one_sentence(tmp_path_factory, document):
    path = tmp_path_factory.mktemp("fuzz") / "m.yaml"
    path.write_text(json.dumps(document))
    with pytest.raises(ArchlabError):
        archlab.load(path)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_refused_in_one_sentence(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("fuzz") / "m.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ArchlabError):
        archlab.load(path)
