"""The span head under fairseq's unchanged criterion, its checkpoints, and exact match and F1 as sums."""

import copy
import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq.criterions.sentence_prediction import SentencePredictionConfig, SentencePredictionCriterion
from fairseq.data import Dictionary, indexed_dataset
from fairseq.logging import metrics
from fairseq.models import ARCH_CONFIG_REGISTRY
from omegaconf import OmegaConf
from sparse_adapter.modules import is_adapter_key
from sparse_adapter.squad import score
from sparse_adapter.squad.head import answerable
from sparse_adapter.tasks.squad import SparseAdapterSquadTask, SquadConfig
from torch.nn import functional

QUESTION, CONTEXT = 3, [5, 11, 9, 4, 14]  # tokens; a context of 14 is cut into two windows


def write_data(folder: Path) -> None:
    """Questions of one window, and one of two, of random tokens; each token is a word of three letters."""
    generator = np.random.default_rng(0)
    dictionary = Dictionary()
    for i in range(40):
        dictionary.add_symbol(f"word{i}")
    dictionary.save(str(folder / "dict.txt"))
    for split in ("train", "valid"):
        parts = ("tokens", "targets", "chars")
        builders = {p: indexed_dataset.make_builder(str(folder / f"{split}.{p}.bin"), impl="mmap") for p in parts}
        records = []
        for number, length in enumerate(CONTEXT):
            words = ["".join(generator.choice(list("abcdef"), 3)) for _ in range(length)]
            windows = [(0, length)] if length <= 11 else [(0, 11), (3, length)]
            tokens = generator.integers(4, 44, length)
            for first, last in windows:
                question = generator.integers(4, 44, QUESTION)
                item = {
                    "tokens": [0, *question, 2, *tokens[first:last], 2],
                    "targets": (5 + 2, 5 + 3) if first == 0 else (0, 0),
                    "chars": [x for i in range(first, last) for x in (4 * i, 4 * i + 3)],
                }
                for part in parts:
                    builders[part].add_item(torch.tensor(item[part]))
            answers = [" ".join(words[2:4]), " ".join(words[1:4])]
            records.append(
                {"id": f"q{number}", "context": " ".join(words), "answers": answers, "windows": len(windows)}
            )
        for part in parts:
            builders[part].finalize(str(folder / f"{split}.{part}.idx"))
        if split == "valid":
            (folder / "valid.questions.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def task(tmp_path) -> SparseAdapterSquadTask:
    write_data(tmp_path)
    config = SquadConfig(data=str(tmp_path), max_positions=32, classification_head_name="span")
    task = SparseAdapterSquadTask.setup_task(OmegaConf.structured(config))
    for split in ("train", "valid"):
        task.load_dataset(split)
    return task


def build(task, arch: str):
    sizes = {"encoder_layers": 2, "encoder_embed_dim": 32, "encoder_ffn_embed_dim": 64, "encoder_attention_heads": 4}
    args = Namespace(arch=arch, adapter="houlsby", adapter_bottleneck=8, **sizes)
    ARCH_CONFIG_REGISTRY[arch](args)
    return task.build_model(args)


@pytest.fixture(params=["bert", "roberta"])
def model(task, request):
    return build(task, f"sparse_adapter_{request.param}_base").eval()


@pytest.fixture
def criterion(task):
    return SentencePredictionCriterion(SentencePredictionConfig(classification_head_name="span"), task)


def whole(task, split: str = "valid") -> dict:
    dataset = task.dataset(split)
    return dataset.collater([dataset[i] for i in range(len(dataset))])


def explicit_logits(model, tokens: torch.Tensor) -> torch.Tensor:
    """``(windows, 2, src_len)`` of windows with a question of ``QUESTION`` tokens, from the encoder's features."""
    features, _ = model.encoder(tokens, features_only=True)
    model.classification_heads["span"]._tokens = None
    head = model.classification_heads["span"]
    logits = torch.tanh(features @ head.dense.weight.T + head.dense.bias) @ head.out_proj.weight.T + head.out_proj.bias
    expected = torch.full((tokens.size(0), 2, tokens.size(1)), -torch.inf)
    for row, line in enumerate(tokens.tolist()):
        end = len([token for token in line if token != 1]) - 1
        for position in (0, *range(QUESTION + 2, end)):
            expected[row, :, position] = logits[row, position]
    return expected


def test_the_criterion_gives_the_cross_entropy_of_starts_and_ends(task, model, criterion):
    sample = whole(task)
    tokens, target = sample["net_input"]["src_tokens"], sample["target"]
    loss, sample_size, log = criterion(model, sample)
    logits = explicit_logits(model, tokens)
    starts, ends = (functional.cross_entropy(logits[:, i], target[:, i], reduction="sum") for i in (0, 1))
    torch.testing.assert_close(loss, starts + ends)
    assert sample_size == 2 * len(tokens) == log["nsentences"]


def test_only_the_context_and_the_beginning_can_be_answers(task, model):
    sample = whole(task)
    tokens = sample["net_input"]["src_tokens"]
    with torch.no_grad():
        logits, _ = model(**sample["net_input"], classification_head_name="span")
        torch.testing.assert_close(logits.view(-1, 2, tokens.size(1)), explicit_logits(model, tokens))
    assert (tokens == 1).any() and logits[:, 0].isfinite().all()


def test_answerable_with_one_and_two_separators():
    tokens = torch.tensor([[0, 7, 8, 2, 5, 6, 2, 1], [0, 7, 2, 2, 5, 6, 9, 2]])
    assert answerable(tokens, 2).long().tolist() == [[1, 0, 0, 0, 1, 1, 0, 0], [1, 0, 0, 0, 1, 1, 1, 0]]


def test_gradient_reaches_adapters_and_head_only(task, model, criterion):
    model.train()
    criterion(model, whole(task))[0].backward()
    for name, parameter in model.named_parameters():
        trained = is_adapter_key(name) or name.startswith("classification_heads.span.")
        assert parameter.requires_grad == trained, name
        if trained:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    reached = [n for n, p in model.named_parameters() if is_adapter_key(n) and p.grad is not None and p.grad.any()]
    assert {name.split(".layers.")[1][0] for name in reached} == {"0", "1"}


def test_a_checkpoint_brings_the_head_back(task, model, request):
    torch.nn.init.normal_(model.classification_heads["span"].out_proj.weight)
    arch = f"sparse_adapter_{request.node.callspec.params['model']}_base"
    torch.manual_seed(7)
    other = build(task, arch).eval()
    state = copy.deepcopy(dict(model.state_dict()))
    assert {key for key in state if key.startswith("classification_heads")} == {
        f"classification_heads.span.{layer}.{kind}" for layer in ("dense", "out_proj") for kind in ("weight", "bias")
    }
    other.load_state_dict(state, strict=True, model_cfg=other.args)
    inputs = whole(task)["net_input"]
    with torch.no_grad():
        outputs = [m(**inputs, classification_head_name="span")[0] for m in (model, other, copy.deepcopy(other))]
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])


