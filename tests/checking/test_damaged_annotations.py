"""Files of annotations that are cut off or empty are named, not left out."""

import numpy as np
import pytest

from biomask import api
from biomask.io import write_picture

GOOD = ('{"type":"FeatureCollection","features":[{"type":"Feature","geometry":{"type":"Polygon","coordinates":'
        '[[[5,5],[40,5],[40,40],[5,40],[5,5]]]},"properties":{"classification":{"name":"cell"}}}]}')


@pytest.mark.parametrize(("name", "content"), [
    ("b.geojson", GOOD[:20].encode()), ("b.geojson", GOOD[:120].encode()), ("b.geojson", b""), ("b.roi", b""),
    ("b.roi", b"Iout\x00"), ("b.geojson.gz", GOOD.encode())])
def test_it_is_an_error_by_name(tmp_path, name, content):
    for image in "ab":
        write_picture(tmp_path / "images" / f"{image}.png", np.random.default_rng(ord(image)).integers(0, 255, (64, 64), np.uint8))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.geojson").write_text(GOOD)
    (tmp_path / "labels" / name).write_bytes(content)
    checked = api.check(tmp_path)
    assert not checked.usable
    assert any(name in p.what for p in checked.problems if p.level == "error")
