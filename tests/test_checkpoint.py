"""The model file: all comes back, and a damaged or hostile one is refused quickly, by name, without running anything."""

import io
import json
import pickle
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import biomask
from biomask import api
from biomask.checkpoint import MODEL_FILE, ModelHeader, build_network, load_model, save_model
from biomask.errors import DiskFullError, MissingPathError, ModelFileError, WriteError
from biomask.labels import Legend
from biomask.recipe import NetworkSettings, Recipe

SOURCES = Path(biomask.__file__).parent


def recipe(name="unet", **options):
    return Recipe(name="test", network=NetworkSettings(name=name, options=options or {"width": 2, "depth": 1, "norm": "batch"}))


def header(**changes):
    content = {"recipe": recipe(), "in_channels": 1, "spatial_dims": 2, "kind": "classes",
               "legend": Legend.of_values([0, 255], {255: "细胞"}).to_json(), "spacing": {"y": 0.5, "x": 0.25},
               "channel_names": ("nuclei",), "dtype": "uint16", "scores": {"validation.dice": 0.75, "validation.dice.x": None},
               "thresholds": {"a": 0.4}, "step": 7, "data_hashes": {"a:image": "00"}}
    return ModelHeader(**(content | changes))


def network_of(head):
    torch.manual_seed(0)
    return build_network(head.recipe, in_channels=head.in_channels, channels=head.task.channels, spatial_dims=head.spatial_dims)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / MODEL_FILE
    save_model(path, network_of(header()).state_dict(), header())
    return path


def forged(path, content=None, tensors=None, metadata=None):
    """A safetensors file with our header's JSON changed in any way."""
    tensors = network_of(header()).state_dict() if tensors is None else tensors
    text = json.dumps(content) if not isinstance(content, str) else content
    metadata = {"biomask": text} if metadata is None else metadata
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata=metadata)
    return path


def changed(**changes):
    """The header's JSON with dotted keys replaced."""
    content = json.loads(header().model_dump_json())
    for key, value in changes.items():
        node = content
        *above, last = key.split("__")
        for part in above:
            node = node[part]
        node[last] = value
    return content


class TestRoundTrip:
    def test_everything_comes_back(self, tmp_path):
        head = header()
        network = network_of(head).train()
        network(torch.randn(4, 1, 16, 16))  # moves the batch statistics
        save_model(tmp_path / "deep" / MODEL_FILE, network.state_dict(), head)
        for path in (tmp_path / "deep", tmp_path / "deep" / MODEL_FILE, str(tmp_path / "deep")):
            model = load_model(path)
            assert model.header == head
            assert model.path == tmp_path / "deep" / MODEL_FILE
            assert not model.network.training
            assert model.legend == Legend.of_values([0, 255], {255: "细胞"})
            x = torch.randn(1, 1, 20, 22)
            with torch.no_grad():
                assert torch.equal(model.network(x), network.eval()(x))

    def test_weights_own_their_memory(self, good):
        """Loading twice gives networks that share nothing with each other or the file."""
        first, second = load_model(good).network, load_model(good).network
        with torch.no_grad():
            for p in first.parameters():
                p.zero_()
        assert any(p.any() for p in second.parameters())
        assert any(p.any() for p in load_model(good).network.parameters())

    @pytest.mark.parametrize("dims", [2, 3])
    @pytest.mark.parametrize(("name", "options"), [("one-layer", {"kernel": 3}), ("unet", {"width": 2, "depth": 2}),
                                                   ("unet", {"width": 2, "depth": 1, "padding": "valid", "up": "nearest"})])
    def test_every_network(self, tmp_path, name, options, dims):
        head = header(recipe=recipe(name, **options), spatial_dims=dims, spacing=None)
        save_model(tmp_path / MODEL_FILE, network_of(head).state_dict(), head)
        model = load_model(tmp_path)
        assert model.network.strides == network_of(head).strides
        assert all(p.device.type == "cpu" and p.dtype == torch.float32 for p in model.network.parameters())

    def test_the_api_gives_the_network_and_it_learns_on(self, good):
        network = api.load(good)
        assert biomask.load(good).halo == network.halo
        network.train()(torch.randn(2, 1, 8, 8)).sum().backward()
        assert all(p.grad is not None for p in network.parameters())

    def test_an_alien_name(self, tmp_path, good):
        path = tmp_path / "Modell für 细胞 (2).safetensors"
        path.write_bytes(good.read_bytes())
        assert load_model(path).header == header()

    def test_a_trained_model_is_enough_on_its_own(self, tiny_model, tmp_path):
        alone = tmp_path / "alone.safetensors"
        alone.write_bytes((tiny_model / MODEL_FILE).read_bytes())
        model = load_model(alone)
        assert model.header.step > 0
        assert model.legend.values == (0, 255)
        assert len(model.header.data_hashes) == 8


