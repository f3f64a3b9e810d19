"""Training: seeded, resumable to the bit, and refusing what it cannot continue."""

from __future__ import annotations

import ctypes
import json
import resource

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from typer.testing import CliRunner

from codesign import checkpoints, cost, datasets, models, training

CONFIG = {"architecture": "vgg", "channels": [4, "M", 6, "M", 6]}


def images(count: int = 40, name: str = "glyphs") -> datasets.ImageSet:
    generator = torch.Generator().manual_seed(1)
    shape = (count, *datasets.SHAPE)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.arange(count) % 10
    card = datasets.DatasetCard(name, "train", tuple("abcdefghij"), "made here", "a test")
    return datasets.ImageSet(pixels, labels, card)


def fresh(config: dict = CONFIG, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return models.build(config)


def fit(model: nn.Module, data: datasets.ImageSet | None = None, **changes) -> training.History:
    settings = {"epochs": 3, "batch_size": 16, "crop": 2} | changes
    return training.fit(model, data or images(), **settings)


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def cut_at(step: int):
    """An ``after_step`` that ends the run like a killed kernel, and counts."""
    calls = [0]

    def after_step(_: nn.Module) -> None:
        calls[0] += 1
        if calls[0] == step:
            raise KeyboardInterrupt

    return after_step


# --- determinism ---------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_weights():
    one, two, other = fresh(), fresh(), fresh()
    assert fit(one, val=images(10)) == fit(two, val=images(10))
    fit(other, seed=1)
    assert equal(state(one), state(two))
    assert not equal(state(one), state(other))


def test_the_global_random_state_is_neither_used_nor_changed():
    one, two = fresh(), fresh()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit(one)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    fit(two)
    assert equal(state(one), state(two))


def test_training_learns_and_leaves_evaluation_mode():
    model, data = fresh({"architecture": "resnet8", "widths": [8, 8, 8]}), images()
    history = fit(model, data, epochs=25, lr=0.1, crop=0)
    assert len(history.loss) == 25
    assert history.loss[-1] < 0.5 * history.loss[0]
    assert training.evaluate(model, data) > 0.5
    assert not model.training


# --- resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 4, 8], ids=["first epoch", "second epoch", "last epoch"])
@pytest.mark.parametrize(
    "config", [CONFIG, {"architecture": "resnet8", "widths": [8, 8, 8]}], ids=["vgg", "resnet8"]
)
def test_a_run_that_was_cut_ends_like_one_that_was_not(tmp_path, config, step):
    whole, val = fresh(config), images(10)
    expected = fit(whole, val=val, small_epochs=1)
    cut, stem = fresh(config), tmp_path / "deep/run"
    with pytest.raises(KeyboardInterrupt):
        fit(cut, val=val, small_epochs=1, resume=stem, after_step=cut_at(step))
    restarted = fresh(config)
    history = fit(restarted, val=val, small_epochs=1, resume=stem)
    assert history == expected
    assert equal(state(restarted), state(whole))


def test_only_unfinished_epochs_are_run_again(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(fresh(), resume=tmp_path / "run", after_step=cut_at(8))
    steps: list[int] = []
    fit(fresh(), resume=tmp_path / "run", after_step=lambda _: steps.append(1))
    assert len(steps) == 3, "two epochs of three steps were stored"


@pytest.mark.parametrize(("epochs", "total"), [(3, 9), (2.67, 8)])
@pytest.mark.parametrize("step", [2, 3, 4, 6, 8])
def test_a_run_that_was_cut_within_an_epoch_goes_on_there(
    tmp_path, monkeypatch, step, epochs, total
):
    whole, val, stem = fresh(), images(10), tmp_path / "run"
    expected = fit(whole, val=val, epochs=epochs)
    monkeypatch.setattr(training, "STORE_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        fit(fresh(), val=val, epochs=epochs, resume=stem, after_step=cut_at(step))
    restarted, steps = fresh(seed=9), []
    history = fit(restarted, val=val, epochs=epochs, resume=stem, after_step=steps.append)
    assert history == expected
    assert equal(state(restarted), state(whole))
    assert len(steps) == total - (step - 1)


@pytest.mark.parametrize(
    ("every_s", "expected"), [(10.0, [3, 5, 8, 10]), (0.0, list(range(1, 11)))]
)
def test_the_state_is_stored_now_and_then_and_once_after_an_epoch(
    tmp_path, monkeypatch, every_s, expected
):
    """By a clock that ticks four seconds a step, in two epochs of five: ten seconds are three."""
    now, stored = [0.0], []
    monkeypatch.setattr(training, "STORE_S", every_s)
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(
        training, "save_state", lambda stem, settings, step, *_, **__: stored.append(step)
    )

    def tick(_: nn.Module) -> None:
        now[0] += 4

    fit(fresh(), images(20), epochs=2, batch_size=4, resume=tmp_path / "run", after_step=tick)
    assert stored == expected


def test_a_finished_run_is_taken_up_without_a_step(tmp_path):
    model, again = fresh(), fresh(seed=9)
    history = fit(model, resume=tmp_path / "run")
    assert fit(again, resume=tmp_path / "run", after_step=cut_at(1)) == history
    assert equal(state(model), state(again))


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 4},
        {"lr": 0.01},
        {"batch_size": 8},
        {"weight_decay": 0},
        {"seed": 1},
        {"crop": 1},
        {"flip": True},
        {"small_epochs": 1},
        {"data": images(30)},
        {"data": images(name="cifar10"), "flip": False},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_run_with_other_settings_is_refused(tmp_path, change):
    fit(fresh(), resume=tmp_path / "run")
    model = fresh()
    before = state(model)
    with pytest.raises(ValueError, match=r"run\.state belongs to a run with .* delete the file"):
        fit(model, resume=tmp_path / "run", **change)
    assert equal(state(model), before)


def test_the_state_of_another_network_is_refused(tmp_path):
    fit(fresh(), resume=tmp_path / "run")
    with pytest.raises(ValueError, match=r"run\.state belongs to another network"):
        fit(fresh({"architecture": "vgg", "channels": [5]}), resume=tmp_path / "run")


def test_a_damaged_state_is_named(tmp_path):
    training.state_file(tmp_path / "run").write_bytes(b"not a state")
    with pytest.raises(ValueError, match=r"run\.state is not a safetensors file"):
        fit(fresh(), resume=tmp_path / "run")


def test_stems_with_a_dot_keep_their_own_state(tmp_path):
    fit(fresh(), resume=tmp_path / "sparse-0.8")
    steps: list[int] = []
    fit(fresh(), resume=tmp_path / "sparse-0.9", after_step=lambda _: steps.append(1))
    assert len(steps) == 9
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sparse-0.8.state", "sparse-0.9.state"]


# --- devices -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "available", "expected"),
    [
        (None, False, "cpu"),
        (None, True, "cuda"),
        ("cpu", True, "cpu"),
        (torch.device("cpu"), True, "cpu"),
        ("cuda:1", False, "cuda:1"),
    ],
)
def test_training_takes_the_device_that_is_asked_for_or_there(
    monkeypatch, device, available, expected
):
    """CUDA itself is not run: the model is told to go there, and stops the test."""
    gone: list[torch.device] = []
    plain = nn.Module.to

    def to(model, *args, **options):
        if args and isinstance(args[0], torch.device):
            gone.append(args[0])
            if args[0].type == "cuda":
                raise InterruptedError
        return plain(model, *args, **options)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(nn.Module, "to", to)
    try:
        fit(fresh(), device=device, epochs=1)
    except InterruptedError:
        assert expected != "cpu"
    assert set(gone) == {torch.device(expected)}


def test_the_model_and_what_measures_it_are_on_the_cpu(monkeypatch):
    """On a device that is none: the network only notes where it was told to go."""
    seen: dict[str, set[str]] = {"loss": set(), "after_step": set(), "evaluate": set()}

    class Fake(nn.Module):
        """A network that goes nowhere, and says where it ought to be."""

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.place = fresh(), "cpu"

        def to(self, *args, **options):
            self.place = args[0].type if args else self.place
            return self

        def cpu(self):
            self.place = "cpu"
            return self

        def forward(self, x):
            return self.inner(x)

    def loss(model, x, y):
        seen["loss"].add(model.place)
        return training.cross_entropy(model, x, y)

    def evaluate(model, data):
        seen["evaluate"].add(model.place)
        return 0.0

    def stop(model, x, y):
        raise RuntimeError

    monkeypatch.setattr(training, "evaluate", evaluate)
    monkeypatch.setattr(torch.Tensor, "to", lambda x, *_, **__: x)
    monkeypatch.setattr(training, "normalize", lambda x: x.float())
    model = Fake()
    after_step = lambda model: seen["after_step"].add(model.place)  # noqa: E731
    fit(model, device="cuda", loss=loss, val=images(10), after_step=after_step)
    assert seen == {"loss": {"cuda"}, "after_step": {"cpu"}, "evaluate": {"cpu"}}
    assert model.place == "cpu"
    with pytest.raises(RuntimeError):
        fit(model, device="cuda", loss=stop)
    assert model.place == "cpu"


def test_teachers_are_copied_to_the_device_of_the_images_once():
    teacher, moved = fresh(seed=1).eval(), []
    plain = nn.Module.to
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            nn.Module, "to", lambda model, place: moved.append(place) or plain(model, place)
        )
        loss = training.distillation([teacher])
        x, y = torch.zeros(2, 3, 32, 32, device="meta"), torch.zeros(2, dtype=torch.long)
        student = fresh().eval().to("meta")
        del moved[:]
        for _ in range(2):
            assert loss(student, x, y.to("meta")).device.type == "meta"
    assert moved == [torch.device("meta")]
    assert next(teacher.parameters()).device.type == "cpu"


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epochs", "steps", "losses"), [(1, 3, 1), (2, 6, 2), (1.34, 4, 2), (0.3, 1, 1), (1e-9, 1, 1)]
)
def test_a_fraction_of_an_epoch_is_that_share_of_its_steps(epochs, steps, losses):
    seen: list[int] = []
    history = fit(fresh(), epochs=epochs, after_step=lambda _: seen.append(1))
    assert len(seen) == steps
    assert len(history.loss) == losses


