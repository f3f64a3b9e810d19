"""Hugging Face's layout held against transformers, both ways, and refused where it lies."""

from __future__ import annotations

import json
import resource
import struct
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_models import CASES, PLAIN, TEXT, built, logits, prompt, tokens
from safetensors.torch import load_file, save_file

from codesign import llama_files, llama_weights

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def theirs(config: dict, kind: str = "Llama") -> transformers.PreTrainedModel:
    """A random model of transformers, made without any code of ours."""
    scaling = config["rope_scaling"] or {"rope_type": "default"}
    more = {"sliding_window": None} if kind == "Mistral" else {}
    named = getattr(transformers, f"{kind}Config")(
        vocab_size=config["vocabulary"],
        hidden_size=config["width"],
        intermediate_size=config["hidden"],
        num_hidden_layers=config["layers"],
        num_attention_heads=config["heads"],
        num_key_value_heads=config["kv_heads"],
        max_position_embeddings=config["context"],
        rms_norm_eps=config["eps"],
        tie_word_embeddings=config["tied"],
        rope_parameters={**scaling, "rope_theta": config["rope_base"]},
        initializer_range=0.1,
        **more,
    )
    torch.manual_seed(3)
    return getattr(transformers, f"{kind}ForCausalLM")(named).eval()


@pytest.fixture
def folder(tmp_path) -> Path:
    """A sound folder that the tests of refusals break."""
    return llama_files.save(tmp_path / "model", built(), tokens())


def change(path: Path, **values: object) -> None:
    whole = json.loads(path.read_text())
    path.write_text(json.dumps(whole | values))


# --- the same numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_what_transformers_saved_gives_the_same_logits(config, tmp_path):
    model = theirs(config)
    model.save_pretrained(tmp_path)
    loaded, nothing = llama_files.load(tmp_path)
    assert nothing is None
    assert loaded.config == config
    assert not loaded.training
    torch.testing.assert_close(logits(loaded), logits(model), rtol=0, atol=1e-4)


@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_what_we_saved_gives_transformers_the_same_logits(config, tmp_path):
    model = built(config)
    llama_files.save(tmp_path, model)
    loaded = transformers.LlamaForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits(loaded), logits(model), rtol=0, atol=1e-4)
    again, _ = llama_files.load(tmp_path)
    assert again.config == model.config
    assert all(map(torch.equal, again.state_dict().values(), model.state_dict().values()))


def test_mistral_without_a_window_is_the_same_network(tmp_path):
    model = theirs(PLAIN, "Mistral")
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(
        logits(llama_files.load(tmp_path)[0]), logits(model), rtol=0, atol=1e-4
    )


def test_parts_with_an_index(tmp_path):
    model = theirs(CASES["untied"])
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    assert len([*tmp_path.glob("*.safetensors")]) > 2
    loaded, _ = llama_files.load(str(tmp_path))
    torch.testing.assert_close(logits(loaded), logits(model), rtol=0, atol=1e-4)


@pytest.mark.parametrize("scaling", [{"type": "linear", "factor": 2.0}, None])
def test_the_layout_of_transformers_4(scaling, folder):
    whole = json.loads((folder / "config.json").read_text())
    for newer in ("rope_parameters", "head_dim", "num_key_value_heads", "attention_bias"):
        del whole[newer]
    whole |= {"rope_theta": 5_000.0, "rope_scaling": scaling, "num_attention_heads": 2}
    (folder / "config.json").write_text(json.dumps({**whole, "num_key_value_heads": 1}))
    ours, other = llama_files.load(folder)[0], transformers.LlamaForCausalLM.from_pretrained(folder)
    assert ours.config["rope_base"] == 5_000.0
    torch.testing.assert_close(logits(ours), logits(other.eval()), rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_floats_become_float32(dtype, folder):
    weights = {
        name: value.to(dtype) for name, value in load_file(folder / "model.safetensors").items()
    }
    save_file(weights, folder / "model.safetensors")
    loaded, _ = llama_files.load(folder)
    for name, value in loaded.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, weights[f"model.{name}"].float())


