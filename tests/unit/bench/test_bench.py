"""What the harness makes of its measurements. It measures nothing here."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

from bench import build, load, proc, report, stand, start
from bench.report import CROSS, DIRECT, ENVOY, PASS, Cell, Round
from edge_extproc.config import load as config_load


def seen(p50: float, *, per_second: float = 100.0, sent: int = 100, errors: int = 0) -> load.Load:
    return load.Load(sent, sent, errors, per_second, p50, 2 * p50, p50 / 2, p50)


def cell(way: str, *loads: load.Load, agent_cpu: float = 0.0, stream: bool = False, connections: int = 1) -> Cell:
    return Cell(way, stream, connections, tuple(Round(each, 0.01, agent_cpu) for each in loads))


def test_the_cpu_of_a_process_whose_name_has_spaces_and_parentheses():
    stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 250 50 7 8 20 0 3 0 100 1 2"

    assert 300 == proc.ticks(stat)


def test_the_memory_of_a_process():
    assert 2048 == proc.resident("Name:\tpython\nVmHWM:\t   4096 kB\nVmRSS:\t   2048 kB\nThreads:\t3\n")


def test_a_line_of_the_load_generator_becomes_milliseconds_and_unanswered_requests_are_errors():
    times = {"p50": 1500.0, "p99": 9000.0}
    told = {"total_sent": 12, "requests": 10, "errors": 1, "unfinished": 2, "rps": 5.0, "lat_us": times}
    found = load.parsed(json.dumps({**told, "ttfb_us": {"p50": 500.0, "p99": 700.0}}))

    assert load.Load(12, 10, 3, 5.0, 1.5, 9.0, 0.5, 0.7) == found


def test_a_row_stands_beside_the_direct_way_and_plain_envoy_under_the_same_load():
    cells = [
        cell(DIRECT, seen(1.0)),
        cell(ENVOY, seen(2.0, per_second=50.0)),
        cell(PASS, seen(4.0, per_second=25.0), agent_cpu=0.05),
        cell(DIRECT, seen(10.0), connections=16),
        cell(ENVOY, seen(20.0), connections=16),
    ]
    row = next(r for r in report.rows(cells, {}) if r.way == PASS)

    assert (3.0, 2.0, 0.5) == (row.added_p50, row.over_envoy_p50, row.of_envoy_per_second)
    assert pytest.approx(0.5) == row.agent_cpu_ms


def test_a_cell_tells_the_median_of_its_rounds_and_the_sum_of_its_errors():
    found = cell(PASS, seen(1.0, errors=1), seen(3.0), seen(100.0, errors=1))

    assert (3.0, 6.0) == found.times()
    assert 2 == found.errors


def test_a_stream_is_judged_by_its_first_byte_and_its_cpu_by_the_chunk():
    cells = [cell(way, seen(8.0), stream=True, agent_cpu=1.0) for way in (DIRECT, ENVOY, PASS)]
    row = report.rows(cells, {PASS: 64})[-1]

    assert 4.0 == row.p50
    assert pytest.approx(10.0 / 64) == row.agent_cpu_ms_per_chunk


def test_the_targets_hold_or_are_missed():
    cells = [
        cell(DIRECT, seen(1.0)),
        cell(ENVOY, seen(1.2)),
        cell(PASS, seen(2.0, per_second=900.0)),
        *(cell(way, seen(8.0), stream=True, agent_cpu=2.0) for way in (DIRECT, ENVOY, PASS)),
    ]
    found = report.verdicts(report.rows(cells, {PASS: 64}), cold_start=1.5, rss_start=60.0, rss_end=130.0)

    assert [True, False, False, False, False, True] == [v.holds for v in found]


def test_the_table_has_a_line_for_each_cell_and_the_json_all_of_it():
    cells = [cell(way, seen(1.0), stream=stream) for stream in (False, True) for way in (DIRECT, ENVOY, PASS, CROSS)]
    found = report.rows(cells, {PASS: 64, CROSS: 65})

    assert 2 * (1 + 1 + 4) + 1 == len(report.table(found).splitlines())
    assert 8 == len(json.loads(json.dumps(report.as_json(rows=found, other=1)))["rows"])


def test_growth_is_a_slope_an_hour():
    assert pytest.approx(36.0) == report.growth([(0.0, 50.0), (100.0, 51.0), (200.0, 52.0)])
    assert 0.0 == report.growth([(5.0, 50.0)])


def test_processes_are_found_in_what_up_prints():
    assert {"worker 0": 12, "envoy": 13} == stand.named_pids("Healthy   worker 0 (pid 12), envoy (pid 13)")


def test_the_gateway_that_is_measured_has_a_good_config():
    text = stand.config(1001, 1002, "http://127.0.0.1:1003", 2)

    assert 2 == config_load.parse(text, "bench").agent.workers
    assert yaml.safe_load(text)["models"].keys() == {"gpt-4o-mini", "claude-3-5-haiku-20241022"}


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_the_tools_compile(tmp_path):
    tools = build.tools(tmp_path)

    assert tools.loadgen.exists()
    assert tools.mock.exists()


def test_the_processes_of_a_gateway_have_names():
    assert "worker" == start.process_name(b"/usr/bin/python3\0-m\0edge_extproc\0worker\0--index\x000\0")
    assert "supervisor" == start.process_name(b"/usr/bin/python3\0-m\0edge_extproc\0up\0--config\0a\0")
    assert "envoy" == start.process_name(b"/opt/envoy/envoy\0--config-path\0a\0")


def test_the_commands_of_a_start_have_valid_configurations(tmp_path):
    made = start.commands(tmp_path)
    loaded = {path.name: config_load.load(path) for path in tmp_path.glob("*.yaml")}

    assert {"version", "schema", *(f"{name} {n}" for name in ("check", "render", "istio") for n in (1, 100, 1000))} == {
        *made
    }
    assert 1001 == len(loaded["envoy-1000.yaml"].providers)
    assert start.ISTIO == loaded["istio-1.yaml"].envoy.istio


def test_the_cost_of_a_start_is_the_median_of_its_rounds():
    rounds = [{"cpu": 3.0, "seconds": 1.0}, {"cpu": 1.0, "seconds": 9.0}, {"cpu": 2.0, "seconds": 4.0}]

    assert {"up": {"this": {"cpu": 2.0, "seconds": 4.0}}} == start.summary({"up": {"this": rounds}})
    assert start.line("up", "this", rounds).split() == ["up", "this", "CPU", "2.000", "(least", "1.000)", "4.00", "s"]