def test_every_epoch_sees_every_image_once():
    seen: list[int] = []

    def loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        seen.extend(y.tolist())
        return training.cross_entropy(model, x, y)

    data = images(20)
    numbered = datasets.ImageSet(data.images, torch.arange(20), data.card)
    fit(fresh(CONFIG | {"num_classes": 20}), numbered, epochs=2, batch_size=7, loss=loss)
    assert sorted(seen[:20]) == sorted(seen[20:]) == list(range(20))
    assert seen[:20] != seen[20:]


def test_masks_applied_after_each_step_hold():
    model = fresh()
    weight = model.features.conv1.weight
    mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.5

    @torch.no_grad()
    def apply(_: nn.Module) -> None:
        weight.mul_(mask)

    fit(model, after_step=apply)
    assert cost.nonzeros(weight[~mask]) == 0
    assert cost.nonzeros(weight[mask]) == int(mask.sum())


@pytest.mark.parametrize(
    ("name", "flip", "expected"),
    [
        ("cifar10", None, True),
        ("glyphs", None, False),
        ("glyphs", True, True),
        ("cifar10", False, False),
    ],
)
def test_only_images_whose_mirror_is_of_their_class_are_mirrored(monkeypatch, name, flip, expected):
    seen: set[bool] = set()
    plain = training.augment

    def augment(x: torch.Tensor, generator: torch.Generator, crop: int, mirrored: bool):
        seen.add(mirrored)
        return plain(x, generator, crop, mirrored)

    monkeypatch.setattr(training, "augment", augment)
    fit(fresh(), images(name=name), epochs=1, flip=flip)
    assert seen == {expected}


