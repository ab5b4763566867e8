"""The same weights and questions give lm-evaluation-harness's own figures, question by question.

The model is written out by hand as a `transformers` model and scored by the harness itself: its
model class, its task file, its scoring.
"""

import json
import warnings
from pathlib import Path

import pytest
import yaml

from tests.tiny import tiny_loaded
from tinyllm.data.multiple_choice import read_multiple_choice
from tinyllm.evaluation.multiple_choice import evaluate, tied_best
from tinyllm.generation.engine import Engine
from tinyllm.generation.loglikelihood import encode_pair

QUESTIONS = Path(__file__).with_name("questions.jsonl")
CONTEXT_LENGTH = 64
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def harness():
    """The imported packages of the reference."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lm_eval.tasks
        import transformers
        from lm_eval.api.task import ConfigurableTask
        from lm_eval.models.huggingface import HFLM

        import datasets
    folder = Path(lm_eval.tasks.__file__).parent / "openbookqa"
    return transformers, HFLM, ConfigurableTask, datasets, folder / "openbookqa.yaml"


@pytest.fixture(scope="module")
def loaded():
    return tiny_loaded(context_length=CONTEXT_LENGTH, seed=4)


@pytest.fixture(scope="module")
def reference(harness, loaded, tmp_path_factory):
    """The harness's model around the same weights."""
    transformers, harness_model, *_ = harness
    model, tokenizer = loaded.model, loaded.tokenizer
    config = model.config
    copied = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.n_layers,
            num_attention_heads=config.n_heads,
            num_key_value_heads=config.n_kv_heads,
            max_position_embeddings=config.context_length,
            rms_norm_eps=config.norm_eps,
            rope_theta=config.rope_theta,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.end_of_text_id,
        )
    ).eval()
    missing, unexpected = copied.load_state_dict(model.state_dict(), strict=False)
    assert (set(missing), unexpected) <= ({"lm_head.weight"}, [])
    copied.tie_weights()
    file = tmp_path_factory.mktemp("reference") / "tokenizer.json"
    file.write_text(tokenizer.to_json(), encoding="utf-8")
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(file), eos_token="<|endoftext|>", model_max_length=CONTEXT_LENGTH
    )
    return harness_model(
        pretrained=copied, tokenizer=fast, device="cpu", batch_size=4, max_length=CONTEXT_LENGTH
    )


def make_task(harness, rows):
    """The harness's own task file, fed with rows in the layout of the Hub."""
    _, _, configurable_task, datasets, file = harness
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    config["metric_list"].append(
        {"metric": "acc_bytes", "aggregation": "mean", "higher_is_better": True}
    )
    config["custom_dataset"] = lambda **_: {
        split: datasets.Dataset.from_list(rows) for split in ("train", "validation", "test")
    }
    return configurable_task(config=config)


@pytest.fixture(scope="module")
def ours(loaded):
    return evaluate(Engine(loaded), list(read_multiple_choice(str(QUESTIONS))), batch_size=8)


def answers_of(task, reference):
    """Per question: log-likelihoods and scores, by the harness."""
    answers = []
    for doc in task.test_docs():
        requests = task.construct_requests(
            doc=doc,
            ctx=task.doc_to_text(doc),
            metadata=("openbookqa", 0, 1),
        )
        scored = reference.loglikelihood(requests, disable_tqdm=True)
        answers.append((scored, task.process_results(doc, scored)))
    return answers


@pytest.fixture(scope="module")
def theirs(harness, reference):
    rows = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    return answers_of(make_task(harness, rows), reference)


def test_the_questions_are_enough_and_some_do_not_fit_the_context(ours):
    assert ours.n_questions >= 20
    assert 0 < ours.n_truncated < ours.n_questions


def test_every_log_likelihood_agrees(ours, theirs):
    for prediction, (scored, _) in zip(ours.predictions, theirs, strict=True):
        assert prediction.nats == pytest.approx([nats for nats, _ in scored], abs=1e-4)


@pytest.mark.parametrize("metric", ["acc", "acc_norm", "acc_bytes"])
def test_every_pick_agrees(ours, theirs, metric):
    for prediction, (_, scores) in zip(ours.predictions, theirs, strict=True):
        [pick] = tied_best(prediction.values(metric))
        assert float(pick == prediction.question.answer) == scores[metric]


@pytest.mark.parametrize("metric", ["acc", "acc_norm", "acc_bytes"])
def test_the_totals_and_their_errors_agree(ours, theirs, metric):
    from lm_eval.api.metrics import mean_stderr

    credits = [scores[metric] for _, scores in theirs]
    assert ours.scores[metric].value == pytest.approx(sum(credits) / len(credits))
    assert ours.scores[metric].standard_error == pytest.approx(mean_stderr(credits))


@pytest.mark.parametrize("context", ["A fox", "A fox ", "A fox  ", "What is", "naïve 🌍 ", "a\n"])
def test_pairs_are_tokenised_alike(loaded, reference, context):
    context_ids, continuation_ids, _ = encode_pair(loaded.tokenizer, context, " red house")
    assert (context_ids, continuation_ids) == reference._encode_pair(context, " red house")


@pytest.mark.real_data
def test_published_questions_get_the_same_figures(harness, loaded, reference, real_data):
    path = real_data / "openbookqa" / "Main" / "dev.jsonl"
    questions = list(read_multiple_choice(str(path)))[:60]
    rows = [
        {
            "id": question.id,
            "question_stem": question.question,
            "choices": {"text": list(question.choices), "label": ["A", "B", "C", "D"]},
            "answerKey": "ABCD"[question.answer],
        }
        for question in questions
    ]
    theirs = answers_of(make_task(harness, rows), reference)
    ours = evaluate(Engine(loaded), questions)
    for prediction, (scored, scores) in zip(ours.predictions, theirs, strict=True):
        assert prediction.nats == pytest.approx([nats for nats, _ in scored], abs=1e-4)
        for metric in ("acc", "acc_norm", "acc_bytes"):
            [pick] = tied_best(prediction.values(metric))
            assert float(pick == prediction.question.answer) == scores[metric]