def test_a_plain_backbone_starts_with_a_fresh_head(task, model):
    state = {k: v for k, v in model.state_dict().items() if not (is_adapter_key(k) or "classification_heads" in k)}
    before = copy.deepcopy(model.classification_heads["span"].state_dict())
    model.load_state_dict(state, strict=True, model_cfg=model.args)
    after = model.classification_heads["span"].state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def logged(task, criterion, logs: list[dict]) -> dict:
    with metrics.aggregate(new_root=True) as meters:
        task.reduce_metrics(logs, criterion)
    return meters.get_smoothed_values()


@pytest.mark.parametrize("perfect", [False, True])
def test_scores_are_those_of_whole_questions_however_they_are_batched(task, model, criterion, perfect):
    if perfect:
        mark_answers(model.requires_grad_(False))
    sample = whole(task)
    with torch.no_grad():
        logits, _ = model(**sample["net_input"], classification_head_name="span")
    pairs = [
        score(answers[0].text, question.answers)
        for question, answers in zip(sample["questions"], task.answers(sample, logits), strict=True)
    ]
    exact, f1 = (100 * sum(column) / len(CONTEXT) for column in zip(*pairs, strict=True))
    dataset = task.dataset("valid")
    for batches in ([[0, 1, 2, 3, 4]], [[4], [0, 3], [1, 2]]):
        logs = [
            task.valid_step(dataset.collater([dataset[i] for i in batch]), model, criterion)[2] for batch in batches
        ]
        values = logged(task, criterion, logs)
        assert values["exact_match"] == pytest.approx(exact, abs=1e-3)
        assert values["f1"] == pytest.approx(f1, abs=1e-3)
        # Over processes, logs are summed up first.
        total = {key: sum(log[key] for log in logs) for key in logs[0]}
        assert logged(task, criterion, [total])["exact_match"] == pytest.approx(exact, abs=1e-3)
    if perfect:
        assert exact == f1 == 100


def test_a_process_without_a_batch(task, model, criterion):
    """As fairseq-validate has some on several GPUs, whose last round is not full."""
    sample = whole(task)
    with torch.no_grad():
        alone, shared = [task.valid_step(sample, model, criterion)[2]], []
        for batch in (sample, {}):
            shared.append(task.valid_step(batch, model, criterion)[2])
    assert logged(task, criterion, shared) == logged(task, criterion, alone)


def mark_answers(model) -> None:
    """Make the head point to the third and fourth word of a context, and to 0 in a second window.

    That of the last question is the only one, comes last in its batch, and has 11 tokens of context.
    """

    def point(module, args, output):
        logits = output.view(-1, 2, output.size(-1))
        for row, window in enumerate(logits):
            places = window[0].isfinite().nonzero().flatten()
            second = 0 < row == len(logits) - 1 and len(places) == 1 + 11
            for side in (0, 1):
                window[side, places] = 0.0
                window[side, 0 if second else places[3 + side]] = 50.0
        return output

    model.classification_heads["span"].register_forward_hook(point)


def test_no_window_is_left_out_for_its_length(task):
    """fairseq gives the shorter ones and a warning where --max-tokens is less than the longest."""
    dataset = task.dataset("train")
    longest = int(dataset.sizes.max())
    batches = task.get_batch_iterator(dataset, max_tokens=longest, max_positions=longest, ignore_invalid_inputs=True)
    assert sum(len(batch) for batch in batches.frozen_batches) == len(dataset)
    with pytest.raises(SystemExit, match=r"^error: \d of 6 examples are longer than .* --max-tokens"):
        task.get_batch_iterator(
            dataset, max_positions=longest - 1, ignore_invalid_inputs=True, disable_iterator_cache=True
        ).next_epoch_itr()


def test_missing_data_is_one_line(tmp_path):
    config = SquadConfig(data=str(tmp_path), classification_head_name="span")
    with pytest.raises(SystemExit, match="error: .*dict.txt is missing; make the data with"):
        SparseAdapterSquadTask.setup_task(OmegaConf.structured(config))
    write_data(tmp_path)
    task = SparseAdapterSquadTask.setup_task(OmegaConf.structured(config))
    with pytest.raises(SystemExit, match="error: .*holds no split 'test'"):
        task.load_dataset("test")
    config.max_answer_length = 0
    with pytest.raises(SystemExit, match="error: --max-answer-length 0: at least 1"):
        SparseAdapterSquadTask.setup_task(OmegaConf.structured(config))