def test_small_epochs_come_first_and_are_24_pixels_wide():
    sides: list[int] = []

    def loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        sides.append(x.shape[-1])
        return training.cross_entropy(model, x, y)

    fit(fresh(), small_epochs=2, loss=loss)
    assert sides == [24] * 6 + [32] * 3


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, value):
    calls = [0]

    def loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return training.cross_entropy(model, x, y) * (value if calls[0] == 5 else 1)

    model = fresh()
    with pytest.raises(FloatingPointError, match=r"at step 4; lower lr=0\.05"):
        fit(model, loss=loss, resume=tmp_path / "run")
    assert all(torch.isfinite(v).all() for v in model.state_dict().values())
    assert training.state_file(tmp_path / "run").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"epochs": -1},
        {"epochs": float("nan")},
        {"epochs": float("inf")},
        {"batch_size": 0},
        {"crop": -1},
        {"crop": 32},
        {"data": images(1)},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match="allowed: "):
        fit(fresh(), **change)


# --- parts ---------------------------------------------------------------------------------------


@given(st.floats(0, 1))
def test_the_schedule_rises_to_its_peak_and_falls(progress):
    share = training.one_cycle(progress)
    assert 0 <= share <= 1
    nearer = progress + (0.15 - progress) / 2
    assert training.one_cycle(nearer) >= share


