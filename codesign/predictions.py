"""Ask for a number before it is measured, keep the answer, and show both side by side.

A reader who has written down a guess sees what the measurement corrects. Nothing here stops a
notebook: without an answer the measurement runs and says so. In a kernel with ipywidgets the
question is a field, elsewhere a line of text that takes ``answer=``; a build prints the question
alone. Answers lie in the cache directory, by question, and outlast a kernel. Used by every lecture.
"""

from __future__ import annotations

import html
import json
import math
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from codesign import places
from codesign.explorer import static_build

FILE = "predictions.json"
MIME = "application/vnd.codesign.prediction+json"
WITHIN = 0.1  # a hit misses by at most this share of the range
DECADE = 20  # ranges with a larger ratio of their ends are logarithmic
_asked: dict[str, Prediction] = {}
_kept: dict[str, float] = {}


def predict(
    question: str,
    unit: str,
    range: tuple[float, float],
    answer: float | None = None,
) -> Prediction:
    """Ask ``question``, whose answer is a number in ``unit`` within ``range``.

    Args:
        unit: as it stands behind the number, for instance ``"%"`` or ``"×"``.
        range: lowest and highest number that makes sense; measured from end to end, and
            logarithmically where the higher is more than 20 times the lower.
        answer: the reader's number, where there is no field for it.

    Raises:
        ValueError: an empty question, or a range without a width: the author's mistake. A reader's
            answer never raises.
    """
    low, high = map(float, range)
    if not question.strip() or not math.isfinite(high - low) or low >= high:
        raise ValueError(f"got {question!r} from {low} to {high}; allowed: a question, low < high")
    prediction = Prediction(question.strip(), unit, low, high)
    if answer is not None:
        prediction.keep(answer)
    _asked[prediction.question] = prediction
    _ask(prediction)
    return prediction


@dataclass
class Prediction:
    """One question, its range, and what became of it: made by :func:`predict`."""

    question: str
    unit: str
    low: float
    high: float
    found: float | None = field(default=None, init=False)

    @property
    def answer(self) -> float | None:
        """The reader's number, or None; a static build has no reader."""
        return None if static_build() else _stored().get(self.question)

    def keep(self, answer: object) -> str | None:
        """Store an answer, a number or its text; what is wrong with it, or None."""
        try:
            number = float(str(answer).strip().removesuffix(self.unit).replace(",", "."))
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            return f"got {str(answer)!r}; allowed: a number"
        _keep(self.question, number)
        inside = self.low <= number <= self.high
        return None if inside else f"outside of {self.text(self.low)} to {self.text(self.high)}"

    def measured(self, value: float) -> Outcome:
        """What was measured, beside the answer: leave it as the cell's last line."""
        self.found = float(value)
        return Outcome(self, self.found, self.answer)

    def mark(self, ax: Axes, axis: str = "y") -> None:
        """Draw the answer, if there is one, as a dashed line across ``ax`` at its value."""
        if (answer := self.answer) is None:
            return
        line = ax.axhline if axis == "y" else ax.axvline
        line(answer, color="#767676", ls="--", lw=1, label=f"predicted {self.text(answer)}")

    def text(self, value: float) -> str:
        """A number with its unit, to three digits."""
        shown = f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
        return f"{shown}{'' if self.unit == '×' else ' '}{self.unit}".strip()

    def place(self, value: float) -> float:
        """Where ``value`` lies in the range: 0 at its low end, 1 at its high end."""
        low, high = self.low, self.high
        if low > 0 and high / low > DECADE:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low / 1e6))
        return (value - low) / (high - low)


