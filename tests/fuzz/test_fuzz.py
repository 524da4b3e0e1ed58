"""Each target over its seeds and what hypothesis makes of them; and for a moment under libFuzzer, where that is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_targets import TARGETS
from hypothesis import given, settings
from hypothesis import strategies as st
from thoroughness import examples

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


@pytest.mark.parametrize("name", TARGETS)
def test_the_fuzzer_finds_nothing_in_a_moment(name: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed: it has wheels for some versions of CPython alone")
    bounds = ("-runs=3000", "-max_total_time=4", "-max_len=4096", "-timeout=5", f"-artifact_prefix={tmp_path}/")
    found = subprocess.run(
        [sys.executable, str(RUN), name, *bounds], capture_output=True, text=True, timeout=120, check=False
    )

    assert 0 == found.returncode, found.stderr[-3000:]
    assert "Done " in found.stderr
