"""Training of language models: seeded, resumable to the bit, in cycles that a later run adds to."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
import torch
from typer.testing import CliRunner

from codesign import checkpoints, cost, datasets, perplexity, resumable, tokenizer
from codesign import language_training as lt
from codesign.models.llama import Llama
from codesign.text import TextCard, TextSet

CONFIG = {
    "vocabulary": 300, "width": 32, "hidden": 32, "layers": 1, "heads": 2, "kv_heads": 1,
    "context": 32,
}  # fmt: skip
CONTENT = "".join(f"def f{i}(x):\n    return x + {i}\n" for i in range(400))


def fresh(seed: int = 0) -> Llama:
    torch.manual_seed(seed)
    return Llama(**CONFIG)


def numbers(count: int = 400) -> torch.Tensor:
    return torch.arange(count) * 7 % 97


def fit(model: Llama, tokens: torch.Tensor | None = None, **changes) -> lt.History:
    settings = {"steps": 12, "lr": 0.01, "batch_size": 4, "context": 16} | changes
    return lt.fit(model, numbers() if tokens is None else tokens, **settings)


def equal(a: Llama, b: Llama) -> bool:
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return all(torch.equal(one, two) for one, two in pairs)


@pytest.fixture
def often(monkeypatch) -> None:
    """The state is stored after every step, and the history grows after every fifth."""
    monkeypatch.setattr(lt, "STORE_S", 0.0)
    monkeypatch.setattr(lt, "RECORD_STEPS", 5)


def test_the_same_seed_gives_the_same_weights():
    one, two, other = fresh(), fresh(), fresh()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit(one)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    fit(two)
    fit(other, seed=1)
    assert equal(one, two)
    assert not equal(one, other)


def test_training_learns_what_repeats():
    model, tokens = fresh(), numbers()
    before = perplexity.loss(model, tokens, 16)
    history = fit(model, steps=150, val=tokens)
    assert perplexity.loss(model, tokens, 16) < 0.1 * before
    assert len(history.loss) == len(history.val_loss) == 2  # after 100 steps and at the end
    assert not model.training


@pytest.mark.parametrize("cut", [1, 5, 6, 11])
def test_a_run_that_was_cut_ends_like_one_that_was_not(tmp_path, often, monkeypatch, cut):
    """An epoch has five steps, so that it is cut within and between epochs."""
    assert (len(numbers()) - 17) // 64 == 5
    whole = fresh()
    expected = fit(whole, val=numbers(50))
    save, calls = resumable.save_state, [0]

    def then_stop(*args, **kwargs):
        save(*args, **kwargs)
        calls[0] += 1
        if calls[0] == cut:
            raise KeyboardInterrupt

    stem = tmp_path / "run"
    monkeypatch.setattr(resumable, "save_state", then_stop)
    with pytest.raises(KeyboardInterrupt):
        fit(fresh(), val=numbers(50), resume=stem)
    again = fresh(seed=9)
    history = fit(again, val=numbers(50), resume=stem)
    assert calls[0] == 12
    assert equal(again, whole)
    assert (history.loss, history.val_loss) == (expected.loss, expected.val_loss)
    finished = fresh(seed=8)
    assert fit(finished, val=numbers(50), resume=stem).loss == expected.loss
    assert equal(finished, whole)


def test_a_state_of_other_settings_is_refused(tmp_path):
    fit(fresh(), resume=tmp_path / "run")
    with pytest.raises(ValueError, match="delete the file to start again"):
        fit(fresh(), resume=tmp_path / "run", lr=0.02)


def test_an_epoch_takes_every_window_once():
    starts = lt._windows(1000, 16, seed=3)
    ordered = sorted(starts.tolist())
    assert all(b - a == 16 for a, b in pairwise(ordered))
    assert 0 <= ordered[0] < 16
    assert 1000 - 16 <= ordered[-1] + 16 <= 1000 - 1  # and the token behind the last one
    assert starts.tolist() != ordered
    offsets = {int(lt._windows(1000, 16, seed=seed).min()) for seed in range(50)}
    assert len(offsets) > 8


def test_every_window_fits_whatever_the_length():
    for count in range(82, 100):
        fit(fresh(), numbers(count), steps=2)
    with pytest.raises(ValueError, match=r"got 2 steps of 4 windows of 16 tokens, lr=0.01, 80"):
        fit(fresh(), numbers(80), steps=2)


def test_the_learning_rate_rises_falls_and_ends_at_zero():
    shares = [lt.cosine(i / 100) for i in range(101)]
    assert shares[0] == 0
    assert max(shares) == shares[5] == 1
    assert all(a < b for a, b in pairwise(shares[:6]))
    assert all(a > b for a, b in pairwise(shares[5:]))
    assert shares[-1] == pytest.approx(0)


@pytest.mark.parametrize("changes", [{"steps": 0}, {"lr": 0.0}, {"batch_size": 0}, {"context": 0}])
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(ValueError, match=r"got .* steps of .*; allowed"):
        fit(fresh(), **changes)


def test_a_loss_that_is_no_number_is_told():
    model = fresh()
    with torch.no_grad():
        model.norm.weight[0] = math.nan
    with pytest.raises(FloatingPointError, match="loss is nan; lower the learning rate"):
        fit(model)


# --- recipes -------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A recipe of seconds on a text of a few kilobytes; returns a function that runs it."""
    content = CONTENT.encode()
    card = TextCard("stdlib", "train", "made here", "3.99", (("a.py", len(content)),))
    few = TextSet(torch.tensor(list(content)).byte(), card)
    monkeypatch.setattr(datasets, "load_text", lambda *_: few)
    monkeypatch.setattr(lt, "VOCABULARY", 300)
    cycle = {"steps": 20, "lr": 0.01, "batch_size": 4, "context": 16}

    def run(cycles: int = 1, name: str = "llama") -> dict:
        recipe = {"config": CONFIG, "cycles": [cycle] * cycles}
        monkeypatch.setattr(lt, "RECIPES", {"llama": recipe})
        done = CliRunner().invoke(lt.app, ["recipe", name, "--out", str(tmp_path)])
        assert done.exit_code == 0, done.output
        return json.loads((tmp_path / "stdlib/llama.json").read_text())

    return run


