"""The command line, run in this process and in a folder of its own; which of the slow tests CI leaves to make test-all."""

from collections import Counter
from dataclasses import dataclass

import pytest

from archlab.cli.main import main

ALIKE = 4
"""Of the slow tests of one function, `make test-slow` runs the first and every n-th after, `make test-all` every one."""

SPARSE = {
    "browser/test_report_page.py::test_axe": 3,
    "browser/test_report_page.py::test_drawn_quiet_and_whole_at_each_width": 3,
    "browser/test_report_times.py::test_every_choice_has_its_picture": 2,
    "contract/test_audit.py::test_presets_in_small": 4,
    "contract/test_rows_and_modules.py::test_each_block_does_the_flops_of_its_rows": 3,
    "contract/test_rows_and_modules.py::test_fvcore_counts_the_dense_flops": 8,
    "memory/test_activations.py::test_rows_against_the_tracker": 3,
    "parity/test_recurrentgemma.py": 2,
}
"""Of the tests that begin so, long and many alike, the default suite runs every n-th; the others are slow."""

LONG = (
    "browser/test_gallery.py::test_the_index_is_quiet_and_whole_at_each_width",
    "browser/test_report_grids.py::test_drawn_whole_and_quiet_at_each_width[large]",
    "browser/test_report_page.py::test_axe[attention_heads-light]",
    "browser/test_report_page.py::test_drawn_quiet_and_whole_at_each_width[hostile]",
    "browser/test_report_page.py::test_on_a_phone",
    "cli/test_output.py::test_check_has_a_row_a_line_of_its_table[more1]",
    "browser/test_report_page.py::test_drawn_quiet_and_whole_at_each_width[fit_matrix]",
    "browser/test_report_page.py::test_drawn_quiet_and_whole_at_each_width[batch_context]",
    "browser/test_report_page.py::test_drawn_quiet_and_whole_at_each_width[hostile_times]",
    "browser/test_report_page.py::test_drawn_quiet_and_whole_at_each_width[window_and_pattern]",
    "browser/test_report_page.py::test_drawn_quiet_and_whole_at_each_width[all_devices]",
    "browser/test_report_page.py::test_axe[fast_heads-dark]",
    "cli/test_commands.py::test_a_screen_and_a_document[check gemma-3-270m --context 64]",
    "cli/test_commands.py::test_check_fails_with_exit_code_1_when_a_form_is_wrong",
    "contract/test_audit.py::test_presets_in_small[gemma-3n-e2b]",
    "contract/test_audit.py::test_presets_in_small[gemma-4-12b]",
    "contract/test_audit.py::test_presets_in_small[gemma-4-26b-a4b]",
    "contract/test_audit.py::test_presets_in_small[gemma-4-e2b]",
    "contract/test_audit.py::test_presets_in_small[t5gemma",
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
    "parity/test_gemma4.py::test_counts_are_the_rows[e2b]",
    "sweep/test_fit_study.py::test_several_engines",
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
            if seen[function] % ALIKE:
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
