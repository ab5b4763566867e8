"""The same weights and questions give lm-evaluation-harness's own figures, question by question.

The model is written out by hand as a `transformers` model and scored by the harness itself: its
model class, its task files with the functions they name, its scoring. The questions are ours, in
the columns in which the data sets are published.
"""

import dataclasses
import json
import warnings
from pathlib import Path

import pytest
import tokenizers

from tests.model.test_parity import reference as hugging_face_model
from tests.tiny import tiny_loaded, tiny_tokenizer
from tinyllm.data.multiple_choice import read_multiple_choice
from tinyllm.data.multiple_choice_task import known_tasks
from tinyllm.data.published import NORMALISERS
from tinyllm.data.tally import Tally
from tinyllm.evaluation.multiple_choice import Asking, evaluate
from tinyllm.generation.engine import Engine
from tinyllm.generation.loglikelihood import encode_pair
from tinyllm.model.hf_weights import place_of
from tinyllm.reporting import SilentReporter
from tinyllm.tokenizer import Tokenizer

HERE = Path(__file__).parent
CONTEXT_LENGTH = 128
TASK_FILES = {
    "openbookqa": "openbookqa/openbookqa.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "piqa": "piqa/piqa.yaml",
    "winogrande": "winogrande/default.yaml",
}
METRICS = ("acc", "acc_norm", "acc_bytes")
pytestmark = pytest.mark.filterwarnings("ignore")


def rows_of(task):
    path = HERE / "questions.jsonl" if task == "openbookqa" else HERE / f"published/{task}.jsonl"
    return path, [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def comparable(task):
    """The scores that both have: the harness divides a sentence with a gap by other lengths."""
    return ("acc",) if task == "winogrande" else METRICS


@pytest.fixture(scope="module")
def harness():
    """The imported packages of the reference."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lm_eval.tasks
        import transformers
        from lm_eval.api.task import ConfigurableTask
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks._yaml_loader import load_yaml

        import datasets
    folder = Path(lm_eval.tasks.__file__).parent
    return transformers, HFLM, ConfigurableTask, datasets, load_yaml, folder


@pytest.fixture(scope="module", params=["llama", "gpt-neo", "llama with a first token"])
def loaded(request):
    """A model of each family, and one that wants a special token before every text."""
    family = request.param.split()[0]
    made = tiny_loaded(context_length=CONTEXT_LENGTH, seed=4, family=family)
    if family == request.param:
        return made
    inner = tokenizers.Tokenizer.from_str(made.tokenizer.to_json())
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    return dataclasses.replace(made, tokenizer=Tokenizer.from_json(inner.to_str()))


@pytest.fixture(scope="module")
def reference(harness, loaded, tmp_path_factory):
    """The harness's model around the same weights."""
    transformers, harness_model, *_ = harness
    model, tokenizer = loaded.model, loaded.tokenizer
    copied = hugging_face_model(model.config)
    family = model.config.family
    weights = {place_of(name, family).name: w for name, w in model.state_dict().items()}
    missing, unexpected = copied.load_state_dict(weights, strict=False)
    assert all("lm_head" in name or name.endswith("attention.bias") for name in missing)
    assert unexpected == []
    copied.tie_weights()
    file = tmp_path_factory.mktemp("reference") / "tokenizer.json"
    file.write_text(tokenizer.to_json(), encoding="utf-8")
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(file),
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        model_max_length=CONTEXT_LENGTH,
    )
    return harness_model(
        pretrained=copied, tokenizer=fast, device="cpu", batch_size=4, max_length=CONTEXT_LENGTH
    )


