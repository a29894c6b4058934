"""The Beam pipeline of `trainers.purify`.

What a purifier makes of an image depends in the last digits, and DefenseGAN's starts altogether, on
its place in a batch. So that a second run gives the same, images are batched in the order of their
keys within a shard, not as they come.
"""

import contextlib
import io
import json
import zlib
from pathlib import Path

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from tfpurify.files import aside, write_aside
from tfpurify.serving.bundle import Bundle

_SUFFIXES = (".png", ".jpg", ".jpeg")
_KINDS = ("purified", "rejected")
_RUNNER = "FnApiRunner"


def run(options, beam_arguments):
    """Runs the pipeline and returns how many images were read, purified and rejected.

    Args:
        options: `trainers.purify`'s flags by name.
        beam_arguments: Beam's own flags.

    Raises:
        ValueError: If nothing matches the pattern, a name is not UTF-8, there is no bundle of a
            defence, or Beam's flags are wrong.
    """
    folder, shards = Path(options["output_dir"]), options["shards"]
    (matched,) = FileSystems.match([options["input_pattern"]])
    paths = sorted(metadata.path for metadata in matched.metadata_list)
    if not paths:
        pattern = options["input_pattern"]
        raise ValueError(f"`input_pattern` must match a file. Received: {pattern}")
    for path in paths:
        if path != path.encode("utf-8", "replace").decode("utf-8"):
            raise ValueError(f"`input_pattern` must match names in UTF-8. Received: {path!r}")
    bundle = Bundle(options["bundle"])  # one that is not there is found before anything is read
    name = "serve_image_bytes"
    if name not in bundle.signatures or "purified_images" not in bundle.outputs(name):
        raise ValueError(
            "`bundle` must be that of a purifier and its classifier, which `trainers.export` "
            f"writes. Received: {bundle.folder}"
        )
    handler = BundleHandler(str(bundle.folder))  # not a version that comes meanwhile
    pipeline = beam.Pipeline(options=_beam_options(list(beam_arguments)))  # refuses what is wrong
    _remove_older(folder, paths)
    with pipeline:
        whole, broken = (
            pipeline
            | beam.Create(paths)
            | beam.Reshuffle()
            | beam.FlatMap(read, options["feature"])
            | beam.Partition(lambda element, _: int(element["reason"] is not None), 2)
        )
        purified = (
            whole
            | beam.Map(_with_shard, shards)
            | "Whole" >> beam.GroupByKey()
            | beam.FlatMap(_batches, options["batch_size"])
            | RunInference(handler.with_no_batching())
        )
        found = (purified, broken) | beam.Flatten()
        every_shard = pipeline | "Shards" >> beam.Create([(i, []) for i in range(shards)])
        counts = (
            (found | "Found" >> beam.Map(_with_shard, shards), every_shard)
            | "All" >> beam.Flatten()
            | beam.GroupByKey()
            | beam.Map(write, str(folder), shards)
        )
        counts | beam.CombineGlobally(_sums) | "Counts" >> beam.Map(_write_counts, str(folder))
    return json.loads((folder / "counts.json").read_text(encoding="utf-8"))


def _beam_options(arguments):
    """Returns Beam's options, with its own runner in Python where none is named.

    Its usual one first tries to fetch a runner in Go from the internet.

    Raises:
        ValueError: If Beam does not know a flag, or refuses its value.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            options = PipelineOptions([f"--runner={_RUNNER}", *arguments])
            known = options.get_all_options()
            unknown = set(options.get_all_options(retain_unknown_options=True)) - set(known)
    except SystemExit as end:
        if not end.code:  # --help
            raise
        reason = said.getvalue().strip().rpartition("error: ")[2]
        raise ValueError(f"Beam's flags must be right. Received: {reason}") from end
    runner = known["runner"].rpartition(".")[2].lower()
    if unknown and runner in (_RUNNER.lower(), "directrunner"):  # others have flags of their own
        raise ValueError(f"Beam's flags must be known to it. Received: {sorted(unknown)}")
    return options


def _remove_older(folder, paths):
    """Removes an earlier output, whose shards a glob would count beside the new ones."""
    patterns = ("counts.json", "purified-*.tfrecord", "rejected-*.jsonl")
    patterns += (".purified-*", ".rejected-*")
    older = [path for pattern in patterns for path in folder.glob(pattern)]
    if {path.resolve() for path in older} & {Path(path).resolve() for path in paths}:
        raise ValueError(f"`input_pattern` must match nothing that is replaced. Received: {folder}")
    for path in older:
        path.unlink()


def read(path, feature):
    """Yields a file's images: `key`, `data` (an encoded image) and `reason`, None or why not."""
    import tensorflow as tf

    if path.lower().endswith(_SUFFIXES):
        with FileSystems.open(path) as file:
            yield {"key": path, "data": file.read(), "reason": None}
        return
    records, place = iter(tf.data.TFRecordDataset(path)), -1
    while True:
        place += 1
        key = f"{path}#{place}"
        try:
            record = next(records).numpy()
        except StopIteration:
            return
        except tf.errors.DataLossError as error:
            # Where a record is damaged, the beginning of the next is not known.
            message = error.message.rpartition("}} ")[2].partition(" [Op")[0]
            reason = f"the file is damaged from here on: {message}"
            yield {"key": key, "data": None, "reason": reason}
            return
        yield {"key": key, **_image_of(record, feature)}


