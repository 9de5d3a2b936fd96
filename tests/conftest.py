"""The command line, run in this process and in a folder of its own; which of the slow tests CI leaves to make test-all."""

from collections import Counter
from dataclasses import dataclass

import pytest

from archlab.cli.main import main

ALIKE = 4
"""Of the slow tests of one function, `make test-slow` runs the first and every n-th after, `make test-all` every one."""

FEWER = {
    "contract/test_audit.py::test_presets_at_full_size": 12,
    "contract/test_rows_and_modules.py::test_fvcore_counts_the_dense_flops": 8,
    "hf/test_hf_nonsense.py::test_every_value_by_every_oddity": 12,
    "hf/test_hf_nonsense.py::test_many_mutated_documents": 12,
    "hf/test_hf_random.py::test_many_random_configurations": 12,
    "memory/test_activations.py::test_rows_against_the_tracker_at_full_size": 12,
    "memory/test_tracker.py::test_released_models": 12,
    "sweep/test_evaluate_studies.py::test_a_study_is_what_its_points_are_at_length": 8,
}
"""The same of the longest of them."""

ALONE = (
    "contract/test_rows_and_modules.py::test_many_random_specs_of_every_block_agree_with_their_ledger",
    "memory/test_tracker.py::test_a_mixture_of_experts",
)
"""Left to make test-all though nothing is like them: minutes each, of what shorter tests hold too."""

SPARSE = {
    "browser/test_gallery.py::test_axe_on_the_index": 2,
    "browser/test_report_page.py::test_drawn_quiet_and_whole_at_each_width": 5,
    "browser/test_report_times.py::test_every_choice_has_its_picture": 2,
    "cli/test_commands.py::test_new_writes_a_file_that_is_the_same_model": 6,
    "cli/test_hardware_command.py::test_a_screen_has_every_fact": 4,
    "contract/test_audit.py::test_presets_in_small": 4,
    "contract/test_fast.py::test_a_replay_gives_what_the_pass_gives": 3,
    "contract/test_fast.py::test_fast_equals_reference": 2,
    "contract/test_rows_and_modules.py::test_each_block_does_the_flops_of_its_rows": 8,
    "contract/test_rows_and_modules.py::test_fvcore_counts_the_dense_flops": 16,
    "contract/test_rows_and_modules.py::test_names_and_shapes_are_the_rows": 4,
    "golden/test_precisions.py::test_every_weight_of_every_preset_gets_a_format_that_suits_it": 4,
    "hf/test_hf_export.py::test_transformers_builds_the_same_tensors": 4,
    "hf/test_hf_random.py::test_random_configurations": 4,
    "hf/test_hf_weights.py::test_our_weights_give_our_outputs_there": 3,
    "kernels/test_triton_attention.py": 3,
    "kernels/test_triton_kernels.py::test_a_product_after_a_norm": 4,
    "measure/test_backends.py::test_a_fast_decoder_that_is_wrong_fails_its_check": 2,
    "memory/test_activations.py::test_rows_against_the_tracker": 3,
    "parity/test_images.py::test_dense_flops_with_pixels_equal_both_counters": 4,
    "parity/test_images.py::test_logits_of_images_in_text": 3,
    "parity/test_recurrentgemma.py": 2,
    "parity/test_t5gemma2.py::test_dense_flops_are_those_of_the_module": 3,
    "parity/test_vision.py::test_a_deep_tower_of_random_weights_stays_finite": 3,
    "sweep/test_evaluate_studies.py::test_a_study_is_what_its_points_are": 4,
    "sweep/test_pareto.py::test_thousands_of_rows": 4,
    "sweep/test_sensitivity.py::test_each_side_is_the_model_loaded_alone": 3,
}
"""Of the tests that begin so, long and many alike, the default suite runs every n-th; the others are slow."""