def make_task(harness, name, rows, **changes):
    """The harness's own task file, fed with rows in the layout of the Hub."""
    _, _, configurable_task, datasets, load_yaml, folder = harness
    config = load_yaml(folder / TASK_FILES[name], resolve_func=True)
    config["metric_list"] = [
        {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in METRICS
    ]
    config["custom_dataset"] = lambda **_: {
        split: datasets.Dataset.from_list(rows) for split in ("train", "validation", "test")
    }
    return configurable_task(config={**config, **changes})


def process(harness, name, rows):
    """Return rows as the task file's own function makes them."""
    return list(make_task(harness, name, rows).eval_docs)


def answers_of(task, reference):
    """Per question: log-likelihoods and scores, by the harness."""
    answers = []
    for doc in task.eval_docs:
        requests = task.construct_requests(
            doc=doc, ctx=task.fewshot_context(doc, 0), metadata=("task", 0, 1)
        )
        scored = reference.loglikelihood(requests, disable_tqdm=True)
        answers.append((scored, task.process_results(doc, scored)))
    return answers


def same(result, theirs, metrics):
    """Demand the harness's sums and picks, question by question."""
    for prediction, (scored, scores) in zip(result.predictions, theirs, strict=True):
        assert prediction.nats == pytest.approx([nats for nats, _ in scored], abs=1e-4)
        for metric in metrics:
            [pick] = prediction.best(metric)
            assert float(pick == prediction.question.answer) == scores[metric]


@pytest.mark.parametrize("name", TASK_FILES)
def test_every_sum_and_every_pick_agrees(harness, loaded, reference, name):
    path, rows = rows_of(name)
    task = known_tasks()[name]
    questions = list(read_multiple_choice(str(path), columns=task.columns))
    ours = evaluate(Engine(loaded), questions, Asking(task), batch_size=8)
    theirs = answers_of(make_task(harness, name, rows), reference)
    same(ours, theirs, comparable(name))
    if name in ("arc_easy", "hellaswag"):
        assert 0 < ours.n_truncated < ours.n_questions  # some do not fit the context


@pytest.mark.parametrize("name", ["openbookqa", "arc_easy", "hellaswag"])
def test_the_totals_and_their_errors_agree(harness, loaded, reference, name):
    from lm_eval.api.metrics import mean_stderr

    path, rows = rows_of(name)
    task = known_tasks()[name]
    questions = list(read_multiple_choice(str(path), columns=task.columns))
    ours = evaluate(Engine(loaded), questions, Asking(task))
    theirs = answers_of(make_task(harness, name, rows), reference)
    for metric in METRICS:
        credits = [scores[metric] for _, scores in theirs]
        assert ours.scores[metric].value == pytest.approx(sum(credits) / len(credits))
        assert ours.scores[metric].standard_error == pytest.approx(mean_stderr(credits))


@pytest.mark.parametrize("name", TASK_FILES)
def test_examples_before_the_question_are_the_harness_s_own_text(harness, name):
    path, rows = rows_of(name)
    columns = known_tasks()[name].columns
    questions = list(read_multiple_choice(str(path), columns=columns))
    asking = Asking(known_tasks()[name], shots=tuple(questions[:2]))
    samples = {"sampler": "first_n", "samples": process(harness, name, rows)[:2]}
    task = make_task(harness, name, rows[2:], fewshot_config=samples)
    tokenizer = tiny_tokenizer()
    for question, doc in zip(questions[2:], task.eval_docs, strict=True):
        requests = task.construct_requests(
            doc=doc, ctx=task.fewshot_context(doc, 2), metadata=("task", 0, 1)
        )
        assert ["".join(request.args) for request in requests] == [
            tokenizer.decode(request.context + request.continuation)
            for request in asking.cloze_requests(question, tokenizer)
        ]


@pytest.mark.parametrize("name", TASK_FILES)
def test_turns_are_the_harness_s_own_and_the_answer_follows_without_a_space(harness, chatty, name):
    path, rows = rows_of(name)
    task, template = known_tasks()[name], chatty.template
    questions = list(read_multiple_choice(str(path), columns=task.columns))
    asking = Asking(task, shots=tuple(questions[:2]), template=template)

    def as_text(messages, add_generation_prompt):
        parts = {"user": template.user, "assistant": template.assistant_header + "{content}"}
        text = [parts[m["role"]].replace("{content}", m["content"]) for m in messages]
        return "".join(text) + template.assistant_header

    samples = {"sampler": "first_n", "samples": process(harness, name, rows)[:2]}
    theirs = make_task(harness, name, rows[2:], fewshot_config=samples)
    how = {"apply_chat_template": True, "chat_template": as_text}
    for question, doc in zip(questions[2:], theirs.eval_docs, strict=True):
        context = theirs.fewshot_context(doc, 2, fewshot_as_multiturn=True, **how)
        requests = theirs.construct_requests(doc=doc, ctx=context, metadata=("t", 2, 1), **how)
        assert ["".join(request.args) for request in requests] == [
            chatty.tokenizer.decode(request.context + request.continuation)
            for request in asking.cloze_requests(question, chatty.tokenizer)
        ]


@pytest.mark.parametrize("name", ["arc_easy", "hellaswag", "piqa", "winogrande"])
def test_a_downloaded_file_holds_the_published_questions(tmp_path, name):
    path, _ = rows_of(name)
    _, normalise = NORMALISERS[name]
    written = tmp_path / "validation.jsonl"
    written.write_bytes(b"".join(normalise([str(path)], Tally(), SilentReporter())))
    columns = known_tasks()[name].columns
    published = list(read_multiple_choice(str(path), columns=columns))
    assert list(read_multiple_choice(str(written), columns=columns)) == published


@pytest.mark.parametrize("context", ["A fox", "A fox ", "A fox  ", "What is", "naïve 🌍 ", "a\n"])
def test_pairs_are_tokenised_alike(loaded, reference, context):
    context_ids, continuation_ids, _ = encode_pair(loaded.tokenizer, context, " red house")
    context_ids = [*loaded.tokenizer.prefix_ids, *context_ids]
    assert (context_ids, continuation_ids) == reference._encode_pair(context, " red house")


@pytest.mark.real_data
def test_published_questions_get_the_same_figures(harness, loaded, reference, real_data):
    path = real_data / "openbookqa" / "Main" / "dev.jsonl"
    questions = list(read_multiple_choice(str(path)))[:60]
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines()[:60]:
        row = json.loads(line)
        choices = row["question"]["choices"]
        rows.append(
            {
                "id": row["id"],
                "question_stem": row["question"]["stem"],
                "choices": {key: [c[key] for c in choices] for key in ("text", "label")},
                "answerKey": row["answerKey"],
            }
        )
    theirs = answers_of(make_task(harness, "openbookqa", rows), reference)
    same(evaluate(Engine(loaded), questions), theirs, METRICS)
