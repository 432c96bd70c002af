"""--eval-rouge: what validation reports is what fairseq-generate writes, scored."""

import json
import re

import pytest
from sparse_adapter.rouge import METRICS, Rouge

from ..commands import REPOSITORY, run
from .conftest import BIN, LANGUAGES, error_line, succeed
from .test_two_processes import distributed

DECODING = '{"beam": 3, "max_len_b": 12}'
BEST = ["--best-checkpoint-metric", "rouge2", "--maximize-best-checkpoint-metric"]
ROUGE = ["--eval-rouge", "--eval-rouge-args", DECODING, *BEST]
SPARSE = ["--pruner", "snip", "--sparsity", "0.4", "--prune-batches", "2"]


def reported(output: str) -> list[dict[str, float]]:
    """The scores of each validation in a log."""
    lines = [line for line in output.splitlines() if " | valid | " in line]
    return [{metric: float(re.search(rf" \| {metric} (\S+)", line)[1]) for metric in METRICS} for line in lines]


@pytest.fixture(scope="module")
def trained(project, tmp_path_factory):
    """A run's folder and its log."""
    folder = tmp_path_factory.mktemp("rouge")
    options = [*ROUGE, "--adapter-only-checkpoints", *SPARSE, "--save-interval-updates", "2"]
    return folder, succeed(project.train(folder, *options))


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
    assert "--eval-rouge takes the symbols of the data for words" in log


def test_training_is_as_without_it(project, trained, tmp_path):
    """Generating leaves no trace in the model: the losses of all updates are the same."""
    plain = succeed(project.train(tmp_path, "--adapter-only-checkpoints", *SPARSE, "--save-interval-updates", "2"))
    losses = [re.findall(r" loss=(\S+?),", log) for log in (plain, trained[1])]
    assert losses[0] == losses[1] and len(losses[0]) == 4


@pytest.mark.parametrize("processes", [1, 2])
def test_fairseq_validate_reports_it_too(project, trained, processes):
    """Of two processes, each tells the other what it has seen, which may be of any size."""
    folder, log = trained
    assert validated(project, folder, processes) == pytest.approx(reported(log)[-1], abs=2e-3)


def test_an_adapter_file_reports_none(project, trained, tmp_path):
    """It does not know the files of --bpe, and scores of symbols are of another kind."""
    file = tmp_path / "adapters.safetensors"
    succeed(run("sparse-adapter", "extract", str(trained[0] / "checkpoint_best.pt"), str(file)))
    assert json.loads(file.with_suffix(".json").read_text())["task"]["eval_rouge"] is False


def validated(project, folder, processes: int = 1) -> dict[str, float]:
    """The scores that fairseq-validate reports of a run's last checkpoint."""
    arguments = ["--user-dir", str(REPOSITORY / "user_dir"), "--task", "sparse_adapter_translation", *LANGUAGES]
    arguments += ["--cpu", "--path", str(folder / "checkpoint_last.pt"), "--valid-subset", "valid"]
    arguments += ["--num-workers", "0", "--batch-size", "3", "--all-gather-list-size", "100"]
    launch = [run, "fairseq-validate"] if processes == 1 else [distributed, str(BIN / "fairseq-validate")]
    output = succeed(launch[0](launch[1], str(project.data), *arguments))
    return {metric: float(re.search(rf" \| {metric} (\S+)", output)[1]) for metric in METRICS}


def test_two_processes_that_train_add_up_what_they_have_seen(project, tmp_path):
    """Seven batches: the second process has none in the last round."""
    options = [*ROUGE, *SPARSE, "--batch-size-valid", "3", "--ddp-backend", "legacy_ddp"]
    log = succeed(distributed(str(BIN / "fairseq-train"), *project.train_args(tmp_path, *options)))
    assert validated(project, tmp_path) == pytest.approx(reported(log)[-1], abs=2e-3)


def test_a_run_keeps_to_the_metric_of_its_best_checkpoint(project, trained):
    """fairseq would compare the best ROUGE with losses, and hardly ever find a better one."""
    folder, _ = trained
    before = (folder / "checkpoint_last.pt").stat().st_mtime_ns
    more = ["--adapter-only-checkpoints", *SPARSE, "--max-update", "6"]
    line = error_line(project.train(folder, *more))
    assert "whose best checkpoint has the highest rouge2, and this command asks for the lowest loss" in line
    assert (folder / "checkpoint_last.pt").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "options, message",
    [
        (["--eval-rouge", "--bpe", "sentencepiece"], "--bpe sentencepiece needs --sentencepiece-model"),
        (
            ["--eval-rouge", "--bpe", "sentencepiece", "--sentencepiece-model", "nowhere"],
            "--bpe sentencepiece cannot be used",
        ),
        (["--eval-rouge", *BEST[:2]], "rouge2 needs --maximize-best-checkpoint-metric"),
        (BEST, "--best-checkpoint-metric rouge2 needs --eval-rouge"),
    ],
)
def test_mistakes_end_in_one_line(project, tmp_path, options, message):
    assert message in error_line(project.train(tmp_path / "run", *options))
    assert not list((tmp_path / "run").iterdir())
