"""Peers that compute from the sizes of a model alone."""

from __future__ import annotations

from typing import Any

from peer import Config, Evaluate, Peer

GIB, MIB, MFLOP, MS = 2**30, 2**20, 1e6, 1e-3


def llm_analysis() -> Evaluate:
    """Prefill and one generated token, so that its cache holds a token more than the context."""
    from llm_analysis import analysis, config, logger

    logger.logger.setLevel("ERROR")
    device = config.get_gpu_config_by_name("h100-sxm-80gb")

    def evaluate(given: Config, context: int) -> dict[str, float]:
        model = config.ModelConfig(
            name="model", num_layers=given["num_hidden_layers"], n_head=given["num_attention_heads"],
            hidden_dim=given["hidden_size"], vocab_size=given["vocab_size"],
            num_key_value_heads=given["num_key_value_heads"], ffn_embed_dim=given["intermediate_size"],
        )  # fmt: skip
        tool = analysis.LLMAnalysis(model, device, flops_efficiency=1, hbm_memory_efficiency=1)
        found = tool.inference(batch_size_per_gpu=1, seq_len=context, num_tokens_to_generate=1)
        parts = ("weight_memory_per_gpu", "kv_cache_memory_per_gpu", "prefill_activation_memory_per_gpu")
        return {
            "params": tool.total_num_params,
            "flops": found["prefill_num_flops_fwd_total"],
            "kv_cache": found["kv_cache_memory_per_gpu"],
            "memory": sum(found[part] for part in parts),
            "prefill_s": found["prefill_latency"],
            "decode_s": found["decode_latency"],
        }

    return evaluate


def genz() -> Evaluate:
    """A prefill and a decode step; each writes its operators to a CSV file and reads it again."""
    from GenZ import ModelConfig, decode_moddeling, prefill_moddeling

    def model_of(given: Config) -> Any:
        return ModelConfig(
            model="model", vocab_size=given["vocab_size"], max_model_len=given["max_position_embeddings"],
            hidden_size=given["hidden_size"], intermediate_size=given["intermediate_size"], num_ffi=2,
            num_decoder_layers=given["num_hidden_layers"], num_attention_heads=given["num_attention_heads"],
            num_key_value_heads=given["num_key_value_heads"], head_dim=given["head_dim"],
            hidden_act=given["hidden_activation"], sliding_window=given["sliding_window"],
        )  # fmt: skip

    def evaluate(given: Config, context: int) -> dict[str, float]:
        place = {"batch_size": 1, "input_tokens": context, "system_name": "H100_GPU", "bits": "bf16"}
        model = model_of(given)
        prefill, decode = prefill_moddeling(model, **place), decode_moddeling(model, Bb=1, **place)
        table = prefill["summary_table"].iloc[0]
        weights, cache = table["Total Weights (MB)"] * MIB, table["KV Cache (MB)"] * MIB
        return {
            "params": weights / 2,
            "flops": table["MACs (MFLOP)"] * MFLOP,
            "kv_cache": cache,
            "memory": weights + cache,
            "prefill_s": prefill["Latency"] * MS,
            "decode_s": decode["Latency"] * MS,
        }

    return evaluate


def hf_mem() -> Evaluate:
    """The cache only: parameters and weights are read from a checkpoint on the Hub."""
    from hf_mem.safetensors import compute_safetensors_kv_cache_size

    def evaluate(given: Config, context: int) -> dict[str, float]:
        return {"kv_cache": compute_safetensors_kv_cache_size(dict(given), "BF16", context)}

    return evaluate


def hf_vram_calc() -> Evaluate:
    """transformers' class without weights is built for its parameters; the rest is arithmetic."""
    from hf_vram_calc import ConfigManager, ModelConfig, VRAMCalculator
    from hf_vram_calc.calculator import LlmodelMemoryResult, ParameterCalculator
    from transformers import AutoConfig

    calculator = VRAMCalculator(ConfigManager())

    def evaluate(given: Config, context: int) -> dict[str, float]:
        model = ModelConfig(
            model_name="model", model_type=given["model_type"], vocab_size=given["vocab_size"],
            hidden_size=given["hidden_size"], num_layers=given["num_hidden_layers"],
            num_attention_heads=given["num_attention_heads"], intermediate_size=given["intermediate_size"],
            num_key_value_heads=given["num_key_value_heads"], torch_dtype="bfloat16",
            test_config=AutoConfig.for_model(**given),
        )  # fmt: skip
        found = LlmodelMemoryResult("bf16", batch_size=1, sequence_length=context)
        found.calculate_all(model, ParameterCalculator.calculate_transformer_params(model), calculator)
        return {
            "params": found.num_params,
            "kv_cache": found.kv_cache_memory * GIB,
            "memory": found.inference_memory * GIB,
        }

    return evaluate


PEERS = (
    Peer("llm-analysis", "parameters, FLOPs, cache, activations, prefill and decode roofline, largest batch",
         llm_analysis, "all"),
    Peer("genz-llm", "FLOPs, weights, cache, prefill and decode roofline of each operator", genz, "all"),
    Peer("hf-mem", "cache (weights need the Hub)", hf_mem),
    Peer("hf-vram-calc", "parameters (a module is built), weights, cache, activations", hf_vram_calc),
)  # fmt: skip