def _image_of(record, feature):
    import tensorflow as tf

    try:
        features = tf.train.Example.FromString(record).features.feature
        (data,) = features[feature].bytes_list.value
    except ValueError:
        return {"data": None, "reason": f"no example with one {feature}"}
    except Exception as error:  # protobuf's own DecodeError, whose module has moved before
        return {"data": None, "reason": f"no example: {error}"}
    return {"data": data, "reason": None}


class BundleHandler(ModelHandler):
    """A SavedModel's `serve_image_bytes` for `RunInference`, loaded once in each process.

    Beam's own handler for TensorFlow does not take SavedModels under Keras 3.

    Args:
        bundle: Folder that `trainers.export` wrote.
    """

    def __init__(self, bundle):
        super().__init__()
        self.bundle = bundle

    def load_model(self):
        return Bundle(self.bundle)

    def run_inference(self, batch, model, inference_args=None):
        """Yields for each element `key`, `reason` and, without one, the outputs."""
        import tensorflow as tf

        data = tf.constant([element["data"] for element in batch])
        outputs = model.signatures["serve_image_bytes"](image_bytes=data)
        images = tf.cast(tf.round(255.0 * outputs.pop("purified_images")), tf.uint8)
        outputs = {name: value.numpy() for name, value in outputs.items()}
        for index, element in enumerate(batch):
            error = outputs["error"][index].decode()
            yield {
                "key": element["key"],
                "reason": error or None,
                "image": tf.io.encode_png(images[index]).numpy(),
                **{
                    name: outputs[name][index].item()
                    for name in ("label", "reconstruction_error", "is_flagged", "is_resized")
                    if name in outputs
                },
            }


def _with_shard(element, shards):
    return zlib.crc32(element["key"].encode()) % shards, [element]


def _sorted(lists):
    return sorted((one for part in lists for one in part), key=lambda one: one["key"])


def _batches(shard, batch_size):
    """Yields a shard's elements in batches, in the order of their keys."""
    elements = _sorted(shard[1])
    for start in range(0, len(elements), batch_size):
        yield elements[start : start + batch_size]


def write(shard, folder, shards):
    """Writes one shard, sorted by key, and returns its counts."""
    import tensorflow as tf

    index, lists = shard
    elements = _sorted(lists)
    kinds = [[e for e in elements if (e["reason"] is not None) == is_bad] for is_bad in (0, 1)]
    name = f"{index:05d}-of-{shards:05d}"
    path = Path(folder) / f"purified-{name}.tfrecord"
    with aside(path) as hidden, tf.io.TFRecordWriter(str(hidden)) as writer:
        for element in kinds[0]:
            writer.write(_example(element))
    lines = [json.dumps({key: one[key] for key in ("key", "reason")}) + "\n" for one in kinds[1]]
    write_aside(Path(folder) / f"rejected-{name}.jsonl", "".join(lines))
    return dict(zip(_KINDS, map(len, kinds), strict=True))


def _example(element):
    import tensorflow as tf

    features = {}
    for name, value in element.items():
        if name == "reason":
            continue
        feature = features[name] = tf.train.Feature()
        if isinstance(value, bytes | str):
            feature.bytes_list.value.append(value.encode() if isinstance(value, str) else value)
        elif isinstance(value, float):
            feature.float_list.value.append(value)
        else:
            feature.int64_list.value.append(int(value))
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def _sums(counts):
    """Returns the sums of counts by name; Beam adds sums up again."""
    total = dict.fromkeys(_KINDS, 0)
    for one in counts:
        total = {name: total[name] + one[name] for name in total}
    return total


def _write_counts(counts, folder):
    counts = {"read": sum(counts.values()), **counts}
    write_aside(Path(folder) / "counts.json", json.dumps(counts) + "\n")