@dataclass(frozen=True)
class Outcome:
    """An answer beside what was measured: a line with two marks in a notebook, text elsewhere."""

    prediction: Prediction
    found: float
    answer: float | None

    @property
    def hit(self) -> bool:
        """Whether the answer misses by at most a tenth of the range."""
        if self.answer is None:
            return False
        place = self.prediction.place
        return abs(place(self.answer) - place(self.found)) <= WITHIN

    def __str__(self) -> str:
        text = self.prediction.text
        if self.answer is None:
            return f"measured {text(self.found)}, no prediction"
        verdict = "a hit" if self.hit else "a miss"
        return f"measured {text(self.found)}, predicted {text(self.answer)}: {verdict}"

    __repr__ = __str__

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        data = {"question": self.prediction.question, "measured": self.found}
        shown = {"text/plain": str(self), "text/html": f"<p>{html.escape(str(self))}</p>"}
        shown["text/html"] += self._line()
        return {**shown, MIME: data}

    def _line(self) -> str:
        """The range as a line, the measured value as a dot, the answer as a ring."""
        one, marks = self.prediction, []
        for value, style in ((self.answer, 'fill="none" stroke="#767676"'), (self.found, "")):
            if value is not None:
                x = 10 + 280 * min(max(one.place(value), 0), 1)
                marks.append(f'<circle cx="{x:.1f}" cy="10" r="5" {style}/>')
        ends = f"{one.text(one.low)} to {one.text(one.high)}"
        return (
            f'<svg width="300" height="20" role="img"><title>{html.escape(f"{self}; {ends}")}'
            f'</title><line x1="10" x2="290" y1="10" y2="10" stroke="#999"/>{"".join(marks)}</svg>'
        )


class Hits(tuple[Outcome, ...]):
    """The reader's predictions at the end of a notebook."""

    def __str__(self) -> str:
        answered = [one for one in self if one.answer is not None]
        hits = sum(one.hit for one in answered)
        lines = [f"{one.prediction.question}\n    {one}" for one in self]
        total = f"{hits} of {len(answered)} predictions within a tenth of their range"
        return "\n".join([*lines, total if answered else "no prediction was made"])

    __repr__ = __str__


def hits() -> Hits:
    """Every prediction of this kernel that has been measured, with its outcome."""
    return Hits(
        Outcome(one, one.found, one.answer) for one in _asked.values() if one.found is not None
    )


# --- asking --------------------------------------------------------------------------------------


def _ask(prediction: Prediction) -> None:
    low, high = prediction.text(prediction.low), prediction.text(prediction.high)
    question = f"Predict: {prediction.question} ({low} to {high})"
    if static_build():
        print(question)
    elif not _in_kernel() or not _field(prediction, question):
        said = "answer=…" if prediction.answer is None else prediction.text(prediction.answer)
        print(f"{question}: {said}")


def _field(prediction: Prediction, question: str) -> bool:
    """Show a field for the answer; False where there are no widgets."""
    try:
        import ipywidgets as widgets
        from IPython.display import display
    except ImportError:
        return False
    shown = "" if prediction.answer is None else f"{prediction.answer:g}"
    number = widgets.Text(
        value=shown,
        placeholder="your number",
        continuous_update=False,
        layout=widgets.Layout(width="9em"),
    )
    note = widgets.Label("kept" if shown else "")

    def keep(change: dict[str, Any]) -> None:
        note.value = prediction.keep(change["new"]) or "kept"

    number.observe(keep, names="value")
    row = widgets.HBox([number, widgets.Label(prediction.unit), note])
    display(widgets.VBox([widgets.HTML(html.escape(question)), row]))
    return True


def _in_kernel() -> bool:
    with suppress(ImportError):
        from IPython import get_ipython

        return getattr(get_ipython(), "kernel", None) is not None
    return False


# --- keeping -------------------------------------------------------------------------------------


def _file() -> Path:
    return places.cache_dir() / FILE


def _stored() -> dict[str, float]:
    """Answers by question: the file's (none, where it cannot be read), then this kernel's."""
    read = None
    with suppress(OSError, ValueError):
        read = json.loads(_file().read_text(encoding="utf-8"))
    rows = read.items() if isinstance(read, dict) else ()
    return {**{str(k): float(v) for k, v in rows if isinstance(v, int | float)}, **_kept}


def _keep(question: str, number: float) -> None:
    _kept[question] = number
    path, answers = _file(), _stored()
    with suppress(OSError):  # a reader without a cache directory predicts for this kernel alone
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        part.write_text(json.dumps(answers, ensure_ascii=False, indent=1), encoding="utf-8")
        part.replace(path)
