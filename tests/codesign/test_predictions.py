"""A question stops nothing, its answer outlasts the kernel, and a hit is a tenth of the range."""

import json

import matplotlib.pyplot as plt
import pytest

from codesign import plot, predictions


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path))
    monkeypatch.setenv("CODESIGN_STATIC", "0")
    monkeypatch.setattr(predictions, "_asked", {})
    monkeypatch.setattr(predictions, "_kept", {})
    return tmp_path


def restart(monkeypatch):
    """As a fresh kernel: nothing but the file is left."""
    monkeypatch.setattr(predictions, "_asked", {})
    monkeypatch.setattr(predictions, "_kept", {})


def test_without_an_answer_the_measurement_runs(capsys):
    asked = plot.predict("How long?", "ms", (1, 10))
    assert capsys.readouterr().out == "Predict: How long? (1 ms to 10 ms): answer=…\n"
    outcome = asked.measured(4)
    assert str(outcome) == "measured 4 ms, no prediction"
    assert not outcome.hit
    assert "no prediction was made" in str(plot.hits())


def test_an_answer_is_kept_over_a_restart(fresh, monkeypatch, capsys):
    plot.predict("How long?", "ms", (1, 10), answer=3)
    restart(monkeypatch)
    asked = plot.predict("How long?", "ms", (1, 10))
    assert "3 ms" in capsys.readouterr().out
    assert str(asked.measured(4)) == "measured 4 ms, predicted 3 ms: a miss"
    assert json.loads((fresh / predictions.FILE).read_text()) == {"How long?": 3}


def test_a_build_asks_and_knows_no_reader(monkeypatch, capsys):
    plot.predict("How long?", "ms", (1, 10), answer=3)
    monkeypatch.setenv("CODESIGN_STATIC", "1")
    asked = plot.predict("How long?", "ms", (1, 10))
    assert capsys.readouterr().out.splitlines()[-1] == "Predict: How long? (1 ms to 10 ms)"
    assert asked.answer is None
    assert str(asked.measured(4)) == "measured 4 ms, no prediction"


@pytest.mark.parametrize(
    ("given", "note", "kept"),
    [
        ("3", None, 3),
        (" 3,5 ms ", None, 3.5),
        ("1e1", None, 10),
        ("11", "outside of 1 ms to 10 ms", 11),
        ("much", "got 'much'; allowed: a number", None),
        ("", "got ''; allowed: a number", None),
        ("nan", "got 'nan'; allowed: a number", None),
        (None, "got 'None'; allowed: a number", None),
    ],
)
def test_what_a_reader_types_never_raises(given, note, kept):
    asked = plot.predict("How long?", "ms", (1, 10))
    assert asked.keep(given) == note
    assert asked.answer == kept


@pytest.mark.parametrize("content", ["{", "[1]", '{"How long?": "x"}', '{"How long?": true}'])
def test_a_damaged_file_holds_no_answers_and_takes_new_ones(fresh, content):
    (fresh / predictions.FILE).write_text(content)
    asked = plot.predict("How long?", "ms", (1, 10))
    assert asked.answer in (None, 1.0)
    assert asked.keep(2) is None
    assert asked.answer == 2


def test_without_a_cache_directory_answers_live_as_long_as_the_kernel(fresh, monkeypatch):
    (fresh / "file").write_text("")
    monkeypatch.setenv("CODESIGN_CACHE", str(fresh / "file" / "below"))
    asked = plot.predict("How long?", "ms", (1, 10), answer=5)
    assert asked.answer == 5


def test_a_hit_is_a_tenth_of_the_range():
    even = plot.predict("A?", "", (0, 100), answer=50)
    assert even.measured(60).hit
    assert not even.measured(60.5).hit
    wide = plot.predict("B?", "×", (1, 1000), answer=10)
    assert wide.measured(19).hit
    assert not wide.measured(21).hit
    assert not wide.measured(-3).hit


def test_hits_are_counted_at_the_end():
    plot.predict("A?", "", (0, 10), answer=5).measured(5)
    plot.predict("B?", "", (0, 10), answer=5).measured(9)
    plot.predict("C?", "", (0, 10)).measured(1)
    plot.predict("D?", "", (0, 10), answer=1)  # never measured
    text = str(plot.hits())
    assert text.endswith("1 of 2 predictions within a tenth of their range")
    assert "D?" not in text


def test_asking_twice_asks_once():
    for _ in range(2):
        plot.predict("A?", "", (0, 10), answer=5).measured(5)
    assert len(plot.hits()) == 1


def test_the_answer_is_drawn_beside_the_measured_value():
    asked = plot.predict("A <b>?", "", (0, 10), answer=0)
    shown = asked.measured(10)._repr_mimebundle_()
    assert shown[predictions.MIME] == {"question": "A <b>?", "measured": 10.0}
    assert '<circle cx="10.0"' in shown["text/html"]
    assert '<circle cx="290.0"' in shown["text/html"]
    assert "<b>" not in shown["text/html"]
    _, ax = plt.subplots()
    asked.mark(ax)
    assert [line.get_ydata()[0] for line in ax.get_lines()] == [0]
    plot.predict("B?", "", (0, 10)).mark(ax)
    assert len(ax.get_lines()) == 1
    plt.close()


@pytest.mark.parametrize("span", [(1, 1), (2, 1), (0, float("inf")), (float("nan"), 1)])
def test_an_authors_mistake_is_told(span):
    with pytest.raises(ValueError, match="allowed: a question, low < high"):
        plot.predict("A?", "", span)
    with pytest.raises(ValueError, match="allowed: a question"):
        plot.predict(" ", "", (0, 1))