def test_the_schedule_at_known_points():
    values = [training.one_cycle(p) for p in (0, 0.075, 0.15, 0.575, 1)]
    assert values == pytest.approx([0, 0.5, 1, 0.5, 0])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 5), st.booleans(), st.integers(0, 2**30))
def test_augmented_images_are_crops_of_the_padded_image_or_its_mirror(crop, flip, seed):
    x = images(3).images[:, :, :9, :9]
    got = training.augment(x, torch.Generator().manual_seed(seed), crop, flip)
    assert got.shape == x.shape
    assert got.dtype == torch.uint8
    padded = nn.functional.pad(x.float(), [crop] * 4, mode="reflect")
    for before, after in zip(padded, got.float(), strict=True):
        crops = [
            before[:, i : i + 9, j : j + 9]
            for i in range(2 * crop + 1)
            for j in range(2 * crop + 1)
        ]
        mirrored = [c.flip(2) for c in crops] if flip else []
        assert any(torch.equal(after, c) for c in crops + mirrored)


def test_about_half_are_mirrored_and_all_shifts_occur():
    x = torch.arange(32, dtype=torch.uint8).expand(400, 1, 32, 32).contiguous()
    got = training.augment(x, torch.Generator().manual_seed(0), 1, True)
    mirrored = (got[:, 0, 0, 10] > got[:, 0, 0, 11]).float().mean()
    assert 0.4 < mirrored < 0.6
    plain = training.augment(x, torch.Generator().manual_seed(0), 1, False)
    assert plain[:, 0, 0, 10].unique().tolist() == [9, 10, 11]


