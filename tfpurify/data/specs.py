"""The data sets: what a model needs to know of their images."""

import dataclasses

from tfpurify import vocabulary
from tfpurify.arguments import require_one_of

_MNIST_HOST = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_FASHION_MNIST_HOST = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_CIFAR_HOST = "https://www.cs.toronto.edu/~kriz/"


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """What the models need to know about a data set.

    Args:
        name: TFDS's name of the data set.
        image_shape: (height, width, channels).
        num_classes: number of classes.
        class_names: one name per class, in the order of the labels.
        default_classifier: the study's classifier for this data set, for `build_classifier`.
        download_url: a file of the data set on the host that TFDS downloads it from.
        flags: pairs of flag and value by which a command line names a data set of one's own, and
            its classifier; nothing for the three.
    """

    name: str
    image_shape: tuple[int, int, int]
    num_classes: int
    class_names: tuple[str, ...]
    default_classifier: str
    download_url: str
    flags: tuple = ()


_FASHION = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
_CIFAR = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"
DATASETS = {
    spec.name: spec
    for spec in (
        DatasetSpec(
            "mnist",
            (28, 28, 1),
            10,
            tuple("0123456789"),
            vocabulary.STUDY_CLASSIFIERS["mnist"],
            _MNIST_HOST + "t10k-labels-idx1-ubyte.gz",
        ),
        DatasetSpec(
            "fashion_mnist",
            (28, 28, 1),
            10,
            tuple(_FASHION.split(",")),
            vocabulary.STUDY_CLASSIFIERS["fashion_mnist"],
            _FASHION_MNIST_HOST + "t10k-labels-idx1-ubyte.gz",
        ),
        DatasetSpec(
            "cifar10",
            (32, 32, 3),
            10,
            tuple(_CIFAR.split(",")),
            vocabulary.STUDY_CLASSIFIERS["cifar10"],
            _CIFAR_HOST + "cifar-10-binary.tar.gz",
        ),
    )
}


def get_spec(name):
    """Returns the `DatasetSpec` of data set `name`."""
    require_one_of(DATASETS, name=name)
    return DATASETS[name]