LONG = (
    "browser/test_gallery.py::test_the_index_is_quiet_and_whole_at_each_width",
    "browser/test_report_grids.py::test_drawn_whole_and_quiet_at_each_width[large]",
    "browser/test_report_page.py::test_axe",
    "browser/test_report_page.py::test_drawn_quiet_and_whole_at_each_width[hostile]",
    "browser/test_report_page.py::test_on_a_phone",
    "cli/test_output.py::test_check_has_a_row_a_line_of_its_table[more1]",
    "browser/test_report_page.py::test_drawn_quiet_and_whole_at_each_width[fit_matrix]",
    "browser/test_report_page.py::test_drawn_quiet_and_whole_at_each_width[batch_context]",
    "browser/test_report_page.py::test_drawn_quiet_and_whole_at_each_width[hostile_times]",
    "browser/test_report_page.py::test_drawn_quiet_and_whole_at_each_width[window_and_pattern]",
    "browser/test_report_page.py::test_drawn_quiet_and_whole_at_each_width[all_devices]",
    "cli/test_commands.py::test_a_screen_and_a_document[check gemma-3-270m --context 64]",
    "cli/test_commands.py::test_check_fails_with_exit_code_1_when_a_form_is_wrong",
    "contract/test_audit.py::test_presets_in_small[gemma-3n-e2b]",
    "contract/test_audit.py::test_presets_in_small[gemma-4-12b]",
    "contract/test_audit.py::test_presets_in_small[gemma-4-26b-a4b]",
    "contract/test_audit.py::test_presets_in_small[gemma-4-e2b]",
    "contract/test_audit.py::test_presets_in_small[t5gemma",
    "cli/test_bad_input.py::test_any_override_is_taken_or_refused_in_one_sentence",
    "cli/test_commands.py::test_measure_says_what_ran_and_how_far_to_trust_it",
    "contract/test_audit.py::test_a_preset_at_full_size",
    "contract/test_rows_and_modules.py::test_full_size_on_meta",
    "contract/test_rows_and_modules.py::test_random_specs",
    "memory/test_check_memory.py::test_rows_that_are_off_fail",
    "memory/test_check_memory.py::test_few_layers_are_said_to_stand_for_all",
    "memory/test_tracker.py::test_a_few_layers_tell_of_all",
    "memory/test_tracker.py::test_the_peak_may_lie_elsewhere_at_full_depth",
    "memory/test_tracker.py::test_parameters_cache_gradients_and_states_are_what_they_are_known_to_be",
    "memory/test_tracker.py::test_as_json",
    "memory/test_tracker.py::test_an_encoder_alone_has_no_decode_step",
    "memory/test_memory_measured.py::test_a_step_runs_and_stands_beside_tracker_and_rows[training]",
    "measure/test_sampled.py::test_one_configuration_is_verified_and_the_others_count_on_it",
    "measure/test_suite.py::test_command_line_of_one_model",
    "parity/test_gemma3n.py::test_counts_are_the_rows",
    "parity/test_gemma4.py::test_counts_are_the_rows[e2b]",
    "property/test_fit.py::test_one_more_does_not_fit",
    "sweep/test_fit_study.py::test_several_engines",
    "sweep/test_store.py::test_an_interrupted_sweep_goes_on",
    "sweep/test_launchers.py::test_a_block_that_fails_here_too_is_a_row",
    "sweep/test_search.py::test_a_sampler_comes_close_to_the_whole_front[tpe]",
    "sweep/test_search.py::test_a_process_that_is_killed_loses_no_trial",
    "sweep/test_search.py::test_a_log_cut_anywhere_goes_on_as_if_it_had_not_been",
)
"""Tests that take longest, by the beginning of their names: slow, so that the default suite stays one to run often."""


def pytest_collection_modifyitems(items):
    """Marks as `slow` what takes longest, and as `exhaustive` what is left to make test-all."""
    seen = Counter()
    for item in items:
        if any(_begins(item, name) for name in LONG) or _left_out(item, seen):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("slow"):
            function = item.nodeid.split("[")[0]
            every = next((n for name, n in FEWER.items() if _begins(item, name)), ALIKE)
            if seen[function] % every or any(_begins(item, name) for name in ALONE):
                item.add_marker(pytest.mark.exhaustive)
            seen[function] += 1


def _begins(item, name):
    return f"tests/{name}" in item.nodeid or item.nodeid.startswith(name)


def _left_out(item, seen):
    """Whether it is one of many alike, and not its turn; those that are slow anyway are not counted."""
    name = None if item.get_closest_marker("slow") else next((n for n in SPARSE if _begins(item, n)), None)
    if name is None:
        return False
    seen[name] += 1
    return (seen[name] - 1) % SPARSE[name] > 0


@dataclass
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def archlab_command(capsys, monkeypatch, tmp_path):
    """archlab_command("describe", "gemma-2b") -> Done, in tmp_path."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Done:
        try:
            main(list(words))
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return run