def test_a_tied_head_that_is_stored_again_is_the_embedding(folder):
    path = folder / "model.safetensors"
    weights = load_file(path)
    head = weights["model.embed_tokens.weight"].clone()
    inverse = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}  # as old files have
    save_file(weights | {"lm_head.weight": head} | inverse, path)
    assert torch.equal(llama_files.load(folder)[0].head, head)
    save_file(weights | {"lm_head.weight": head + 1}, path)
    with pytest.raises(ValueError, match="tied head unlike the embedding; allowed: the same"):
        llama_files.load(folder)


def test_the_tokenizer_survives(folder):
    _, loaded = llama_files.load(folder)
    assert torch.equal(loaded.encode(TEXT), tokens().encode(TEXT))
    assert loaded.decode(loaded.encode(TEXT)) == TEXT
    other = transformers.AutoTokenizer.from_pretrained(folder)
    assert other.encode(TEXT, add_special_tokens=False) == tokens().encode(TEXT).tolist()
    assert other.eos_token_id == tokens().start
    general = transformers.LlamaForCausalLM.from_pretrained(folder).config
    assert general.eos_token_id == general.bos_token_id == tokens().start


def test_a_text_longer_than_the_context_is_refused(folder):
    with pytest.raises(ValueError, match="got 65 tokens; allowed: 64, the context"):
        llama_files.load(folder)[0](prompt(65))


# --- what is refused -----------------------------------------------------------------------------

CONFIGS = [
    ({"model_type": "qwen2"}, "got model_type 'qwen2'; allowed: .*llama"),
    ({"attention_bias": True}, "got attention_bias True; allowed"),
    ({"mlp_bias": True}, "got mlp_bias True; allowed"),
    ({"hidden_act": "gelu"}, "got hidden_act 'gelu'; allowed: .*silu"),
    ({"head_dim": 32}, "got head_dim 32; allowed: 16, width / heads"),
    ({"sliding_window": 16}, "got sliding_window 16; allowed"),
    ({"quantization_config": {"bits": 4}}, "got quantization_config .*; allowed"),
    ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "got RoPE 'yarn'.*; allowed"),
    ({"rope_parameters": {"rope_type": "linear"}}, "got RoPE .*None.*; allowed: a number"),
    ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "over 0.5 of a head; allowed"),
    ({"rope_parameters": [1]}, "got RoPE parameters .*; allowed: a JSON object"),
    ({"vocab_size": 321}, r"'embed_tokens.weight': got \(320, 64\); allowed: \(321, 64\)"),
    ({"vocab_size": 290}, "got token 299 of the tokenizer; allowed: 0 to 289"),
    ({"num_hidden_layers": 3}, "9 tensors, first 'layers.2.*got nothing; allowed"),
    ({"num_hidden_layers": 1}, "9 tensors, first 'layers.1.*allowed: nothing"),
    ({"num_key_value_heads": 4}, "k_proj.*got .32, 64.; allowed: .64, 64."),
    ({"num_hidden_layers": "2"}, "got num_hidden_layers '2'; allowed: int"),
    ({"hidden_size": None}, "got hidden_size None; allowed: int"),
    ({"num_attention_heads": 0, "head_dim": None}, "heads=0; allowed"),
    ({"tie_word_embeddings": False}, "'lm_head.weight': got nothing; allowed"),
    ({"num_hidden_layers": 10**9}, "layers.*allowed: integers from 1 to"),
]


@pytest.mark.parametrize(("values", "says"), CONFIGS, ids=str)
def test_a_config_that_is_no_llama_or_does_not_fit(values, says, folder):
    change(folder / "config.json", **values)
    with pytest.raises(ValueError, match=says):
        llama_files.load(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, "\xff", '{"model_type": 1}'])
def test_a_config_that_is_none(text, folder):
    (folder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"not JSON|allowed: .*llama"):
        llama_files.load(folder)


