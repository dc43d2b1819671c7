"""Every family builds, learns, and gives each of many stacked runs what it would get alone."""

from __future__ import annotations

import copy
import functools
import math
import os
import pickle
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call, vmap

from ratewise.errors import InvalidArgument, MissingData, MissingExtra, UnknownName
from ratewise.simulate import families
from ratewise.simulate.families import analytic, real
from ratewise.simulate.families.teacher import ImageTeacher, VectorTeacher
from ratewise.simulate.task import Task

TEACHER = {"data": "teacher", "size": 96}
VARIANTS = [
    *((name, {}) for name in families.names()),
    *((name, TEACHER) for name in ("mlp", "residual-mlp", "lenet", "vgg", "resnet", "vit")),
    ("mlp", {**TEACHER, "classes": None}),
    ("vgg", {**TEACHER, "classes": None, "channels": 3, "side": 12}),
    *(("mlp", {"data": data}) for data in ("breast-cancer", "wine", "diabetes")),
    ("gru", {"data": "digits"}),
    ("attention", {"data": "pydoc", "length": 8}),
]
every_variant = pytest.mark.parametrize(("name", "options"), VARIANTS)
every_family = pytest.mark.parametrize("name", families.names())


@functools.cache
def modules(name: str, **options: object) -> tuple[Task, list[nn.Module]]:
    """Return a family's task, and three modules with different weights, in float64."""
    task = families.family(name, **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return task, [task.model().double() for _ in range(3)]


def batches(task: Task, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Return a batch of each of three runs, stacked: [3, batch_size, ...]."""
    size = task.batch_size
    parts = []
    for run in range(3):
        data = task.data_for(run)
        parts.append([part[run * size : (run + 1) * size] for part in data])
    stacked = [torch.stack(part) for part in zip(*parts, strict=True)]
    return tuple(part.to(dtype) if part.is_floating_point() else part for part in stacked)


def together(task: Task, runs: list[nn.Module], batch: tuple[Tensor, ...]):
    """Return the losses of all runs by one vmap, and their gradients by name, [3, ...]."""
    weights = {
        name: torch.stack([dict(run.named_parameters())[name].detach() for run in runs])
        for name, _ in runs[0].named_parameters()
    }
    weights = {name: stacked.requires_grad_() for name, stacked in weights.items()}

    def one(own: dict[str, Tensor], *batch: Tensor) -> Tensor:
        return task.loss(functional_call(runs[0], own, batch[:1]), *batch[1:])

    losses = vmap(one)(weights, *batch)
    return losses.detach(), dict(
        zip(weights, torch.autograd.grad(losses.sum(), list(weights.values())), strict=True)
    )


@every_variant
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_stacked_runs_are_what_they_are_alone(name, options, dtype, allowed):
    task, runs = modules(name, **options)
    runs = [copy.deepcopy(run).to(dtype) for run in runs]
    batch = batches(task, dtype)
    losses, gradients = together(task, runs, batch)
    assert losses.shape == (3,)
    for i, run in enumerate(runs):
        own = [part[i] for part in batch]
        loss = task.loss(run(*own[:1]), *own[1:])
        assert loss.shape == ()
        assert abs(loss.item() - losses[i].item()) <= allowed * abs(loss.item())
        expected = torch.autograd.grad(loss, list(run.parameters()))
        largest = max(g.abs().max() for g in expected)
        for (key, _), wanted in zip(run.named_parameters(), expected, strict=True):
            assert (gradients[key][i] - wanted).abs().max() <= allowed * largest, key
    others = (gradients[key][0] - gradients[key][1] for key in gradients)
    assert max(part.abs().max() for part in others) > 1e-3  # the runs do differ


@every_family
def test_nan_in_one_run_stays_there(name: str):
    task, runs = modules(name)
    runs = [copy.deepcopy(run).float() for run in runs]
    batch = batches(task, torch.float32)
    losses, gradients = together(task, runs, batch)
    with torch.no_grad():
        for parameter in runs[1].parameters():
            parameter.fill_(math.nan)
    spoilt, spoilt_gradients = together(task, runs, batch)
    assert spoilt[1].isnan()
    assert any(part[1].isnan().any() for part in spoilt_gradients.values())
    for run in (0, 2):
        assert torch.equal(spoilt[run], losses[run])
        for key, part in gradients.items():
            assert torch.equal(part[run], spoilt_gradients[key][run]), key


@every_family
def test_keeps_no_statistics_and_drops_nothing(name: str):
    for module in families.family(name).model().modules():
        assert not getattr(module, "track_running_stats", False)
        assert not isinstance(module, nn.Dropout)


def trained(task: Task, lr: float, steps: int = 60) -> tuple[float, float]:
    """Return the loss on the first 256 rows before and after some steps of Adam."""
    torch.manual_seed(0)
    model, data = task.model(), task.data_for(0)
    shown = [part[:256] for part in data]
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    @torch.no_grad()
    def loss() -> float:
        return task.loss(model(*shown[:1]), *shown[1:]).item()

    before = loss()
    for _ in range(steps):
        rows = torch.randperm(len(data[0]))[: task.batch_size] if data else None
        batch = [part[rows] for part in data]
        optimizer.zero_grad()
        task.loss(model(*batch[:1]), *batch[1:]).backward()
        optimizer.step()
    return before, loss()


@every_variant
def test_learns(name: str, options: dict[str, object]):
    task = families.family(name, **options)
    before, after = trained(task, 0.01 if task.data else 0.05)
    assert after < 0.95 * before
    before, after = trained(task, 0.0, steps=2)
    assert after == before


@pytest.mark.parametrize("teacher", [VectorTeacher(), ImageTeacher(), VectorTeacher(classes=None)])
def test_a_teacher_is_its_seeds(teacher):
    first, again, other = teacher(5), teacher(5), teacher(6)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert first[0].shape == (512, *teacher.shape)
    assert abs(first[0].square().mean() - 1) < 0.2
    state = torch.get_rng_state()
    teacher(7)
    assert torch.equal(torch.get_rng_state(), state)


def test_teachers_differ_and_not_only_their_inputs():
    """Trained on one run's data, a model does no better than guessing on another's."""
    share = [
        (VectorTeacher()(seed)[1] == VectorTeacher()(seed + 1)[1]).float().mean().item()
        for seed in range(0, 40, 2)
    ]
    assert 0.15 < sum(share) / len(share) < 0.35  # four classes


def test_a_teachers_options_do_what_they_say():
    clean, noisy = (VectorTeacher(label_noise=noise, size=4000)(0) for noise in (0.0, 0.4))
    assert torch.equal(clean[0], noisy[0])
    assert abs((clean[1] != noisy[1]).float().mean() - 0.4 * 3 / 4) < 0.05
    counts = clean[1].bincount(minlength=4)
    assert counts.min() > 0.1 * counts.sum()
    exact, rough = (VectorTeacher(classes=None, label_noise=n)(0)[1] for n in (0.0, 0.5))
    assert abs(exact.std() - 1) < 1e-3
    assert abs((rough - exact).std() - 0.5) < 0.05
    variance = VectorTeacher(spectrum=2.0, size=20_000)(0)[0].var(0)
    assert variance[0] / variance[3] == pytest.approx(16, rel=0.1)
    flat = VectorTeacher(spectrum=0.0, size=20_000)(0)[0].var(0)
    assert flat[0] / flat[3] == pytest.approx(1, rel=0.1)


def test_an_image_teachers_spectrum_makes_images_smooth():
    def roughness(spectrum: float) -> float:
        images = ImageTeacher(spectrum=spectrum)(0)[0]
        return (images.diff(dim=-1).square().mean() / images.square().mean()).item()

    assert roughness(0.0) == pytest.approx(2, rel=0.1)  # neighbours are independent
    assert roughness(4.0) < 0.5 * roughness(2.0) < 0.5 * roughness(0.0)


def literal(name: str, x: Tensor) -> Tensor:
    """The functions as the literature writes them."""
    n = len(x)
    if name == "rosenbrock":
        terms = [100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2 for i in range(n - 1)]
        return torch.stack(terms).sum()
    if name == "rastrigin":
        return 10 * n + sum(x[i] ** 2 - 10 * torch.cos(2 * math.pi * x[i]) for i in range(n))
    root = torch.sqrt(x.square().sum() / n)
    waves = torch.cos(2 * math.pi * x).sum() / n
    return -20 * torch.exp(-0.2 * root) - torch.exp(waves) + 20 + math.e


@pytest.mark.parametrize("name", ["rosenbrock", "rastrigin", "ackley"])
def test_functions_are_the_literatures(name: str):
    model = families.family(name, dim=4).model().double()
    for _ in range(5):
        nn.init.uniform_(model.x, -4, 4)
        torch.testing.assert_close(model(), literal(name, model.x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("model", "minimum"),
    [
        (analytic.Quadratic(5, 100), 0.0),
        (analytic.Rosenbrock(5), 1.0),
        (analytic.Rastrigin(5), 0.0),
        (analytic.Ackley(5), 0.0),
    ],
)
def test_functions_are_least_and_finite_at_their_minimum(model, minimum: float):
    nn.init.constant_(model.x, minimum)
    value = model()
    value.backward()
    assert value.item() == 0.0
    assert torch.equal(model.x.grad, torch.zeros(5))
    for _ in range(20):
        nn.init.normal_(model.x, minimum)
        assert model().item() > 0


@pytest.mark.parametrize("condition", [1, 100, 1000])
def test_a_quadratic_has_its_condition_number(condition: int):
    model = families.family("quadratic", condition=condition, dim=6).model().double()
    curvature = hessian(lambda x: functional_call(model, {"x": x}, ()), model.x.detach())
    values = torch.linalg.eigvalsh(curvature)
    assert values[-1].item() == pytest.approx(1.0)
    assert (values[-1] / values[0]).item() == pytest.approx(condition, rel=1e-6)


def test_a_tiny_perceptron_can_be_had():
    task = families.family(
        "mlp", data="teacher", inputs=16, width=32, depth=1, classes=4, batch_size=16
    )
    assert sum(parameter.numel() for parameter in task.model().parameters()) == 676


def test_files_are_read_from_the_folder_that_is_named_now(data_folder, monkeypatch):
    """What was read once must not be served from a folder that is no longer named."""
    fashion = families.family("lenet", data="fashion", folder=data_folder)
    assert fashion.data[0].shape == (300, 1, 12, 12)
    housing = families.family("mlp", data="housing", folder=data_folder)
    assert housing.data[0].shape == (2048, 13)
    assert housing.data[0].isfinite().all()
    assert abs(housing.data[1].mean()) < 1e-5
    assert housing.loss.__name__ == "squared_error"
    for data in ("shakespeare", "wikitext"):
        task = families.family("deep-transformer", data=data, folder=data_folder)
        assert torch.equal(task.data[0][:, 1:], task.data[1][:, :-1])
    monkeypatch.setenv("RATEWISE_DATA", str(data_folder))
    assert families.family("lenet", data="fashion").data[0] is not None
    monkeypatch.delenv("RATEWISE_DATA")
    with pytest.raises(MissingData, match="Fashion-MNIST's train-images"):
        families.family("lenet", data="fashion")


def test_a_crop_is_the_middle_of_the_halved_image(data_folder):
    images, labels = families.family("vit", data="fashion", folder=data_folder).data
    bright = images.flatten(1).argmax(1)
    # image number i has its one bright 2x2 square at place i of the 12x12 that are kept
    assert torch.equal(bright % 10, labels)
    assert len(bright.unique()) == 144


@pytest.fixture
def data_folder(tmp_path):
    """A data folder with small files of all the kinds that families read."""
    import numpy as np

    pixels = np.zeros((300, 28, 28), np.uint8)
    places = np.arange(300) % 144
    for image, place in zip(pixels, places, strict=True):
        row, column = 2 * (1 + place // 12), 2 * (1 + place % 12)
        image[row : row + 2, column : column + 2] = 200
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind, array in (("images-idx3", pixels), ("labels-idx1", (places % 10).astype("u1"))):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (raw / f"{part}-{kind}-ubyte").write_bytes(header + array.tobytes())
    names = "longitude,latitude,housing_median_age,total_rooms,total_bedrooms,population"
    names += ",households,median_income,median_house_value,ocean_proximity"
    rows = [f"{i % 7},2,{i % 9},4,{'' if i % 5 else 3},6,7,8,{i},INLAND" for i in range(2500)]
    (tmp_path / "housing.csv").write_text("\n".join([names, *rows]))
    for name in ("tinyshakespeare/input.txt", "wikitext-2/valid.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("To be, or not to be. " * 200)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlp", {"data": "housing"}),
        ("lenet", {"data": "fashion"}),
        ("gru", {"data": "wikitext"}),
        ("wide-transformer", {"data": "shakespeare"}),
    ],
)
def test_learns_from_the_real_files(name: str, options: dict[str, object]):
    if not os.environ.get("RATEWISE_DATA"):
        pytest.skip("RATEWISE_DATA names no data folder")
    try:
        task = families.family(name, **options)
    except MissingData as error:
        pytest.skip(str(error))
    before, after = trained(task, 0.01)
    assert after < 0.9 * before


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    real._vectors.cache_clear()
    with pytest.raises(MissingExtra, match=r"ratewise\[compare\]"):
        families.family("mlp", data="wine")


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("mpl", {}, UnknownName, "unknown family 'mpl': did you mean 'mlp'"),
        (None, {}, UnknownName, "unknown family"),
        ("mlp", {"widht": 3}, UnknownName, "option of 'mlp' 'widht': did you mean 'width'"),
        ("quadratic", {"width": 3}, UnknownName, "known: condition, dim"),
        ("mlp", {"data": "digit"}, UnknownName, "did you mean 'digits'"),
        ("mlp", {"data": 3}, UnknownName, "unknown data 3"),
        ("lenet", {"data": "wine"}, UnknownName, "known: digits, fashion, teacher"),
        ("deep-transformer", {"data": "digits"}, UnknownName, "known: pydoc"),
        ("mlp", {"width": 0}, InvalidArgument, "width must be an integer from 1"),
        ("mlp", {"width": True}, InvalidArgument, "width must be an integer"),
        ("mlp", {"depth": 1.0}, InvalidArgument, "depth must be an integer"),
        ("mlp", {"batch_size": 5000}, InvalidArgument, "from 1 to 1797, got 5000"),
        ("mlp", {**TEACHER, "batch_size": 97}, InvalidArgument, "from 1 to 96, got 97"),
        ("mlp", {"classes": 3}, InvalidArgument, "classes is an option of a random teacher"),
        ("mlp", {**TEACHER, "classes": 1}, InvalidArgument, "classes must be an integer from 2"),
        ("mlp", {**TEACHER, "label_noise": 1.5}, InvalidArgument, "label_noise must be a number"),
        ("mlp", {**TEACHER, "spectrum": math.nan}, InvalidArgument, "spectrum must be a number"),
        ("mlp", {**TEACHER, "side": 8}, UnknownName, "option of 'mlp' 'side'"),
        ("lenet", {"width": 6}, InvalidArgument, "width must be a multiple of groups=4"),
        ("vit", {"patch": 3}, InvalidArgument, "a divisor of the images' 8 pixels"),
        ("vit", {"heads": 3}, InvalidArgument, "width must be a multiple of heads=3"),
        ("attention", {"length": 8}, InvalidArgument, "length must be None where data='digits'"),
        ("gru", {"length": 1}, InvalidArgument, "length must be an integer from 2"),
        ("deep-transformer", {"heads": 0}, InvalidArgument, "heads must be an integer"),
        ("quadratic", {"condition": 0.5}, InvalidArgument, "condition must be a number from 1"),
        ("rosenbrock", {"dim": 1}, InvalidArgument, "dim must be an integer from 2"),
    ],
)
def test_bad_options_are_named(name, options, error, words):
    with pytest.raises(error, match=words):
        families.family(name, **options)


@every_variant
def test_a_task_goes_to_another_process(name: str, options: dict[str, object]):
    task = families.family(name, **options)
    again = pickle.loads(pickle.dumps(task))
    assert all(torch.equal(a, b) for a, b in zip(task.data_for(2), again.data_for(2), strict=True))
    assert repr(again.model()) == repr(task.model())


@every_family
def test_options_are_those_that_are_taken(name: str):
    listed = families.options(name)
    own = {key: listed[key] for key in listed if key not in ("data", "folder")}
    if "teacher_width" in listed:
        families.family(name, data="teacher", **own)
    elif name == "attention":  # the length is the text's
        families.family(name, data="pydoc", **own)
    else:
        families.family(name, **own)
