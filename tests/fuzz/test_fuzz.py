"""Each target over its seeds and what hypothesis makes of them; and for a moment under libFuzzer, where that is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_targets import TARGETS
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import examples, is_long

RUN = Path(__file__).with_name("run.py")


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_pass(name: str) -> None:
    for seed in (*TARGETS[name].seeds, b""):
        TARGETS[name].run(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_breaks_on_a_seed_that_was_damaged(name: str) -> None:
    @settings(max_examples=examples(60), deadline=None)
    @given(
        st.sampled_from(TARGETS[name].seeds),
        st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=4)), max_size=4),
    )
    def damaged(seed: bytes, changes: list[tuple[int, bytes]]) -> None:
        for at, put in changes:
            seed = seed[:at] + put + seed[at + len(put) :]
        TARGETS[name].run(seed)

    damaged()


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What libFuzzer said of all targets."""
    pytest.importorskip("atheris", reason="atheris is not installed: it has wheels for some versions of CPython alone")
    artifacts = f"-artifact_prefix={tmp_path_factory.mktemp('fuzz')}/"
    bounds = (f"-runs={examples(3000)}", "-max_total_time=4", "-max_len=4096", "-timeout=5", artifacts)
    guidance = () if is_long() else ("--blind",)
    command = [sys.executable, str(RUN), *guidance, ",".join(TARGETS), *bounds]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False).stderr


@pytest.mark.xdist_group("fuzzer")
@pytest.mark.parametrize("name", TARGETS)
def test_the_fuzzer_finds_nothing_in_a_moment(name: str, fuzzer: str) -> None:
    assert f"{name} ended with 0\n" in fuzzer, fuzzer[-3000:]


@pytest.mark.xdist_group("fuzzer")
def test_the_fuzzer_ran_every_target_to_its_end(fuzzer: str) -> None:
    assert len(TARGETS) == len(re.findall(r"^Done \d+ runs", fuzzer, re.MULTILINE)), fuzzer[-3000:]