WEIGHTS = [
    (
        lambda w: w | {"model.layers.0.self_attn.q_proj.bias": torch.ones(64)},
        "q_proj.bias.*nothing",
    ),
    (lambda w: w | {"norm.weight": torch.ones(64)}, r"\(norm.weight\).*allowed: nothing"),
    (lambda w: w | {"model.norm.weight": torch.ones(63)}, r"got \(63,\); allowed: \(64,\)"),
    (lambda w: w | {"model.norm.weight": torch.full((64,), torch.nan)}, "NaN or infinity in 'norm"),
    (lambda w: w | {"model.norm.weight": torch.ones(64, dtype=torch.int8)}, "weights of .'I8'"),
    (lambda w: {k: v for k, v in w.items() if "norm" not in k}, "5 tensors.*got nothing"),
]


@pytest.mark.parametrize(("broken", "says"), WEIGHTS)
def test_weights_that_do_not_fit(broken, says, folder):
    path = folder / "model.safetensors"
    save_file(broken(load_file(path)), path)
    with pytest.raises(ValueError, match=says):
        llama_files.load(folder)


def test_a_config_that_asks_for_more_than_there_is_allocates_nothing(folder, monkeypatch):
    """A terabyte by its config; and one byte more than is free."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    change(folder / "config.json", hidden_size=16_384, intermediate_size=65_536, head_dim=4096)
    with pytest.raises(ValueError, match="weights do not fit the config"):
        llama_files.load(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB

    class Memory:
        available = 4 * sum(weight.numel() for weight in built().parameters()) - 1

    change(folder / "config.json", hidden_size=64, intermediate_size=96, head_dim=16)
    llama_files.load(folder)
    monkeypatch.setattr(llama_weights.psutil, "virtual_memory", Memory)
    with pytest.raises(ValueError, match=r"GB; allowed: .* GB, what is free"):
        llama_files.load(folder)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_truncated_or_lying_safetensors(tmp_path_factory, data):
    """Cut anywhere; or other offsets, shapes and types in the header."""
    folder = llama_files.save(tmp_path_factory.mktemp("lies"), built())
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    if data.draw(st.booleans()):
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    else:
        header = json.loads(whole[8 : 8 + length])
        name = data.draw(st.sampled_from(sorted(header.keys() - {"__metadata__"})))
        number = data.draw(st.sampled_from([0, 1, 2**31, 2**63, -1]))
        key = data.draw(st.sampled_from(["data_offsets", "shape"]))
        at = data.draw(st.integers(0, len(header[name][key]) - 1))
        if header[name][key][at] == number:
            return
        header[name][key][at] = number
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])
    with pytest.raises(ValueError, match=r"damaged|do not fit"):
        llama_files.load(folder)


# --- the index -----------------------------------------------------------------------------------

LIES = [
    (lambda w: {"weight_map": None}, "allowed: tensors with files"),
    (lambda w: [], "allowed: tensors with files"),
    (lambda w: {"weight_map": w | {"model.norm.weight": "../model-1.safetensors"}}, "tensors with"),
    (lambda w: {"weight_map": w | {"model.norm.weight": 3}}, "allowed: tensors with files"),
    (
        lambda w: {"weight_map": {**w, "model.more": w["model.norm.weight"]}},
        "for 'model.more'; allowed",
    ),
    (lambda w: {"weight_map": {k: w[k] for k in w if "norm" not in k}}, "got None for .*norm"),
]


@pytest.mark.parametrize(("lie", "says"), LIES)
def test_an_index_that_lies(lie, says, tmp_path):
    theirs(PLAIN).save_pretrained(tmp_path, max_shard_size="60KB")
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps(lie(json.loads(path.read_text())["weight_map"])))
    with pytest.raises(ValueError, match=says):
        llama_files.load(tmp_path)


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config.json in"):
        llama_files.load(tmp_path / "nowhere")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no model.safetensors in .*; allowed"):
        llama_files.load(folder)


def test_a_save_that_is_refused_writes_nothing(tmp_path):
    broken, small = built(), built({**PLAIN, "vocabulary": 290})
    broken.norm.weight.data[3] = torch.inf
    with pytest.raises(ValueError, match=r"NaN or infinity in \['model.norm.weight'\]"):
        llama_files.save(tmp_path / "new", broken)
    with pytest.raises(ValueError, match="got token 299 of the tokenizer; allowed: 0 to 289"):
        llama_files.save(tmp_path / "new", small, tokens())
    assert not (tmp_path / "new").exists()
