"""The works that a Methods paragraph cites, numbered in the order in which its sentences use them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: Key, as sentences have it in `[@key]`: the reference.
SOURCES: Mapping[str, str] = {
    "unet": "Ronneberger O, Fischer P, Brox T. U-Net: convolutional networks for biomedical image segmentation. MICCAI 2015, LNCS "
            "9351: 234–241. doi:10.1007/978-3-319-24574-4_28",
    "unet-3d": "Çiçek Ö, Abdulkadir A, Lienkamp SS, Brox T, Ronneberger O. 3D U-Net: learning dense volumetric segmentation from "
               "sparse annotation. MICCAI 2016, LNCS 9901: 424–432. doi:10.1007/978-3-319-46723-8_49",
    "attention": "Oktay O, Schlemper J, Le Folgoc L, et al. Attention U-Net: learning where to look for the pancreas. MIDL 2018. "
                 "arXiv:1804.03999",
    "unet++": "Zhou Z, Siddiquee MMR, Tajbakhsh N, Liang J. UNet++: a nested U-Net architecture for medical image segmentation. "
              "DLMIA 2018, LNCS 11045: 3–11. doi:10.1007/978-3-030-00889-5_1",
    "fcn": "Long J, Shelhamer E, Darrell T. Fully convolutional networks for semantic segmentation. CVPR 2015: 3431–3440. "
           "doi:10.1109/CVPR.2015.7298965",
    "sliding-window": "Cireşan DC, Giusti A, Gambardella LM, Schmidhuber J. Deep neural networks segment neuronal membranes in "
                      "electron microscopy images. NIPS 2012: 2843–2851",
    "mask-rcnn": "He K, Gkioxari G, Dollár P, Girshick R. Mask R-CNN. ICCV 2017: 2961–2969. doi:10.1109/ICCV.2017.322",
    "faster-rcnn": "Ren S, He K, Girshick R, Sun J. Faster R-CNN: towards real-time object detection with region proposal "
                   "networks. IEEE Trans Pattern Anal Mach Intell 2017, 39(6): 1137–1149. doi:10.1109/TPAMI.2016.2577031",
    "fpn": "Lin T-Y, Dollár P, Girshick R, He K, Hariharan B, Belongie S. Feature pyramid networks for object detection. CVPR "
           "2017: 2117–2125. doi:10.1109/CVPR.2017.106",
    "resnet": "He K, Zhang X, Ren S, Sun J. Deep residual learning for image recognition. CVPR 2016: 770–778. "
              "doi:10.1109/CVPR.2016.90",
    "resnext": "Xie S, Girshick R, Dollár P, Tu Z, He K. Aggregated residual transformations for deep neural networks. CVPR 2017: "
               "1492–1500. doi:10.1109/CVPR.2017.634",
    "batch-norm": "Ioffe S, Szegedy C. Batch normalization: accelerating deep network training by reducing internal covariate "
                  "shift. ICML 2015, PMLR 37: 448–456",
    "he": "He K, Zhang X, Ren S, Sun J. Delving deep into rectifiers: surpassing human-level performance on ImageNet "
          "classification. ICCV 2015: 1026–1034. doi:10.1109/ICCV.2015.123",
    "dropout": "Srivastava N, Hinton G, Krizhevsky A, Sutskever I, Salakhutdinov R. Dropout: a simple way to prevent neural "
               "networks from overfitting. J Mach Learn Res 2014, 15: 1929–1958",
    "nnu-net": "Isensee F, Jaeger PF, Kohl SAA, Petersen J, Maier-Hein KH. nnU-Net: a self-configuring method for deep "
               "learning-based biomedical image segmentation. Nat Methods 2021, 18: 203–211. doi:10.1038/s41592-020-01008-z",
    "soft-dice": "Milletari F, Navab N, Ahmadi S-A. V-Net: fully convolutional neural networks for volumetric medical image "
                 "segmentation. 3DV 2016: 565–571. doi:10.1109/3DV.2016.79",
    "tversky": "Salehi SSM, Erdogmus D, Gholipour A. Tversky loss function for image segmentation using 3D fully convolutional "
               "deep networks. MLMI 2017, LNCS 10541: 379–387. doi:10.1007/978-3-319-67389-9_44",
    "focal": "Lin T-Y, Goyal P, Girshick R, He K, Dollár P. Focal loss for dense object detection. ICCV 2017: 2999–3007. "
             "doi:10.1109/ICCV.2017.324",
    "plug-in": "Falk T, Mai D, Bensch R, et al. U-Net: deep learning for cell counting, detection, and morphometry. Nat Methods "
               "2019, 16: 67–70. doi:10.1038/s41592-018-0261-2",
    "adam": "Kingma DP, Ba J. Adam: a method for stochastic optimization. ICLR 2015. arXiv:1412.6980",
    "adamw": "Loshchilov I, Hutter F. Decoupled weight decay regularization. ICLR 2019. arXiv:1711.05101",
    "momentum": "Sutskever I, Martens J, Dahl G, Hinton G. On the importance of initialization and momentum in deep learning. "
                "ICML 2013, PMLR 28(3): 1139–1147",
    "cosine": "Loshchilov I, Hutter F. SGDR: stochastic gradient descent with warm restarts. ICLR 2017. arXiv:1608.03983",
    "clip": "Pascanu R, Mikolov T, Bengio Y. On the difficulty of training recurrent neural networks. ICML 2013, PMLR 28(3): "
            "1310–1318",
    "averaging": "Polyak BT, Juditsky AB. Acceleration of stochastic approximation by averaging. SIAM J Control Optim 1992, 30(4): "
                 "838–855. doi:10.1137/0330046",
    "stain": "Tellez D, Balkenhol M, Otte-Höller I, et al. Whole-slide mitosis detection in H&E breast histology using PHH3 as a "
             "reference to train distilled stain-invariant convolutional networks. IEEE Trans Med Imaging 2018, 37(9): 2126–2136. "
             "doi:10.1109/TMI.2018.2820199",
    "watershed": "Vincent L, Soille P. Watersheds in digital spaces: an efficient algorithm based on immersion simulations. IEEE "
                 "Trans Pattern Anal Mach Intell 1991, 13(6): 583–598. doi:10.1109/34.87344",
    "pytorch": "Paszke A, Gross S, Massa F, et al. PyTorch: an imperative style, high-performance deep learning library. NeurIPS "
               "2019: 8024–8035. arXiv:1912.01703",
    "numpy": "Harris CR, Millman KJ, van der Walt SJ, et al. Array programming with NumPy. Nature 2020, 585: 357–362. "
             "doi:10.1038/s41586-020-2649-2",
    "scipy": "Virtanen P, Gommers R, Oliphant TE, et al. SciPy 1.0: fundamental algorithms for scientific computing in Python. "
             "Nat Methods 2020, 17: 261–272. doi:10.1038/s41592-019-0686-2",
    "scikit-image": "van der Walt S, Schönberger JL, Nunez-Iglesias J, et al. scikit-image: image processing in Python. PeerJ "
                    "2014, 2: e453. doi:10.7717/peerj.453",
    "dice": "Dice LR. Measures of the amount of ecologic association between species. Ecology 1945, 26(3): 297–302. "
            "doi:10.2307/1932409",
    "dsb": "Caicedo JC, Goodman A, Karhohs KW, et al. Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl. "
           "Nat Methods 2019, 16: 1247–1253. doi:10.1038/s41592-019-0612-7",
    "stardist": "Schmidt U, Weigert M, Broaddus C, Myers G. Cell detection with star-convex polygons. MICCAI 2018, LNCS 11071: "
                "265–273. doi:10.1007/978-3-030-00934-2_30",
    "panoptic": "Kirillov A, He K, Girshick R, Rother C, Dollár P. Panoptic segmentation. CVPR 2019: 9404–9413. "
                "doi:10.1109/CVPR.2019.00963",
    "hausdorff": "Huttenlocher DP, Klanderman GA, Rucklidge WJ. Comparing images using the Hausdorff distance. IEEE Trans Pattern "
                 "Anal Mach Intell 1993, 15(9): 850–863. doi:10.1109/34.232073",
    "assd": "Heimann T, van Ginneken B, Styner MA, et al. Comparison and evaluation of methods for liver segmentation from CT "
            "datasets. IEEE Trans Med Imaging 2009, 28(8): 1251–1265. doi:10.1109/TMI.2009.2013851",
    "nsd": "Nikolov S, Blackwell S, Zverovitch A, et al. Clinically applicable segmentation of head and neck anatomy for "
           "radiotherapy: deep learning algorithm development and validation study. J Med Internet Res 2021, 23(7): e26151. "
           "doi:10.2196/26151",
    "calibration": "Guo C, Pleiss G, Sun Y, Weinberger KQ. On calibration of modern neural networks. ICML 2017, PMLR 70: 1321–1330",
    "bland-altman": "Bland JM, Altman DG. Statistical methods for assessing agreement between two methods of clinical measurement. "
                    "Lancet 1986, 327: 307–310. doi:10.1016/S0140-6736(86)90837-8",
    "bootstrap": "Efron B, Tibshirani RJ. An introduction to the bootstrap. Chapman & Hall 1993",
    "expanded": "Hesterberg TC. What teachers should know about the bootstrap: resampling in the undergraduate statistics "
                "curriculum. Am Stat 2015, 69(4): 371–386. doi:10.1080/00031305.2015.1089789",
    "permutation": "Good PI. Permutation, parametric, and bootstrap tests of hypotheses. Springer 2005. doi:10.1007/b138696",
}

_MARK = re.compile(r" ?\[@([a-z0-9+-]+(?:, ?[a-z0-9+-]+)*)\]")


@dataclass(frozen=True)
class Cited:
    """A paragraph with its references."""

    text: str
    """With numbers in brackets."""
    references: tuple[str, ...]
    """Number 1 first."""


def cited(sentences: Iterable[str]) -> Cited:
    """Sentences in one paragraph, their `[@key]` and `[@key, key]` as numbers; empty ones are left out.

    Raises KeyError for a key that SOURCES lacks.

    >>> found = cited(["A U-Net [@unet] with batch normalisation [@batch-norm].", "", "It is a U-Net [@unet]."])
    >>> found.text, len(found.references)
    ('A U-Net [1] with batch normalisation [2]. It is a U-Net [1].', 2)
    """
    numbers: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        keys = [key.strip() for key in match[1].split(",")]
        for key in keys:
            SOURCES[key]
            numbers.setdefault(key, len(numbers) + 1)
        return f" [{', '.join(str(numbers[k]) for k in keys)}]"

    text = _MARK.sub(number, " ".join(s for s in sentences if s))
    return Cited(text, tuple(SOURCES[key] for key in numbers))


def literal(name: str) -> str:
    """A name of the user's for a sentence: never read as a citation.

    >>> cited([f"It is called {literal('a [@b]')}."]).text
    'It is called a [＠b].'
    """
    return name.replace("[@", "[＠")
