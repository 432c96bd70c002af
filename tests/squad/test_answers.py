"""Spans against an exhaustive search, answers over several windows, batches that keep questions whole."""

import math

import numpy as np
import pytest
import torch
from sparse_adapter.squad import Question, SquadDataset, best_answers, best_spans

INF = float("inf")


@pytest.mark.parametrize("max_length", [1, 3, 30])
def test_spans_are_those_of_an_exhaustive_search(max_length):
    logits = torch.randn(3, 2, 12)
    logits[:, :, 1:4] = logits[1:, :, 9:] = -INF  # questions, and the padding of shorter windows
    scores, first, last = best_spans(logits, 5, max_length)
    log_p = logits.double().log_softmax(-1)
    for window in range(3):
        every = [
            ((log_p[window, 0, i] + log_p[window, 1, j]).item(), i, j)
            for i in range(1, 12)
            for j in range(i, min(i + max_length, 12))
        ]
        expected = sorted(every, reverse=True)[:5]
        assert scores[window].tolist() == pytest.approx([s for s, _, _ in expected], abs=1e-5)
        found = zip(first[window].tolist(), last[window].tolist(), strict=True)
        assert [pair for pair, s in zip(found, scores[window], strict=True) if s > -INF] == [
            (i, j) for s, i, j in expected if s > -INF
        ]


def test_a_window_that_points_to_its_beginning_says_little():
    logits = torch.full((2, 2, 4), -INF)
    logits[:, :, 2:] = 0.0
    logits[:, :, 0] = torch.tensor([[5.0, 5.0], [-5.0, -5.0]])
    scores, first, _ = best_spans(logits, 1, 30)
    assert scores[0, 0] < scores[1, 0] and (first >= 2).all()
    assert scores[1, 0].item() == pytest.approx(-2 * math.log(2 + math.exp(-5)), abs=1e-5)


def test_answers_are_the_best_over_all_windows_as_text_of_the_context():
    context = "Émile  va à la mer"  # tokens Émile, va, à, la, mer
    chars = np.array([[0, 5], [7, 9], [10, 11], [12, 14], [15, 18]])
    question = Question("q", context, ("la mer",), 2)
    # <s> q </s> and tokens 0 to 3; <s> q </s> and tokens 2 to 4, and a place of padding
    logits = torch.full((2, 2, 8), -INF)
    logits[0, :, 0], logits[0, :, 3:7] = 3.0, 0.0
    logits[1, :, 0], logits[1, :, 3:6] = -3.0, 0.0
    logits[1, 0, 4] = logits[1, 1, 5] = 4.0  # la ... mer
    answers = best_answers(question, logits, [8, 7], [chars[:4], chars[2:]], 20, 30)
    assert (answers[0].text, answers[0].start, answers[0].end) == ("la mer", 12, 18)
    assert [answer.score for answer in answers] == sorted((a.score for a in answers), reverse=True)
    assert all(context[a.start : a.end] == a.text for a in answers)
    assert "Émile  va" in [answer.text for answer in answers]  # both spaces
    places = [(answer.start, answer.end) for answer in answers]
    assert len(places) == len(set(places)) == 10 + 6 - 3  # spans of à, la alone and together are in both windows
    assert len(best_answers(question, logits, [8, 7], [chars[:4], chars[2:]], 2, 30)) == 2


def test_white_space_is_no_part_of_answers():
    """Byte-level BPE has tokens of it, of no width or of some."""
    context = "a  b\n\nc"  # tokens a, of no width, b with the space before it, the line feeds, c
    chars = np.array([[0, 1], [2, 2], [2, 4], [4, 6], [6, 7]])
    logits = torch.full((1, 2, 9), -INF)
    logits[0, :, 0], logits[0, :, 3:8] = -3.0, torch.tensor([0.0, 4.0, 0.0, 3.0, 0.0])
    answers = best_answers(Question("q", context, ("b",), 1), logits, [9], [chars], 20, 30)
    texts = [answer.text for answer in answers]
    assert sorted(texts) == sorted({"a", "b", "c", "a  b", "b\n\nc", "a  b\n\nc"})
    assert all(context[answer.start : answer.end] == answer.text for answer in answers)


def test_a_context_without_tokens_has_an_empty_answer():
    logits = torch.full((1, 2, 4), -INF)
    logits[:, :, 0] = 0.0
    answers = best_answers(Question("q", " ", ("x",), 1), logits, [4], [np.empty((0, 2), int)], 20, 30)
    assert [answer.text for answer in answers] == [""]


class Items(list):
    """What fairseq's indexed datasets offer."""

    @property
    def sizes(self) -> np.ndarray:
        return np.array([len(item) for item in self])


def make_dataset(counts: list[int], length: int = 6) -> SquadDataset:
    windows = sum(counts)
    tokens = Items(torch.arange(length + i % 3) + 4 for i in range(windows))
    targets = Items(torch.tensor([i, i + 1]) for i in range(windows))
    chars = Items(torch.arange(4) for _ in range(windows))
    questions = [Question(f"q{i}", "context", ("x",), count) for i, count in enumerate(counts)]
    return SquadDataset(tokens, targets, pad=1, questions=questions, chars=chars)


def test_batches_hold_all_windows_of_a_question():
    dataset = make_dataset([1, 3, 2, 5, 1])
    for max_tokens in (8, 16, 24, 1000):  # of which the first ones are less than the longest question takes
        batches = dataset.batch_by_size(dataset.ordered_indices(), max_tokens=max_tokens)
        assert sorted(i for batch in batches for i in batch) == list(range(5))
        for batch in batches:
            sample = dataset.collater([dataset[i] for i in batch])
            windows = sum(question.windows for question in sample["questions"])
            assert windows == len(sample["chars"]) == sample["nsentences"] == len(sample["target"])
            assert sample["net_input"]["src_tokens"].shape == (windows, sample["net_input"]["src_lengths"].max())
            if len(batch) > 1:
                assert sample["net_input"]["src_tokens"].numel() <= max_tokens


def test_training_goes_window_by_window():
    whole = make_dataset([1, 3])
    dataset = SquadDataset(whole.tokens, whole.targets, pad=1)
    assert len(dataset) == 4
    sample = dataset.collater([dataset[0], dataset[2]])
    assert sample["net_input"]["src_tokens"].tolist() == [[4, 5, 6, 7, 8, 9, 1, 1], list(range(4, 12))]
    assert sample["target"].tolist() == [[0, 1], [2, 3]] and sample["ntokens"] == 14
    assert "questions" not in sample
    lengths = dataset.sizes[dataset.ordered_indices()]
    assert lengths.tolist() == sorted(lengths)
