"""The decoder: beside loops over heads and positions, with and without a cache, in its limits."""

from __future__ import annotations

import cmath
import json
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import checkpoints, cost, models
from codesign.generation import generate
from codesign.models.llama import KVCache, Llama, RMSNorm, rope_frequencies, rotate

TINY = {
    "vocabulary": 17, "width": 16, "hidden": 24, "layers": 2, "heads": 4, "kv_heads": 2,
    "context": 12,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "factor": 4.0}


def fresh(seed: int = 0, **changes) -> Llama:
    """A small decoder whose weights are large enough that every part of it matters."""
    torch.manual_seed(seed)
    model = Llama(**TINY | changes).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape) * (0.3 if weight.ndim == 2 else 1.0))
    return model


def text(count: int = 12, rows: int = 1, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(TINY["vocabulary"], (rows, count), generator=generator)


# --- the arithmetic ------------------------------------------------------------------------------


def by_loops(model: Llama, tokens: list[int]) -> torch.Tensor:
    """Logits ``[T, vocabulary]`` in double precision, one position, head and pair at a time."""
    config, weights = model.config, {k: v.double() for k, v in model.state_dict().items()}
    size = config["width"] // config["heads"]
    shared = config["heads"] // config["kv_heads"]

    def norm(x, name):
        return x / math.sqrt(float((x * x).mean()) + config["eps"]) * weights[f"{name}.weight"]

    def turned(head, position):
        turn = [cmath.exp(1j * position * config["rope_base"] ** (-2 * i / size))
                for i in range(size // 2)]  # fmt: skip
        pairs = [complex(head[i], head[i + size // 2]) * turn[i] for i in range(size // 2)]
        return torch.tensor([p.real for p in pairs] + [p.imag for p in pairs]).double()

    stream = [weights["embed_tokens.weight"][token] for token in tokens]
    for layer in range(config["layers"]):
        at = f"layers.{layer}"
        inside = [norm(x, f"{at}.input_layernorm") for x in stream]
        q, k, v = ([weights[f"{at}.self_attn.{n}_proj.weight"] @ x for x in inside] for n in "qkv")
        for t in range(len(tokens)):
            mixed = []
            for head in range(config["heads"]):
                kv = slice(head // shared * size, (head // shared + 1) * size)
                query = turned(q[t][head * size : (head + 1) * size], t)
                scores = [float(query @ turned(k[s][kv], s)) / math.sqrt(size)
                          for s in range(t + 1)]  # fmt: skip
                total = sum(math.exp(score) for score in scores)
                mixed.append(sum(math.exp(scores[s]) / total * v[s][kv] for s in range(t + 1)))
            stream[t] = stream[t] + weights[f"{at}.self_attn.o_proj.weight"] @ torch.cat(mixed)
        for t, x in enumerate(stream):
            y = norm(x, f"{at}.post_attention_layernorm")
            gate, up = (weights[f"{at}.mlp.{n}_proj.weight"] @ y for n in ("gate", "up"))
            stream[t] = x + weights[f"{at}.mlp.down_proj.weight"] @ (gate * gate.sigmoid() * up)
    head = weights["embed_tokens.weight" if config["tied"] else "lm_head.weight"]
    return torch.stack([head @ norm(x, "norm") for x in stream])


@pytest.mark.parametrize("changes", [{}, {"tied": False}, {"kv_heads": 4}, {"kv_heads": 1}])
def test_the_logits_are_those_of_loops(changes):
    model, tokens = fresh(**changes), text()
    expected = by_loops(model, tokens[0].tolist())
    assert torch.allclose(model(tokens)[0].double(), expected, atol=1e-4)


def test_a_later_token_changes_nothing_before_it():
    model, tokens = fresh(), text()
    other = tokens.clone()
    other[0, 7] = (other[0, 7] + 1) % TINY["vocabulary"]
    before, after = model(tokens)[0], model(other)[0]
    assert torch.equal(before[:7], after[:7])
    assert not torch.isclose(before[7:], after[7:]).all(dim=1).any()


def test_texts_of_a_batch_do_not_meet():
    model, rows = fresh(), text(rows=3)
    together = model(rows)
    for row, logits in zip(rows, together, strict=True):
        assert torch.allclose(model(row[None])[0], logits, atol=1e-5)


def test_the_norm_has_a_root_mean_square_of_one():
    x = torch.randn(5, 16) * 30
    assert torch.allclose(RMSNorm(16, 1e-5)(x).square().mean(1), torch.ones(5), atol=1e-4)


# --- positions -----------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(0, 400), st.integers(1, 3000))
def test_a_score_depends_on_the_distance_alone(query_at, key_at, shift):
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 8, generator=generator, dtype=torch.float64)
    frequencies = rope_frequencies(8, 10_000.0).double()

    def score(i: int, j: int) -> float:
        turned = [rotate(x, torch.tensor([[float(at)]]).double() * frequencies)
                  for x, at in ((query, i), (key, j))]  # fmt: skip
        return float((turned[0] * turned[1]).sum())

    assert score(query_at, key_at) == pytest.approx(score(query_at + shift, key_at + shift))


def test_a_rotation_keeps_lengths_and_position_0():
    x = torch.randn(1, 2, 5, 8)
    angles = torch.arange(5)[:, None] * rope_frequencies(8, 10_000.0)
    assert torch.allclose(rotate(x, angles).norm(dim=3), x.norm(dim=3))
    assert torch.equal(rotate(x, angles)[:, :, 0], x[:, :, 0])


def test_linear_scaling_is_positions_divided():
    plain, scaled = rope_frequencies(16, 500.0), rope_frequencies(16, 500.0, LINEAR)
    assert torch.allclose(12 * scaled, 3 * plain)


def test_llama3_scaling_follows_its_three_cases():
    """Written as Meta's reference code has it: by wavelength, one frequency at a time."""
    expected = []
    for i in range(16):
        frequency = 500.0 ** (-i / 16)
        wavelength = 2 * math.pi / frequency
        if wavelength < 64 / 4:
            expected.append(frequency)
        elif wavelength > 64 / 1:
            expected.append(frequency / 8)
        else:
            smooth = (64 / wavelength - 1) / (4 - 1)
            expected.append((1 - smooth) * frequency / 8 + smooth * frequency)
    got = rope_frequencies(32, 500.0, LLAMA3)
    assert torch.allclose(got, torch.tensor(expected))
    kinds = {round(float(ratio), 3) for ratio in rope_frequencies(32, 500.0) / got}
    assert {1.0, 8.0} < kinds, "all three cases occur"


# --- the cache -----------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.sampled_from([None, LLAMA3]))
def test_a_cache_gives_the_same_logits_in_whatever_pieces(pieces, scaling):
    model = fresh(rope_scaling=scaling, context=24)
    tokens = text(sum(pieces), rows=2)
    cache = KVCache(model, batch=2)
    parts = [model(part, cache) for part in tokens.split(pieces, dim=1)]
    assert cache.length == sum(pieces)
    assert torch.allclose(torch.cat(parts, dim=1), model(tokens), atol=1e-4)


def test_a_cache_takes_what_is_written():
    cache = KVCache(fresh(), batch=3, context=10)
    head_width = TINY["width"] // TINY["heads"]
    assert cache.keys.shape == cache.values.shape == (2, 3, TINY["kv_heads"], 10, head_width)


def test_a_full_cache_and_a_full_context_are_told():
    model = fresh()
    cache = KVCache(model, batch=1, context=5)
    model(text(4), cache)
    with pytest.raises(ValueError, match="got 6 tokens; allowed: 5, the room of this cache"):
        model(text(2), cache)
    with pytest.raises(ValueError, match="got 13 tokens; allowed: 12, the context"):
        model(text(13))
    longer = KVCache(model, batch=1, context=20)
    model(text(12), longer)
    with pytest.raises(ValueError, match="got 13 tokens; allowed: 12, the context"):
        model(text(1), longer)


# --- configs -------------------------------------------------------------------------------------


def test_the_parameters_are_counted_by_hand():
    width, hidden, kv = 16, 24, 8
    block = 2 * width + 2 * width * width + 2 * width * kv + 3 * width * hidden
    assert cost.parameters(fresh()) == 17 * width + 2 * block + width
    assert cost.parameters(fresh(tied=False)) == 2 * 17 * width + 2 * block + width


def test_a_checkpoint_comes_back_and_half_of_it_nearly(tmp_path):
    model, tokens = fresh(rope_scaling=LLAMA3), text()
    checkpoints.save(tmp_path / "whole", model)
    assert torch.equal(checkpoints.load(tmp_path / "whole")(tokens), model(tokens))
    path = checkpoints.save(tmp_path / "half", model, half=True, seed=3)
    again = checkpoints.load(tmp_path / "half")
    assert {value.dtype for value in checkpoints.tensors(path).values()} == {torch.float16}
    for name, weight in again.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, model.state_dict()[name].half().float())
    assert checkpoints.info(tmp_path / "half")["stored"] == "float16"
    assert again.config == json.loads(json.dumps(model.config))


def test_weights_too_large_for_float16_are_not_stored(tmp_path):
    model = fresh()
    with torch.no_grad():
        model.norm.weight[0] = 70_000.0
    with pytest.raises(ValueError, match=r"got NaN or infinity in \['norm.weight'\]"):
        checkpoints.save(tmp_path / "half", model, half=True)
    assert not list(tmp_path.iterdir())


BAD = [
    {"vocabulary": 0},
    {"vocabulary": 17.0},
    {"width": True},
    {"width": 20},  # 2 · heads does not divide it
    {"hidden": -1},
    {"layers": 1_000},
    {"heads": 3},
    {"kv_heads": 3},
    {"kv_heads": 8},
    {"context": 2**40},
    {"rope_base": 1},
    {"rope_base": math.nan},
    {"eps": 0.0},
    {"eps": "small"},
    {"tied": 1},
    {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
    {"rope_scaling": {"rope_type": ["linear"], "factor": 2.0}},
    {"rope_scaling": {"factor": 2.0}},
    {"rope_scaling": LINEAR | {"factor": 0}},
    {"rope_scaling": LINEAR | {"beta": 1}},
    {"rope_scaling": LLAMA3 | {"low_freq_factor": 4.0}},
]


@pytest.mark.parametrize("changes", BAD, ids=str)
def test_a_bad_config_is_refused(changes):
    with pytest.raises(ValueError, match=r"got .*; allowed"):
        models.build({"architecture": "llama", **TINY, **changes})


def test_a_config_with_strange_names_is_refused():
    with pytest.raises(ValueError, match="config does not fit 'llama'"):
        models.build({"architecture": "llama", **TINY, "bias": True})


# --- continuing a text ---------------------------------------------------------------------------


def test_greedy_is_the_likeliest_token_each_time():
    model, tokens = fresh(), text(4)[0]
    new = generate(model, tokens, 6)
    for i, token in enumerate(new.tolist()):
        so_far = torch.cat([tokens, new[:i]])
        assert int(model(so_far[None])[0, -1].argmax()) == token


def test_draws_follow_the_distribution_and_the_seed():
    model, tokens, heat = fresh(), text(5)[0], 1.5
    drawn = torch.cat([generate(model, tokens, 1, temperature=heat, seed=s) for s in range(2000)])
    expected = (model(tokens[None])[0, -1] / heat).softmax(0)
    share = torch.bincount(drawn, minlength=TINY["vocabulary"]) / 2000
    error = (expected * (1 - expected) / 2000).sqrt()
    assert ((share - expected).abs() <= 4 * error + 1e-3).all()
    one, two, other = (generate(model, tokens, 7, temperature=heat, seed=s) for s in (3, 3, 4))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_colder_is_nearer_to_greedy():
    model, tokens = fresh(), text(3)[0]
    best = generate(model, tokens, 1)
    hits = [
        sum(torch.equal(generate(model, tokens, 1, temperature=t, seed=s), best) for s in range(99))
        for t in (5.0, 1.0, 0.01)
    ]
    assert all(fewer <= more for fewer, more in pairwise(hits))
    assert hits[-1] == 99


def test_it_stops_where_it_is_told_and_where_the_context_is_full():
    model, tokens = fresh(), text(4)[0]
    assert len(generate(model, tokens, 6, stop=lambda new: len(new) == 3)) == 3
    assert len(generate(model, tokens, 100)) == TINY["context"] - 4
    assert len(generate(model, tokens, 0)) == 0


@pytest.mark.parametrize("count", [0, 12, 13])
def test_a_text_with_no_token_or_no_room_is_refused(count):
    with pytest.raises(ValueError, match=f"got a text of {count} tokens; allowed: 1 to 11"):
        generate(fresh(), text(count)[0], 1)


@pytest.mark.parametrize("temperature", [-0.1, math.inf, math.nan])
def test_a_temperature_out_of_range_is_refused(temperature):
    with pytest.raises(ValueError, match="got temperature"):
        generate(fresh(), text(3)[0], 1, temperature=temperature)
