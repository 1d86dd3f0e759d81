"""The model card says what a model was made from, where it was never tried, and what it is not."""

import json
from dataclasses import replace

import pytest

from biomask import api
from biomask.data.input_range import InputRange
from biomask.labels import Legend
from biomask.reports.card import FEW_IMAGES, MEDICAL, card_markdown, card_section, model_card
from biomask.reports.origin import LONGEST, origin_said
from biomask.reports.run import Run, digest

TINY = ("network.options.width=2", "network.options.depth=1", "training.batch=2")


@pytest.fixture
def inputs():
    return InputRange(images=3, smallest=(8, 8), largest=(16, 16), dtypes=("uint8", "uint16"), spacing={"y": (0.5, 1.0), "x": (0.5,
                                                                                                                               1.0)},
                      dark=((1, 2),), middle=((11, 12),), bright=((201, 202),), contrast=((1, 2),), position=((0.1, 0.2),),
                      typical_contrast=(1.0,), detail=(), grey=(True, True))


def part(card, title):
    return " ".join(dict(card.parts)[title])


def test_every_card_says_what_it_is_not(header, run):
    card = model_card(header, run)
    assert part(card, "Use") == MEDICAL
    assert part(card, "Licence").count("not known to biomask") == 2
    assert [title for title, _ in card.parts] == ["What it was trained on", "What it is meant for", "What it was not tried on",
                                                  "Limits",
                                                  "Licence", "Use"]


def test_ranges_of_the_training_images(header, run, inputs):
    said = part(model_card(header.model_copy(update={"inputs": inputs}), run), "What it was not tried on")
    for known in ("0.5 µm a pixel to 1 µm a pixel", "uint8 and uint16", "below 11 to 12", "below 201 to 202", "24 × 32 px",
                  "volumes"):
        assert known in said
    assert "pixel size is not known" not in said


def test_what_is_unknown_is_said_to_be(header):
    card = model_card(header.model_copy(update={"scores": {}}), Run())
    assert "whose pixel size is not known" in part(card, "What it was not tried on")
    assert "nothing is known of how right it is" in part(card, "Limits")
    assert dict(card.facts)["validation Dice"] == "none"


@pytest.mark.parametrize("images", [1, FEW_IMAGES - 1, FEW_IMAGES])
def test_few_images_are_called_few(header, run, images):
    limits = part(model_card(header, Run(images=images)), "Limits")
    assert (f"seen {images} image" in limits) == (images < FEW_IMAGES)


def test_weak_classes_are_named(header, run):
    legend = Legend.of_values([0, 1, 2], {1: "common", 2: "weak"})
    scores = {"validation.score": 0.2, "validation.ap50": 0.1, "validation.common": 0.9, "validation.weak": 0.25, "trial.none": 0.1}
    limits = part(model_card(header.model_copy(update={"legend": legend.to_json(), "scores": scores,
                                                       "shares": {"common": 0.5, "weak": 0.0025}}), run), "Limits")
    assert "weak was rare in training (0.0025 of the pixels)" in limits
    assert "weak was hardly learnt (Dice 0.25" in limits
    assert limits.count("hardly learnt") == limits.count("rare in training") == 1


def test_groups_and_stops(header, run):
    assert "a sample of its own" in part(model_card(header, run), "Limits")
    stopped = Run(images=40, groups=4, groups_by="by folder", state="stopped by SIGINT")
    limits = part(model_card(header, stopped), "Limits")
    assert "a sample of its own" not in limits
    assert "stopped by SIGINT" in limits


def test_as_markdown_it_holds_the_same_and_no_tags(header, run, attack):
    card = model_card(header, run)
    page = card_markdown(header, run, card)
    assert attack not in page
    plain = page.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    for key, value in card.facts:
        assert f"- **{key}**: {value}" in plain
    for title, texts in card.parts:
        assert f"## {title}\n" in plain
        assert all(t in plain for t in texts)
    assert "## Methods" in plain
    assert "1. Ronneberger" in plain


def test_as_markdown_signs_stay_signs(header, run):
    card = model_card(header, run)
    said = replace(card, facts=(*card.facts, ("sign", "p < 0.05 & q<3 > 1"), ("tags", "<b> </i> <!-- --> &lt; &#60;")))
    page = card_markdown(header, run, said)
    assert "- **sign**: p < 0.05 & q<3 > 1\n" in page
    assert "- **tags**: &lt;b> &lt;/i> &lt;!-- --> &amp;lt; &amp;#60;\n" in page


def test_as_a_section_it_holds_the_same(header, run):
    card = model_card(header, run)
    blocks = card_section(card).blocks
    assert blocks[0].pairs == card.facts
    assert tuple(zip((b.text for b in blocks[1::2]), (b.texts for b in blocks[2::2]), strict=True)) == card.parts


def test_the_hash_of_all_files_tells_any_change(header):
    hashes = {"a:image": "1", "a:labels": "2"}
    assert digest(hashes) == digest(dict(reversed(hashes.items())))
    assert len({digest(h) for h in (hashes, {"a:image": "1"}, {"a:image": "2", "a:labels": "1"}, {**hashes, "b:image": "1"})}) == 4


class TestOrigin:
    def test_a_card_says_where_the_licence_of_the_data_is_stated(self, header, run):
        said = part(model_card(header, replace(run, origin="As stated in nuclei/LICENSE.")), "Licence")
        assert "As stated in nuclei/LICENSE." in said
        assert said.count("not known to biomask") == 1  # the licence of the model

    def test_files_of_the_folder_itself_are_named(self, tmp_path):
        data = tmp_path / "nuclei"
        for name in ("README.md", "Licence.txt", "readme.tif", "notes.txt", "sub/LICENSE"):
            (data / name).parent.mkdir(parents=True, exist_ok=True)
            (data / name).write_text("CC0")
        said = origin_said(data)
        assert said.endswith("as stated in nuclei/Licence.txt and nuclei/README.md.")

    def test_the_licence_that_bids_declares_is_quoted_in_a_line(self, tmp_path):
        (tmp_path / "dataset_description.json").write_text(json.dumps({"Name": "n", "License": "CC BY\n4.0" + "x" * 999}))
        assert "(CC BY 4.0x" in origin_said(tmp_path)
        assert len(origin_said(tmp_path)) < len(str(tmp_path)) + 3 * LONGEST

    @pytest.mark.parametrize("text", ["", "[]", '{"License": 3}', "{" * 9999, "\x00"])
    def test_one_that_declares_none_is_named_alone(self, tmp_path, text):
        (tmp_path / "dataset_description.json").write_text(text)
        assert origin_said(tmp_path).endswith(f"training images: as stated in {tmp_path.name}/dataset_description.json.")

    def test_nothing_is_made_up(self, tmp_path):
        (tmp_path / "images").mkdir()
        assert origin_said(tmp_path) == origin_said(tmp_path / "gone") == ""

    def test_a_training_looks_for_it(self, make_dataset, tmp_path):
        data = make_dataset(tmp_path / "my cells")
        (data / "LICENSE").write_text("CC0")
        api.train(data, tmp_path / "m", api.TrainOptions(settings=TINY, steps=1, device="cpu"))
        for page in ("model_card.md", "report.html"):
            assert "as stated in my cells/LICENSE" in (tmp_path / "m" / page).read_text(encoding="utf-8")
