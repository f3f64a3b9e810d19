"""GGUF held against llama.cpp and the format's definition, both ways, and refused where it lies."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_models import CASES, LLAMA_3, PLAIN, TEXT, built, logits, prompt, tokens

from codesign import gguf_config, gguf_files, gguf_header, llama_files
from codesign.models.llama import Llama

LETTER = tokens().encode("a").item()


@pytest.fixture
def file(tmp_path) -> Path:
    """A sound file that the tests of refusals break."""
    return gguf_files.save(tmp_path / "model.gguf", built(), tokens(), "F32")


def same(one: Llama, other: Llama) -> bool:
    return all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


# --- beside llama.cpp ----------------------------------------------------------------------------


def difference(path: Path, model: Llama, length: int = 40) -> float:
    """The largest difference of llama.cpp's 20 top log-probabilities from the model's."""
    with llama_cpp.running(path) as other:
        found = other.top(prompt(length)[0].tolist(), LETTER)
    expected = logits(model, prompt(length))[0, -1].log_softmax(-1)
    assert len(found) == 20
    return max(abs(value - expected[token].item()) for token, value in found.items())


@llama_cpp.needed
@pytest.mark.parametrize("kind", ["F32", "F16"])
@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_llama_cpp_computes_the_same(config, kind, tmp_path):
    model = built(config)
    path = gguf_files.save(tmp_path / "model.gguf", model, tokens(), kind)
    assert difference(path, model) < 0.02


@llama_cpp.needed
@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_llama_cpp_computes_with_the_weights_that_we_read_back(kind, tmp_path):
    """Exactly as floats; nearly as blocks, whose products round activations to eight bits, too."""
    path = gguf_files.save(tmp_path / "model.gguf", built(), tokens(), kind)
    model, _ = gguf_files.load(path)
    assert difference(gguf_files.save(tmp_path / "f.gguf", model, tokens(), "F32"), model) < 0.02
    assert difference(path, model) < 0.1
    assert difference(path, built()) > difference(path, model)


@llama_cpp.needed
def test_llama_cpp_encodes_the_same(file):
    with llama_cpp.running(file) as other:
        for text in (TEXT, "a  5", "\n\n7", "<|endoftext|>", "x\u00a0y \u3000 z\r\n\r\n  q", "   "):
            assert other.encode(text) == tokens().encode(text).tolist(), text


# --- the format ----------------------------------------------------------------------------------


def blocks(kind: str, raw: np.ndarray) -> np.ndarray:
    """Weights of blocks by ggml's definition of each format, one number after the other."""
    sizes = {"Q8_0": 34, "Q4_0": 18, "Q4_1": 20}
    found = []
    for block in raw.reshape(-1, sizes[kind]):
        scale, least = np.frombuffer(block[:4].tobytes(), np.float16).astype(np.float32)
        if kind == "Q8_0":
            found += [scale * number for number in block[2:].view(np.int8).astype(np.float32)]
            continue
        packed = block[4:] if kind == "Q4_1" else block[2:]
        codes = [byte & 15 for byte in packed] + [byte >> 4 for byte in packed]
        zero = least if kind == "Q4_1" else -8 * scale
        found += [scale * np.float32(code) + zero for code in codes]
    return np.array(found, np.float32)


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_0", "Q4_1"])
def test_every_kind_comes_in_as_defined(kind, tmp_path):
    """A file that the `gguf` library wrote; the norms are F32 as everywhere."""
    model, path = built(), tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    gguf_config.write(writer, model.config)
    number, expected = gguf.GGMLQuantizationType[kind], {}
    for name, weight in model.state_dict().items():
        row = weight.numpy() if weight.ndim == 2 else None
        if row is None:
            writer.add_tensor(gguf_files._theirs(name), weight.numpy())
            expected[name] = weight
            continue
        raw = gguf.quants.quantize(row, number)
        writer.add_tensor(gguf_files._theirs(name), raw, raw_dtype=number)
        numbers = raw.astype(np.float32) if kind[0] == "F" else blocks(kind, raw)
        expected[name] = torch.from_numpy(numbers.reshape(row.shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    loaded, nothing = gguf_files.load(path)
    assert nothing is None
    for name, weight in loaded.state_dict().items():
        heads = {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2])
        order = range(len(weight))
        if heads:  # row 2i of a head goes to i, row 2i + 1 to i + 8
            order = [16 * (r // 16) + 8 * (r % 2) + r % 16 // 2 for r in order]
        torch.testing.assert_close(weight[list(order)], expected[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", gguf_files.FORMATS)
def test_sizes_and_kinds_of_what_goes_out(kind, tmp_path):
    model = built(CASES["untied"])
    path = gguf_files.save(tmp_path / "model.gguf", model, tokens(), kind)
    assert [each.name for each in tmp_path.iterdir()] == ["model.gguf"]
    header = gguf_header.read(path)
    for name, tensor in header.tensors.items():
        ends = "norm" in name, name in ("token_embd.weight", "output.weight") and kind == "Q4_0"
        assert tensor.kind == ("F32" if ends[0] else "Q8_0" if ends[1] else kind)
    reader = gguf.GGUFReader(path)  # what others read
    assert {t.name: t.tensor_type.name for t in reader.tensors} == {
        name: tensor.kind for name, tensor in header.tensors.items()
    }
    assert sum(t.n_elements for t in reader.tensors) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_a_model_and_its_tokenizer_survive(config, tmp_path):
    model = built(config)
    path = gguf_files.save(tmp_path / "model.gguf", model, tokens(), "F32")
    loaded, tokenizer = llama_files.load(path)
    assert loaded.config == model.config
    assert same(loaded, model)
    assert torch.equal(tokenizer.encode(TEXT), tokens().encode(TEXT))
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    assert tokenizer.start == tokens().start
    halves = gguf_files.save(tmp_path / "again.gguf", loaded, tokenizer, "F16")
    torch.testing.assert_close(
        gguf_files.load(halves)[0].state_dict(), dict(model.state_dict()), rtol=1e-3, atol=1e-6
    )


def test_frequencies_of_llama_3_from_others_files(file, monkeypatch):
    """They carry divisors alone: Llama 3.1's and 3.2's are known, others refused."""
    published = {**LLAMA_3, "original_max_position_embeddings": 8192}
    for factor, base in ((8.0, 500_000.0), (32.0, 500_000.0), (9.0, 500_000.0)):
        scaling = {**published, "factor": factor}
        model = built({**PLAIN, "rope_base": base, "rope_scaling": scaling})
        with monkeypatch.context() as without:
            without.setattr(gguf_config, "OWN_SCALING", "general.description")
            gguf_files.save(file, model, kind="F32")
        if factor == 9.0:
            with pytest.raises(ValueError, match=r"rope_freqs.*allowed: those of Llama 3\.1 or"):
                gguf_files.load(file)
        else:
            assert gguf_files.load(file)[0].config == model.config


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3))
def test_rows_of_neighbours_and_of_halves(heads, pairs, columns):
    """Back and forth is nothing; the first half of a head comes from its even rows."""
    weight = torch.arange(heads * 2 * pairs * columns).reshape(heads * 2 * pairs, columns)
    moved = gguf_files.halves(weight, heads)
    assert torch.equal(gguf_files.neighbours(moved, heads), weight)
    assert torch.equal(moved[:pairs], weight[: 2 * pairs : 2])


# --- what is refused -----------------------------------------------------------------------------


def test_what_cannot_go_out_leaves_nothing(tmp_path):
    path, narrow, large = tmp_path / "m.gguf", built({**PLAIN, "width": 24}), built()
    large.norm.weight.data[0] = torch.nan
    huge = built()
    huge.embed_tokens.weight.data[3, 4] = 70_000.0
    for model, kind, says in [
        (built(), "Q5_K", r"got kind 'Q5_K'; allowed: \['F32', 'F16', 'Q8_0', 'Q4_0'\]"),
        (narrow, "Q8_0", "got rows of 24 in 'embed_tokens.weight'; allowed: multiples of 32"),
        (large, "F32", "got nan in 'norm.weight'; allowed"),
        (huge, "F16", "got 70000.0 in 'embed_tokens.weight'; allowed: up to 65504"),
    ]:
        with pytest.raises(ValueError, match=says):
            gguf_files.save(path, model, tokens(), kind)
    with pytest.raises(ValueError, match="got token 299; allowed: 0 to 289"):
        gguf_files.save(path, built({**PLAIN, "vocabulary": 290}), tokens())
    assert not [*tmp_path.iterdir()]
    gguf_files.save(path, narrow, tokens(), "F16")
    assert same(gguf_files.load(gguf_files.save(path, huge, kind="F32"))[0], huge)


def changed(path: Path, key: str, value: object, kind: gguf.GGUFValueType | None = None) -> Path:
    """The file with one key of other content, written by the `gguf` library; None: without it."""
    reader, other = gguf.GGUFReader(path), path.with_name("changed.gguf")
    writer = gguf.GGUFWriter(other, "llama")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in (key, "general.architecture"):
            sub_type = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type)
    if key == "general.architecture":
        writer.kv_data[0].pop(key)
    if value is not None:
        field = reader.fields.get(key)
        types = field.types if field and not kind else [kind, gguf.GGUFValueType.STRING]
        writer.add_key_value(key, value, types[0], types[1] if len(types) > 1 else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return other


U32, F32, STR = gguf.GGUFValueType.UINT32, gguf.GGUFValueType.FLOAT32, gguf.GGUFValueType.STRING
METADATA = [
    ("general.architecture", "qwen2", None, "got architecture 'qwen2'; allowed: 'llama'"),
    ("llama.block_count", None, None, "got None for llama.block_count; allowed: one whole"),
    ("llama.block_count", 3, None, "9 tensors, first 'layers.2.*got nothing"),
    ("llama.block_count", 2**31, None, "layers=2147483648; allowed: integers from 1"),
    ("llama.block_count", 2.0, F32, "got 2.0 for llama.block_count; allowed: one whole"),
    ("llama.vocab_size", 400, None, "got 320 tokens, .*; allowed: 400"),
    ("llama.attention.head_count", 0, None, "allowed"),
    ("llama.attention.head_count", 8, None, r"got .*16.*; allowed: heads of 8"),
    ("llama.attention.head_count_kv", 4, None, r"k_proj.*got \(32, 64\); allowed: \(64, 64\)"),
    ("llama.attention.key_length", 32, U32, "got .*32.*; allowed: heads of 16"),
    ("llama.expert_count", 8, U32, "8 experts; allowed: .*no experts"),
    ("llama.rope.scaling.type", "yarn", STR, "got RoPE scaling 'yarn'; allowed: 'linear'"),
    ("llama.attention.layer_norm_rms_epsilon", None, None, "got None for llama.att.*epsilon"),
    ("tokenizer.ggml.model", "llama", None, "got tokenizer 'llama', 'gpt-2'; allowed: 'gpt2'"),
    ("tokenizer.ggml.pre", "qwen2", None, r"got tokenizer 'gpt2', 'qwen2'; allowed: .*smollm"),
    ("tokenizer.ggml.tokens", ["a"], None, "got 1 tokens, 1 different.*; allowed: 320"),
    ("tokenizer.ggml.tokens", ["a"] * 320, None, "got 320 tokens, 1 different.*; allowed: 320"),
    ("tokenizer.ggml.tokens", 5, U32, "no texts; allowed: lists of texts"),
    ("tokenizer.ggml.merges", ["a"], None, "got merge 'a'; allowed: two tokens"),
    ("tokenizer.ggml.merges", ["a nowhere"], None, "merges that do not fit the tokens"),
    ("tokenizer.ggml.bos_token_id", 999, None, "got first token 999; allowed: one of 300"),
]


@pytest.mark.parametrize(("key", "value", "kind", "says"), METADATA)
def test_metadata_that_does_not_fit(key, value, kind, says, file):
    if key.endswith("bos_token_id"):
        file = changed(file, "tokenizer.ggml.add_bos_token", True).rename(file)
    with pytest.raises(ValueError, match=says):
        gguf_files.load(changed(file, key, value, kind))


def test_a_first_token_before_every_text(file):
    _, loaded = gguf_files.load(changed(file, "tokenizer.ggml.add_bos_token", True))
    assert loaded.inner.encode("a").ids == [tokens().start, LETTER]
    again = gguf_files.load(gguf_files.save(file, built(), loaded))[1]
    assert again.inner.encode("a").ids == [tokens().start, LETTER]


def test_a_tensor_that_no_llama_has(file):
    data = file.read_bytes().replace(b"blk.0.attn_norm.weight", b"blk.0.attn_norm.biased")
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"'\(blk.0.attn_norm.biased\)': got .64,.; allowed: noth"):
        gguf_files.load(file)


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_truncated_anywhere(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("cut") / "m.gguf"
    whole = gguf_files.save(path, built(), tokens(), "Q8_0").read_bytes()
    end = data.draw(st.one_of(st.integers(0, len(whole) - 1), st.integers(0, 9000)))
    path.write_bytes(whole[:end])
    with pytest.raises(ValueError, match=r"allowed|ends within its header"):
        gguf_files.load(path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_eight_bytes_of_the_header_may_lie(tmp_path_factory, data):
    """Counts, lengths, offsets and shapes: refused, or of no consequence; never slow or large."""
    path = tmp_path_factory.mktemp("lies") / "m.gguf"
    whole = bytearray(gguf_files.save(path, built(), tokens(), "Q8_0").read_bytes())
    first = min(tensor.start for tensor in gguf_header.read(path).tensors.values())
    at = data.draw(st.one_of(st.integers(0, 200), st.integers(0, first - 8)))
    number = data.draw(st.sampled_from([0, 1, 2**31, 2**60, 2**64 - 1, 2**32 + 1]))
    whole[at : at + 8] = struct.pack("<Q", number)
    path.write_bytes(whole)
    try:
        loaded, _ = gguf_files.load(path)
    except ValueError:
        return
    assert loaded.config["width"] == 64


def test_tensors_may_not_share_bytes_or_leave_the_file(file):
    """The second tensor's offset, as the format has it: behind its name, shape and type."""
    whole = file.read_bytes()
    name = b"blk.0.attn_q.weight"
    at = whole.index(name) + len(name) + 4 + 2 * 8 + 4
    (offset,) = struct.unpack_from("<Q", whole, at)
    for number in (0, offset - 32, offset + 32, offset + 1, 2**62):
        file.write_bytes(whole[:at] + struct.pack("<Q", number) + whole[at + 8 :])
        with pytest.raises(ValueError, match=r"got '.*' at bytes \d+ to \d+; allowed: \d+ to"):
            gguf_files.load(file)


def test_what_is_no_gguf(tmp_path):
    path = tmp_path / "model.gguf"
    with pytest.raises(FileNotFoundError):
        gguf_files.load(path)
    for content in (b"", b"GGUF", b"GGUF" + bytes(40), b"GGML" + bytes(100), b"GGUF\0\0\0\3" * 9):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="allowed: "):
            gguf_files.load(path)
