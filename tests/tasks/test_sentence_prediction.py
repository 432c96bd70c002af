"""The metrics of validation, from counts that sum over batches, against scikit-learn and SciPy over the whole set."""

from collections import Counter

import numpy as np
import pytest
import torch
from fairseq.data import ListDataset, NestedDictionaryDataset
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from sparse_adapter.length_groups import LengthGroupedDataset
from sparse_adapter.tasks.sentence_prediction import accuracy, confusion, f1, hits, matthews, pearson, regression_sums


def summed(count, outputs: torch.Tensor, targets: torch.Tensor, parts: int) -> dict[str, float]:
    """The counts of ``parts`` batches of different sizes, as they are summed for the metrics."""
    total = Counter()
    ends = [0, *sorted(torch.randperm(len(targets) - 1)[: parts - 1].add(1).tolist()), len(targets)]
    for start, end in zip(ends, ends[1:], strict=False):
        total.update(count(outputs[start:end], targets[start:end].view(-1, 1)))
    return {name.removeprefix("_count_"): value for name, value in total.items()}


def test_batches_of_validation_are_in_fixed_random_order():
    """--max-valid-steps takes the first ones, and groups are sorted by length."""
    items = [torch.ones(length) for length in range(1, 65)]
    lengths = np.array([len(item) for item in items])
    for evaluated in (True, False):
        examples = NestedDictionaryDataset({"text": ListDataset(items, lengths)}, sizes=[lengths])
        dataset = LengthGroupedDataset(examples, lengths, evaluated)
        batches = dataset.batch_by_size(dataset.ordered_indices(), max_sentences=4)
        first = [int(lengths[batch].max()) for batch in batches]
        assert sorted(first) == list(range(4, 65, 4)) and (first != sorted(first)) is evaluated
        again = dataset.batch_by_size(dataset.ordered_indices(), max_sentences=4)
        assert [list(batch) for batch in again] == [list(batch) for batch in batches]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("parts", [1, 7])
def test_two_classes(seed, parts):
    torch.manual_seed(seed)
    logits, targets = torch.randn(101, 2), torch.randint(2, (101,))
    logits[targets == 1, 1] += 0.7 * seed
    counts, predictions = summed(confusion, logits, targets, parts), logits.argmax(dim=-1)
    assert accuracy(counts) == pytest.approx(accuracy_score(targets, predictions))
    assert f1(counts) == pytest.approx(f1_score(targets, predictions))
    assert matthews(counts) == pytest.approx(matthews_corrcoef(targets, predictions))


def test_twelve_classes():
    logits, targets = torch.randn(300, 12), torch.randint(12, (300,))
    counts = summed(hits, logits, targets, 4)
    assert accuracy(counts) == pytest.approx(accuracy_score(targets, logits.argmax(dim=-1)))
    assert len(counts) == 2  # a meter each, which fairseq sorts at every batch


@pytest.mark.parametrize("targets", [[0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
def test_a_class_that_is_never_predicted(targets):
    predictions = [0, 0, 0, 0]
    logits = torch.nn.functional.one_hot(torch.tensor(predictions), 2).float()
    counts = summed(confusion, logits, torch.tensor(targets), 1)
    assert f1(counts) == f1_score(targets, predictions, zero_division=0)
    assert matthews(counts) == matthews_corrcoef(targets, predictions) == 0


@pytest.mark.parametrize("parts", [1, 5])
def test_regression(parts):
    outputs, targets = torch.randn(97, 1) + 3, 5 * torch.rand(97)
    outputs += targets.view(-1, 1)
    counts = summed(regression_sums, outputs, targets, parts)
    assert pearson(counts) == pytest.approx(pearsonr(outputs.view(-1).double(), targets.double()).statistic, abs=1e-9)


def test_regression_whose_predictions_barely_differ():
    """A model that has hardly learnt predicts nearly the same everywhere."""
    outputs, targets = 2.7 + 1e-4 * torch.randn(1500, 1), 5 * torch.rand(1500)
    expected = pearsonr(outputs.view(-1).double(), targets.double()).statistic
    assert pearson(summed(regression_sums, outputs, targets, 50)) == pytest.approx(expected, abs=1e-6)
    assert pearson(summed(regression_sums, torch.full((9, 1), 2.7), targets[:9], 1)) == 0