@pytest.mark.parametrize("was_training", [True, False])
@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_accuracy_is_the_share_of_right_answers(was_training, batch_size):
    class Oracle(nn.Module):
        """Right for labels below 3: reads the label out of the first pixel."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not self.training
            label = (x[:, 0, 0, 0] * 63.75 + 127.5).round().long()
            return nn.functional.one_hot(torch.where(label < 3, label, 0), 10).float()

    data = images(20)
    data.images[:, 0, 0, 0] = data.labels.to(torch.uint8)
    model = Oracle().train(was_training)
    assert training.evaluate(model, data, batch_size) == pytest.approx(6 / 20)
    assert model.training is was_training


def test_cross_entropy_by_hand():
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    loss = training.cross_entropy(lambda _: logits, torch.zeros(2), torch.tensor([0, 1]))
    assert float(loss) == pytest.approx(0.6931472)


def test_distillation_by_hand():
    teacher, student = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    other = torch.tensor([[0.0, 2.0]])
    y, temperature = torch.tensor([0]), 2.0
    loss = training.distillation([lambda _: teacher], temperature)
    p = torch.tensor([1.0, 0.0]).softmax(0).double()
    divergence = float((p * (p / 0.5).log()).sum())
    expected = 0.5 * 0.6931472 + 0.5 * temperature**2 * divergence
    assert float(loss(lambda _: student, torch.zeros(1), y)) == pytest.approx(expected)
    both = training.distillation([lambda _: teacher, lambda _: other], temperature)
    assert float(both(lambda _: student, torch.zeros(1), y)) == pytest.approx(0.5 * 0.6931472)


def test_teachers_learn_nothing():
    teacher, student = fresh(seed=1).eval(), fresh()
    before = state(teacher)
    fit(student, loss=training.distillation([teacher]))
    assert equal(state(teacher), before)
    assert all(p.grad is None for p in teacher.parameters())


# --- recipes -------------------------------------------------------------------------------------


@pytest.fixture
def small_recipe(monkeypatch) -> None:
    monkeypatch.setattr(datasets, "load", lambda name, split: images(20, name))
    cycle = {"epochs": 1, "batch_size": 10}
    monkeypatch.setitem(
        training.RECIPES,
        ("resnet8", "glyphs"),
        [cycle, cycle | {"teachers": ["vgg"]}, cycle | {"teachers": [0, 1]}],
    )


def test_a_recipe_stores_a_checkpoint_with_its_record_and_no_state(small_recipe, tmp_path):
    command = ["recipe", "resnet8", "--dataset", "glyphs", "--seed", "3", "--out", str(tmp_path)]
    threads = torch.get_num_threads()
    done = CliRunner().invoke(training.app, [*command, "--threads", str(threads)])
    assert done.exit_code == 0, done.output
    stem = tmp_path / "glyphs/resnet8-seed3"
    record = checkpoints.info(stem)
    assert json.loads(done.stdout) == record
    assert "recipe resnet8 --dataset glyphs --seed 3" in record["command"]
    model = checkpoints.load(stem)
    assert record["test_accuracy"] == round(training.evaluate(model, images(20)), 4)
    assert sorted(p.suffix for p in stem.parent.iterdir()) == [".json", ".safetensors"]


def test_a_recipe_that_was_cut_in_any_cycle_ends_like_one_that_was_not(small_recipe, tmp_path):
    command = ["recipe", "resnet8", "--dataset", "glyphs", "--threads", "1", "--out"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert CliRunner().invoke(training.app, [*command, str(whole)]).exit_code == 0
    for failing in (1, 2, 3):
        with pytest.MonkeyPatch.context() as patch:
            calls, plain = [], training.fit

            def fit(*args, calls=calls, failing=failing, plain=plain, **options):
                calls.append(1)
                stop = cut_at(1) if len(calls) == failing else None
                return plain(*args, after_step=stop, **options)

            patch.setattr(training, "fit", fit)
            assert CliRunner().invoke(training.app, [*command, str(cut)]).exit_code != 0
    assert CliRunner().invoke(training.app, [*command, str(cut)]).exit_code == 0
    first, second = (checkpoints.load(root / "glyphs/resnet8") for root in (whole, cut))
    assert equal(state(first), state(second))


@pytest.mark.parametrize("name", ["vgg16", "../vgg"])
def test_an_unknown_recipe_is_refused(name):
    done = CliRunner().invoke(training.app, ["recipe", name, "--dataset", "glyphs"])
    assert done.exit_code == 2
    assert "allowed" in done.output


def test_recipes_name_networks_sets_and_settings_that_exist():
    for (name, dataset), cycles in training.RECIPES.items():
        assert name in models.ARCHITECTURES
        assert dataset in datasets.DATASETS
        assert cycles
        for i, arguments in enumerate(cycles):
            assert arguments.keys() <= {"teachers", *training.fit.__annotations__}
            for teacher in arguments.get("teachers", []):
                assert teacher in range(i) or (teacher, dataset) in training.RECIPES


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="malloc of another kind")
def test_memory_of_one_evaluation_serves_the_next():
    data = images(200)
    model = fresh({"architecture": "vgg", "channels": [64, "M", 64]})
    training.evaluate(model, data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    training.evaluate(model, data)
    pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    one_activation = 100 * 64 * 32 * 32 * 4 / resource.getpagesize()
    assert pages < one_activation / 4
