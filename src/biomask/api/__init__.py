"""The verbs: what the command line does, as functions with typed results.

>>> from pathlib import Path
>>> from tempfile import TemporaryDirectory
>>> from biomask import api
>>> from biomask.data.synthetic import phase_contrast_cells
>>> from biomask.io import write_picture
>>> place = TemporaryDirectory()
>>> data = Path(place.name) / "data"
>>> for number in range(4):
...     image, cells = phase_contrast_cells(seed=0, index=number, size=(48, 48))
...     write_picture(data / "images" / f"{number}.png", image)
...     write_picture(data / "masks" / f"{number}.png", (255 * (cells > 0)).astype("uint8"))

>>> checked = api.check(data)
>>> checked.usable, checked.to_json()["kind"]
(True, 'classes')

>>> small = ["network.options.width=4", "network.options.depth=1", "training.patch=[32, 32]", "prediction.augment=none"]
>>> trained = api.train(data, f"{place.name}/model", api.TrainOptions(steps=3, settings=small, device="cpu"))
>>> trained.step, trained.score_is
(3, 'Dice')

>>> predicted = api.predict(trained.model, data / "images", f"{place.name}/out", api.PredictOptions(device="cpu"))
>>> predicted.done
('0', '1', '2', '3')

>>> model = api.load_model(trained.model)
>>> found = api.predict_array(model, image, spacing={"y": 0.5, "x": 0.5})
>>> found.mask.shape, found.probabilities.shape, found.channels
((48, 48), (2, 48, 48), ('background', 'class 255'))

>>> evaluation = api.evaluate(predicted.out, data)
>>> evaluation.n_images, 0 <= evaluation.mean["dice"] <= 1, evaluation.intervals["dice"].kind
(4, True, 'range')

>>> converted = api.convert(data, f"{place.name}/outlines", "geojson")
>>> [path.name for path in converted.files]
['0.geojson', '1.geojson', '2.geojson', '3.geojson']
>>> place.cleanup()
"""

from biomask import recipes as recipes
from biomask.api.arrays import Prediction, predict_array
from biomask.api.check import check
from biomask.api.compare import CompareOptions, compare
from biomask.api.convert import convert
from biomask.api.datasets import datasets, get_dataset
from biomask.api.doctor import doctor
from biomask.api.evaluate import EvaluateOptions, Evaluation, Interval, evaluate
from biomask.api.networks import build, load
from biomask.api.own import own_network
from biomask.api.predict import PredictOptions, PredictResult, predict
from biomask.api.settings import TrainOptions, data_settings, resolve_recipe
from biomask.api.train import TrainResult, train
from biomask.checking import Checked
from biomask.checkpoint import Model, load_model
from biomask.doctor import Diagnosis
from biomask.exports.convert import Converted
from biomask.public import Got, Offer

__all__ = ["Checked", "CompareOptions", "Converted", "Diagnosis", "EvaluateOptions", "Evaluation", "Got", "Interval", "Model",
           "Offer", "PredictOptions", "PredictResult", "Prediction", "TrainOptions", "TrainResult", "build", "check", "compare",
           "convert", "data_settings", "datasets", "doctor", "evaluate", "get_dataset", "load", "load_model", "own_network",
           "predict", "predict_array", "resolve_recipe", "train"]