def test_a_recipe_stores_model_and_tokenizer(small, tmp_path):
    record, folder = small(), tmp_path / "stdlib"
    using = tokenizer.load(folder / "tokenizer.json")
    model = checkpoints.load(folder / "llama")
    assert record["tokenizer_sha256"] == checkpoints.sha256(folder / "tokenizer.json")
    assert (record["stored"], record["python"], record["seed"]) == ("float16", "3.99", 0)
    bits = perplexity.bits_per_byte(model, datasets.load_text(), using)
    assert record["val_bits_per_byte"] == record["test_bits_per_byte"] == pytest.approx(bits, 1e-3)
    assert sorted(path.name for path in folder.iterdir()) == [
        "llama.json", "llama.safetensors", "tokenizer.json",
    ]  # fmt: skip
    assert "codesign.language_training recipe llama --seed 0 --threads 1" in record["command"]


def test_a_cycle_added_later_goes_on_from_what_is_stored(small, tmp_path):
    first = small(cycles=1)
    stored = checkpoints.load(tmp_path / "stdlib/llama")
    assert small(cycles=1)["sha256"] == first["sha256"], "nothing is left to do"
    second = small(cycles=2)
    assert len(second["cycles"]) == 2
    assert second["wall_s"] >= first["wall_s"]
    using = tokenizer.load(tmp_path / "stdlib/tokenizer.json")
    tokens = perplexity.tokens_of(datasets.load_text(), using)
    lt.fit(stored, tokens, seed=7_919, **second["cycles"][1])
    again = checkpoints.load(tmp_path / "stdlib/llama")
    for name, weight in stored.state_dict().items():
        assert torch.equal(weight.half().float(), again.state_dict()[name]), name


def test_an_unknown_recipe_names_the_known_ones():
    done = CliRunner().invoke(lt.app, ["recipe", "gpt"])
    assert done.exit_code == 2
    assert "allowed: ['llama', 'llama-draft']" in done.output


def test_the_shipped_sizes():
    big, draft = (Llama(**lt.RECIPES[name]["config"]) for name in ("llama", "llama-draft"))
    assert cost.parameters(big) == 2_623_744
    assert 300_000 < cost.parameters(draft) < 400_000
    for model in (big, draft):
        assert model.config["width"] % 128 == model.config["hidden"] % 128 == 0
        assert model.config["vocabulary"] == lt.VOCABULARY
    assert big.embed_tokens.weight.numel() <= 0.1 * cost.parameters(big)
