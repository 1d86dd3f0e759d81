"""The recipe: YAML out and in, settings by name, and every mistake explained."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from biomask import recipes
from biomask.api import TrainOptions, resolve_recipe
from biomask.errors import BiomaskError, InputError, MissingPathError, UsageError
from biomask.recipe import Recipe

DEFAULT = Recipe(name="default")


@pytest.fixture(params=recipes.names())
def named(request):
    return recipes.get(request.param)


class TestYaml:
    def test_named_recipes_come_back(self, named, tmp_path):
        path = tmp_path / "r.yaml"
        path.write_text(named.to_yaml(), encoding="utf-8")
        assert Recipe.from_yaml(path) == named
        assert Recipe.from_yaml(path).to_yaml() == named.to_yaml()

    def test_every_section_comes_back(self, tmp_path):
        recipe = DEFAULT.with_settings([
            "title='Zellen für 细胞: ja & nein'", "data.legend={0: nothing, 255: 'a: b'}", "data.channels=['0', dapi]",
            "data.ignore=-1", "data.spacing={y: 0.5, x: 0.25}", "loss.class_weights=[1, 2.5]",
            "training.patch=[64, 32]", "training.clip=null",
            "augmentation.flip=[x]", "prediction.tile=whole", "network.options.scales=[[1, 2], [2, 2]]", "training.lr=1e-4",
            "training.minutes=0.5", "normalization.method=percentile"])
        path = tmp_path / "r.yaml"
        path.write_text(recipe.to_yaml(), encoding="utf-8")
        assert Recipe.from_yaml(path) == recipe

    @settings(max_examples=25, deadline=None)
    @given(st.floats(1e-12, 1e3), st.integers(0, 2**40),
           st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp", "Co", "Cn")), max_size=30))
    def test_any_numbers_and_text_come_back(self, tmp_path_factory, lr, seed, title):
        training = DEFAULT.training.model_copy(update={"lr": lr, "seed": seed})
        recipe = DEFAULT.model_copy(update={"title": title, "training": training})
        path = tmp_path_factory.mktemp("yaml") / "r.yaml"
        path.write_text(recipe.to_yaml(), encoding="utf-8", newline="")
        assert Recipe.from_yaml(path) == recipe

    def test_a_name_is_taken_from_the_file(self, tmp_path):
        (tmp_path / "mine.yaml").write_text("training: {lr: 0.1}")
        assert Recipe.from_yaml(tmp_path / "mine.yaml").name == "mine"

    def test_numbers_as_yaml_1_1_misreads_them(self, tmp_path):
        """YAML 1.1 takes 1e-4 for text; a recipe that a person writes has it all the same."""
        (tmp_path / "r.yaml").write_text("training: {lr: 1e-4}")
        assert Recipe.from_yaml(tmp_path / "r.yaml").training.lr == 1e-4

    @pytest.mark.parametrize(("text", "says"), [
        ("training: {lr: -1}", "training.lr"), ("training: {lrr: 1}", "training.lrr"), ("trainig: {}", "trainig"),
        ("training: [1, 2]", "training"), ("training: {steps: 1, minutes: 1}", "not both"),
        ("network: {name: 3}", "network.name"),
        ("loss: {cross_entropy: 0, dice: 0}", "nothing would be learnt"), ("loss: {heads: [0, 0]}", "nothing would be learnt"),
        ("loss: {published: unet++}\ninstances: {target: borders}", "no weights of pixels"),
        ("loss: {published: unet++, class_weights: [1, 2]}", "no class weights"),
        ("normalization: {low: 50, high: 40}", "below"),
        ("data: {kind: magic}", "data.kind"), ("{unclosed", "YAML"), ("- a list", "recipe"), ("", "recipe"), ("3", "recipe"),
        ("{1: 2}", "1"), ("!!python/object/apply:os.system ['true']", "YAML"), ("a: &a [*a]", "a"),
    ])
    def test_mistakes_name_the_file_and_the_place(self, tmp_path, text, says):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(InputError, match=r"bad\.yaml") as caught:
            Recipe.from_yaml(tmp_path / "bad.yaml")
        assert says in str(caught.value)

    def test_no_text(self, tmp_path):
        (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00name: x")
        with pytest.raises(InputError, match=r"bad\.yaml"):
            Recipe.from_yaml(tmp_path / "bad.yaml")

    @pytest.mark.parametrize("name", ["no.yaml", "folder.yaml"])
    def test_no_file(self, tmp_path, name):
        (tmp_path / "folder.yaml").mkdir()
        with pytest.raises(MissingPathError):
            Recipe.from_yaml(tmp_path / name)


class TestNames:
    def test_a_name_a_file_or_an_error_that_lists_the_names(self, tmp_path):
        assert recipes.get("default").name == "default"
        (tmp_path / "mine.yml").write_text("{}")
        assert recipes.get(str(tmp_path / "mine.yml")).name == "mine"
        with pytest.raises(UsageError, match="default"):
            recipes.get("defautl")

    def test_every_name_is_its_files(self):
        assert {recipes.get(n).name for n in recipes.names()} == set(recipes.names())

    @pytest.mark.parametrize("name", ["", "../recipes/default", "/etc/passwd", "default.yaml/..", "."])
    def test_strange_names(self, name):
        with pytest.raises(BiomaskError):
            recipes.get(name)


class TestFrozen:
    def test_nothing_can_be_assigned(self):
        for owner, field in ((DEFAULT, "name"), (DEFAULT.training, "lr"), (DEFAULT.data, "ignore")):
            with pytest.raises(ValidationError):
                setattr(owner, field, 1)

    def test_settings_give_a_copy(self):
        changed = DEFAULT.with_settings(["training.lr=0.5", "network.options.width=2"])
        assert DEFAULT.training.lr == 1e-3
        assert "width" not in DEFAULT.network.options
        assert (changed.training.lr, changed.network.options["width"]) == (0.5, 2)
        again = changed.with_settings(["network.options.width=3"])
        assert changed.network.options["width"] == 2
        assert again.network.options["width"] == 3


class TestSettings:
    @pytest.mark.parametrize(("setting", "section", "key", "value"), [
        ("training.lr=1e-4", "training", "lr", 1e-4), ("training.lr = 1E-4", "training", "lr", 1e-4),
        ("training.steps=1e3", "training", "steps", 1000), ("training.clip=null", "training", "clip", None),
        ("training.patch=[64, 32]", "training", "patch", (64, 32)), ("training.seed=0", "training", "seed", 0),
        ("data.ignore=-1", "data", "ignore", -1), ("data.legend={0: a, 3: b}", "data", "legend", {0: "a", 3: "b"}),
        ("augmentation.rotate90=false", "augmentation", "rotate90", False),
        ("augmentation.flip=[]", "augmentation", "flip", ()), ("data.channels=[0, 2]", "data", "channels", ("0", "2")),
        ("prediction.tile=256", "prediction", "tile", 256), ("prediction.tile=whole", "prediction", "tile", "whole"),
        ("prediction.rotations=[0, mirror 90]", "prediction", "rotations", ("0", "mirror 90")),
        ("loss.heads=[1, 0, 2]", "loss", "heads", (1.0, 0.0, 2.0)),
        ("data.channels=['0']", "data", "channels", ("0",)), ("loss.class_weights=[1,5]", "loss", "class_weights", (1.0, 5.0)),
    ])
    def test_good(self, setting, section, key, value):
        assert getattr(getattr(DEFAULT.with_settings([setting]), section), key) == value

    @pytest.mark.parametrize(("setting", "says"), [
        ("training.lrr=1", "'lr'"), ("trainig.lr=1", "'training'"), ("training", "section.key=value"),
        ("", "section.key=value"),
        ("=1", "''"), ("training.=1", "training."), ("training.lr.x=1", "training.lr"), ("network.option.width=1", "'options'"),
        ("training.lr=fast", "training.lr"), ("training.lr=", "training.lr"), ("training.lr=0", "training.lr"),
        ("training.lr=nan", "training.lr"), ("training.lr=-1e-4", "training.lr"), ("training.steps=0", "training.steps"),
        ("training.steps=1.5", "training.steps"), ("training.steps=1e400", "training.steps"),
        ("training.patch=[a", "YAML"), ("training.patch=8", "training.patch"), ("training.batch=0", "training.batch"),
        ("data.kind=magic", "data.kind"), ("augmentation.flip=[q]", "augmentation.flip"), ("loss.dice=-1", "loss.dice"),
        ("prediction.tile=everything", "prediction.tile"), ("normalization.low=99.9", "below"), ("loss=3", "loss"),
        ("training.lr=inf", "training.lr"), ("training.minutes=inf", "training.minutes"),
        ("training.patch=[0, 0]", "training.patch"),
        ("training.patch=[-4, -4]", "training.patch"), ("prediction.tile=0", "prediction.tile"),
        ("prediction.tile=-5", "prediction.tile"), ("loss.class_weights=[-1, 1]", "loss.class_weights"),
        ("data.spacing={y: 0, x: 0}", "data.spacing"), ("loss.published=unet", "loss.published"),
        ("loss.tversky=-1", "loss.tversky"),
        ("training.drop_every=0", "training.drop_every"), ("training.drop_factor=1", "training.drop_factor"),
        ("training.optimizer=rmsprop", "training.optimizer"), ("instances.weights=none", "instances.weights"),
        ("prediction.rotations=[]", "prediction.rotations"), ("prediction.rotations=[45]", "prediction.rotations"),
    ])
    def test_bad(self, setting, says):
        with pytest.raises(UsageError) as caught:
            DEFAULT.with_settings([setting])
        assert caught.value.exit_code == 2
        assert says in str(caught.value)

    def test_all_losses_off(self):
        with pytest.raises(UsageError, match="nothing would be learnt"):
            DEFAULT.with_settings(["loss.dice=0", "loss.cross_entropy=0"])
        for other in ("loss.tversky=1", "loss.focal=1", "loss.published=unet++"):
            assert DEFAULT.with_settings(["loss.dice=0", "loss.cross_entropy=0", other])

    def test_the_last_one_wins(self):
        assert DEFAULT.with_settings(["training.lr=1", "training.lr=2"]).training.lr == 2

    def test_none_at_all(self):
        assert DEFAULT.with_settings([]) == DEFAULT


class TestBudget:
    def test_both_are_refused(self):
        for make in (lambda: DEFAULT.with_settings(["training.steps=1", "training.minutes=1"]),
                     lambda: resolve_recipe(TrainOptions(steps=1, minutes=1))):
            with pytest.raises(UsageError):
                make()

    def test_a_network_of_ones_own_is_no_detector(self):
        with pytest.raises(UsageError, match="mask-rcnn-small is for detectors"):
            resolve_recipe(TrainOptions(recipe="mask-rcnn-small", network="not_run.py:Net"))

    def test_a_flag_replaces_the_recipes_budget(self):
        recipe = DEFAULT.with_settings(["training.minutes=3"])
        assert resolve_recipe(TrainOptions(recipe=recipe, steps=5)).training.steps == 5
        assert resolve_recipe(TrainOptions(recipe=recipe, steps=5)).training.minutes is None
        assert resolve_recipe(TrainOptions(recipe=recipe)).training.minutes == 3

    def test_without_one_it_is_left_to_the_plan(self):
        training = resolve_recipe(TrainOptions()).training
        assert (training.minutes, training.steps) == (None, None)

    def test_flags_reach_their_settings(self):
        recipe = resolve_recipe(TrainOptions(seed=3, data={"kind": "classes", "ignore": 255}, steps=1))
        assert (recipe.training.seed, recipe.data.kind, recipe.data.ignore) == (3, "classes", 255)

    @pytest.mark.parametrize("options", [{"steps": 0}, {"steps": -1}, {"minutes": 0}, {"minutes": -1}, {"seed": -1},
                                         {"data": {"kind": "magic"}}, {"minutes": float("nan")}])
    def test_impossible_flags(self, options):
        with pytest.raises(UsageError):
            resolve_recipe(TrainOptions(**options))