class TestPaths:
    def test_missing(self, tmp_path):
        with pytest.raises(MissingPathError, match="nowhere"):
            load_model(tmp_path / "nowhere")

    def test_a_folder_without_a_model(self, tmp_path):
        with pytest.raises(MissingPathError, match=re.escape(str(tmp_path))):
            load_model(tmp_path)

    def test_no_space_left(self, full_disk):
        head = header(recipe=recipe(width=16, depth=2))
        with pytest.raises(DiskFullError):
            save_model(full_disk / MODEL_FILE, network_of(head).state_dict(), head)
        assert list(full_disk.iterdir()) == []

    def test_no_place_to_write(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(WriteError, match=r"model\.safetensors"):
            save_model(tmp_path / "file" / MODEL_FILE, network_of(header()).state_dict(), header())

    def test_an_interrupted_write_leaves_the_old_model(self, tmp_path, good):
        path = tmp_path / MODEL_FILE
        path.write_bytes(good.read_bytes())
        shared = torch.zeros(4)
        with pytest.raises(RuntimeError):  # tensors that share memory cannot be written
            save_model(path, {"a": shared, "b": shared}, header())
        assert path.read_bytes() == good.read_bytes()
        assert [p.name for p in tmp_path.iterdir()] == [MODEL_FILE]


class Bomb:
    """A pickle that would leave a file behind if it were ever opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


class TestHostile:
    def refused(self, path, match=None):
        """Refused by name, quickly, and without much memory."""
        import psutil

        before = psutil.Process().memory_info().rss
        with pytest.raises(ModelFileError, match=match) as caught:
            load_model(path)
        assert path.name in str(caught.value)
        assert "Traceback" not in str(caught.value)
        assert psutil.Process().memory_info().rss - before < 300e6
        return str(caught.value)

    @pytest.mark.parametrize("protocol", [0, 2, 5])
    def test_a_pickle_is_never_opened(self, tmp_path, protocol):
        path, trace = tmp_path / MODEL_FILE, tmp_path / "executed"
        path.write_bytes(pickle.dumps(Bomb(trace), protocol))
        self.refused(path)
        assert not trace.exists()

    def test_a_torch_file_is_never_opened(self, tmp_path):
        path, trace = tmp_path / MODEL_FILE, tmp_path / "executed"
        buffer = io.BytesIO()
        torch.save(Bomb(trace), buffer)
        path.write_bytes(buffer.getvalue())
        self.refused(path)
        assert not trace.exists()

    @pytest.mark.parametrize("content", [b"", b"\0", b"\0" * 8, b"\xff" * 100, b"{}", b"\x02\0\0\0\0\0\0\0{}", b"x" * 10_000])
    def test_garbage(self, tmp_path, content):
        path = tmp_path / MODEL_FILE
        path.write_bytes(content)
        self.refused(path)

    @pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9, 0.999])
    def test_truncated(self, tmp_path, good, share):
        path = tmp_path / MODEL_FILE
        path.write_bytes(good.read_bytes()[: int(share * good.stat().st_size)])
        self.refused(path)

    def test_a_foreign_safetensors_file(self, tmp_path):
        self.refused(forged(tmp_path / "theirs.safetensors", metadata={}), "no biomask header")
        self.refused(forged(tmp_path / "other.safetensors", metadata={"format": "pt"}), "no biomask header")

    def test_a_newer_schema_says_to_update(self, tmp_path):
        text = self.refused(forged(tmp_path / MODEL_FILE, changed(schema_version=2, biomask_version="9.1")), r"9\.1")
        assert "update biomask" in text

    @pytest.mark.parametrize("text", ["", "no json", "[1, 2]", "null", "3", '"x"', "{}", '{"schema_version": 1}',
                                      "[" * 100_000, '{"schema_version": ' + "9" * 10_000 + "}"],
                             ids=["empty", "text", "list", "null", "number", "string", "nothing", "little", "deep", "long"])
    def test_a_header_that_is_none(self, tmp_path, text):
        self.refused(forged(tmp_path / MODEL_FILE, text))

    @pytest.mark.parametrize("change", [
        {"schema_version": "two"}, {"schema_version": None}, {"schema_version": [1]},
        {"recipe": None}, {"recipe__network__name": "transformer"}, {"recipe__network__name": "os:system"},
        {"recipe__network__options": {"width": 2, "depth": 1, "norm": "batch", "wings": 2}},
        {"recipe__network__options": {"width": 4, "depth": 1, "norm": "batch"}},
        {"recipe__network__options": {"width": 2, "depth": 2, "norm": "batch"}},
        {"recipe__network__options": {"width": 2, "depth": 1}},
        {"recipe__network__options": {"width": "two", "depth": 1}},
        {"recipe__network__options": {"width": 2.5, "depth": 1}},
        {"recipe__network__options": {"width": 2, "depth": 1, "scales": [["a", "b"]]}},
        {"recipe__network__options": {"width": 2, "depth": 1, "kernels": [[0, 0], [3, 3]]}},
        {"recipe__network__options": {"width": 2, "depth": 1, "dropout": 7}},
        {"recipe__network__options": {"in_channels": 3}},
        {"recipe__training__lr": -1},
        {"in_channels": 2}, {"in_channels": 0}, {"in_channels": -1}, {"in_channels": "many"},
        {"spatial_dims": 3}, {"spatial_dims": 0}, {"spatial_dims": 7}, {"kind": "magic"},
        {"legend": []}, {"legend": [{"value": 0, "name": "a", "colour": [0, 0, 0]}]},
        {"legend": [{"name": "a"}, {"name": "b"}]}, {"legend": [{}, {}]},
        {"legend": [{"value": 3, "name": "a", "colour": [0, 0, 0]}] * 2},
        {"legend": [{"value": 5, "name": "a", "colour": [0, 0, 0]}, {"value": 1, "name": "b", "colour": [0, 0, 0]}]},
        {"legend": [{"value": "x", "name": "a", "colour": "red"}, {"value": 1, "name": "b", "colour": [0, 0, 0]}]},
    ], ids=str)
    def test_a_header_that_lies(self, tmp_path, time_limit, change):
        with time_limit(20):
            self.refused(forged(tmp_path / MODEL_FILE, changed(**change)))

    @pytest.mark.parametrize("change", [
        {"recipe__network": {"name": "one-layer", "options": {"kernel": 11}}, "spatial_dims": 7},
        {"recipe__network": {"name": "one-layer", "options": {"kernel": 4}}},
        {"recipe__network": {"name": "one-layer", "options": {"kernel": "x"}}},
        {"recipe__network": {"name": "one-layer", "options": {"kernel": 0}}},
        {"recipe__network": {"name": "one-layer", "options": {"kernel": -3}}},
    ], ids=str)
    def test_a_header_that_lies_of_another_network(self, tmp_path, change):
        self.refused(forged(tmp_path / MODEL_FILE, changed(**change)))

    @pytest.mark.parametrize("change", [
        {"recipe__network__options": {"width": 10**5, "depth": 12}},
        {"recipe__network__options": {"width": 10**9, "depth": 3}},
        {"recipe__network__options": {"width": 2**62, "depth": 1}},
        {"recipe__network__options": {"width": 2**80, "depth": 1}},
        {"recipe__network__options": {"width": 2, "depth": 10**9}},
        {"recipe__network__options": {"width": 2, "depth": 10**6, "scales": [[2, 2]] * 1000}},
        {"recipe__network__options": {"width": 2, "depth": 1, "scales": [[10**9, 10**9]]}},
        {"recipe__network__options": {"width": 2, "depth": 1, "kernels": [[10**9 + 1] * 2, [3, 3]]}},
        {"recipe__network__options": {"width": 2, "depth": 1, "kernels": [[10**7 + 1] * 2] * 2, "padding": "valid"}},
        {"recipe__network": {"name": "one-layer", "options": {"kernel": 10**9 + 1}}},
        {"in_channels": 10**12}, {"in_channels": 10**30},
        {"legend": [{"value": i, "name": "a", "colour": [0, 0, 0]} for i in range(100_000)]},
    ], ids=lambda c: str(c)[:90])
    def test_absurd_sizes_are_refused_without_being_built(self, tmp_path, time_limit, change):
        path = forged(tmp_path / MODEL_FILE, changed(**change))
        with time_limit(20):
            self.refused(path)

    def test_too_few_tensors_too_many_and_others(self, tmp_path):
        state = network_of(header()).state_dict()
        first = next(iter(state))
        for tensors in ({k: v for k, v in state.items() if k != first}, {**state, "extra": torch.zeros(1)},
                        {**state, first: torch.zeros(3)}, {f"x.{k}": v for k, v in state.items()}, {"a": torch.zeros(1)}):
            self.refused(forged(tmp_path / MODEL_FILE, changed(), tensors), "do not fit")

    @pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
    def test_tensors_that_are_no_weights(self, tmp_path, dtype):
        state = network_of(header()).state_dict()
        self.refused(forged(tmp_path / MODEL_FILE, changed(), {k: v.to(dtype) for k, v in state.items()}))

    def test_weights_in_half_precision_are_taken_as_float32(self, tmp_path):
        state = {k: v.half() if v.is_floating_point() else v for k, v in network_of(header()).state_dict().items()}
        network = load_model(forged(tmp_path / MODEL_FILE, changed(), state)).network
        assert {p.dtype for p in network.parameters()} == {torch.float32}

    def test_a_header_claims_more_bytes_than_the_file(self, tmp_path, time_limit):
        path = tmp_path / MODEL_FILE
        text = json.dumps({"__metadata__": {"biomask": json.dumps(changed())},
                           "a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 100)
        with time_limit(10):
            self.refused(path)

    def test_a_header_of_exabytes(self, tmp_path, time_limit):
        path = tmp_path / MODEL_FILE
        path.write_bytes((2**60).to_bytes(8, "little") + b"{}")
        with time_limit(10):
            self.refused(path)

    def test_more_keys_than_we_know_are_left_alone(self, tmp_path):
        """A later minor version may add to the header."""
        assert load_model(forged(tmp_path / MODEL_FILE, changed(novelty=1))).header.step == 7


def test_no_pickle_anywhere():
    """Nothing in the package opens a pickle: `torch.load` only with weights_only=True."""
    forbidden = re.compile(r"^\s*(import|from)\s+(pickle|cPickle|dill|cloudpickle|joblib|shelve|marshal)\b"
                           r"|\bpickle\.loads?\b|allow_pickle=True", re.MULTILINE)
    for source in SOURCES.rglob("*.py"):
        text = source.read_text(encoding="utf-8")
        assert not forbidden.search(text), source
        for call in re.finditer(r"torch\.load\((?P<arguments>[^)]*)\)", text):
            assert "weights_only=True" in call["arguments"], source


def test_opening_a_model_imports_no_code_from_it(tmp_path):
    """`module:qualname` of a header must not be imported: that would run a stranger's code."""
    (tmp_path / "stranger.py").write_text("raise SystemExit('imported')")
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(ModelFileError):
            load_model(forged(tmp_path / MODEL_FILE, changed(recipe__network__name="stranger:Net")))
    finally:
        sys.path.remove(str(tmp_path))
    assert "stranger" not in sys.modules
