"""The comparison of captures runs, and both capture the same."""

import importlib
from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_both_captures_are_equal_and_timed(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    bench = importlib.import_module("bench_capture")
    model, tokenizer = bench.load(None)
    speed = bench.compare(model, tokenizer, 30, 1)
    assert speed["apart"] < 1e-6
    (pair,) = speed["pairs"]
    assert set(pair) == {"bare", "memory", "out"}
    assert min(pair.values()) > 0
    memory = [{"n_texts": 30, "peak_mb": None, "activations_mb": 1.0}]
    report = bench.report_markdown({"speed": speed, "memory": memory})
    assert "| bare loop |" in report
    assert report.count("|\n") >= 6


def test_texts_of_prompts_need_no_archive(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    make = importlib.import_module("make_text_activations")
    texts, labels = make.read_texts("prompts", None)
    assert (len(texts), len(labels), len(set(labels.tolist()))) == (1268, 1268, 29)
    with pytest.raises(SystemExit, match="Give the wheel with the texts of trivia"):
        make.read_texts("trivia", None)
