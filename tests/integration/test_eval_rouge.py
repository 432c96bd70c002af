"""--eval-rouge: what validation reports is what fairseq-generate writes, scored."""

import re

import pytest
from sparse_adapter.rouge import METRICS, Rouge

from ..commands import REPOSITORY, run
from .conftest import BIN, LANGUAGES, error_line, succeed
from .test_two_processes import distributed

DECODING = '{"beam": 3, "max_len_b": 12}'
ROUGE = ["--eval-rouge", "--eval-rouge-args", DECODING, "--best-checkpoint-metric", "rouge2"]
SPARSE = ["--pruner", "snip", "--sparsity", "0.4", "--prune-batches", "2"]


def reported(output: str) -> list[dict[str, float]]:
    """The scores of each validation in a log."""
    lines = [line for line in output.splitlines() if " | valid | " in line]
    return [{metric: float(re.search(rf" \| {metric} (\S+)", line)[1]) for metric in METRICS} for line in lines]


@pytest.fixture(scope="module")
def trained(project, tmp_path_factory):
    """A run's folder and its log."""
    folder = tmp_path_factory.mktemp("rouge")
    options = [*ROUGE, "--maximize-best-checkpoint-metric", "--adapter-only-checkpoints", *SPARSE]
    return folder, succeed(project.train(folder, *options, "--save-interval-updates", "2"))


def test_validation_reports_what_is_generated(project, trained):
    folder, log = trained
    output = succeed(project.generate(folder / "checkpoint_last.pt", "--gen-subset", "valid"))
    references = dict(re.findall(r"^T-(\d+)\t(.*)$", output, re.MULTILINE))
    hypotheses = dict(re.findall(r"^D-(\d+)\t\S+\t(.*)$", output, re.MULTILINE))
    assert len(references) == len(hypotheses) == 20
    rouge = Rouge()
    scores = [rouge.score(hypotheses[i], references[i]) for i in references]
    last = reported(log)[-1]
    for metric in METRICS:
        assert last[metric] == pytest.approx(sum(score[metric] for score in scores) / 20, abs=2e-3)
    assert last["rouge1"] > 1  # of words that are there
    best = re.findall(r"best_rouge2 (\S+)", log)
    assert float(best[-1]) == max(scores["rouge2"] for scores in reported(log))


def test_training_is_as_without_it(project, trained, tmp_path):
    """Generating leaves no trace in the model: the losses of all updates are the same."""
    plain = succeed(project.train(tmp_path, "--adapter-only-checkpoints", *SPARSE, "--save-interval-updates", "2"))
    losses = [re.findall(r" loss=(\S+?),", log) for log in (plain, trained[1])]
    assert losses[0] == losses[1] and len(losses[0]) == 4


@pytest.mark.parametrize("processes", [1, 2])
def test_fairseq_validate_reports_it_too(project, trained, processes):
    """Of two processes, each tells the other what it has seen, which may be of any size."""
    folder, log = trained
    arguments = [
        "--user-dir",
        str(REPOSITORY / "user_dir"),
        "--cpu",
        "--task",
        "sparse_adapter_translation",
        *LANGUAGES,
    ]
    arguments += ["--path", str(folder / "checkpoint_last.pt"), "--valid-subset", "valid", "--num-workers", "0"]
    arguments += ["--batch-size", "3", "--all-gather-list-size", "100"]
    launch = [run, "fairseq-validate"] if processes == 1 else [distributed, str(BIN / "fairseq-validate")]
    output = succeed(launch[0](launch[1], str(project.data), *arguments))
    for metric, value in reported(log)[-1].items():
        assert float(re.search(rf" \| {metric} (\S+)", output)[1]) == pytest.approx(value, abs=2e-3)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--eval-rouge-args", '{"baem": 4}'], "fairseq generates with no baem; beam?"),
        (["--eval-rouge-args", "beam 4"], "--eval-rouge-args beam 4 is not JSON"),
        (["--eval-rouge-args", "[4]"], "is not an object"),
        (["--eval-rouge-words", "french"], "choose english or unicode"),
        (["--bpe", "sentencepiece"], "--bpe sentencepiece needs --sentencepiece-model"),
        (["--bpe", "sentencepiece", "--sentencepiece-model", "nowhere"], "--bpe sentencepiece cannot be used"),
    ],
)
def test_mistakes_end_in_one_line(project, tmp_path, options, message):
    assert message in error_line(project.train(tmp_path / "run", "--eval-rouge", *options))
    assert not list((tmp_path / "run").iterdir())
