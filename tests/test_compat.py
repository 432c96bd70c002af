"""The repairs of fairseq 0.12.3."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq import utils
from fairseq.data import ListDataset, TokenBlockDataset, data_utils
from fairseq.data.encoders.sentencepiece_bpe import SentencepieceBPE
from fairseq.data.iterators import BufferedIterator, EpochBatchIterator
from fairseq.distributed import LegacyDistributedDataParallel
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.modules import layer_norm
from fairseq.ngram_repeat_block import NGramRepeatBlock
from fairseq.optim.amp_optimizer import AMPOptimizer
from fairseq.optim.sgd import SGD as FairseqSGD
from sparse_adapter import compat
from torch.multiprocessing import ProcessExitedException


@pytest.mark.parametrize("count", [1, 7, 8, 13, 787])
@pytest.mark.parametrize("limits", [{"max_tokens": 12000}, {"max_tokens": 100}, {"max_sentences": 50}], ids=str)
def test_every_example_is_in_one_batch(count, limits):
    sizes = np.random.default_rng(1).integers(4, 20, count)
    batches = data_utils.batch_by_size(
        np.arange(count),
        num_tokens_fn=sizes.__getitem__,
        num_tokens_vec=sizes,
        required_batch_size_multiple=8,
        **limits,
    )
    assert np.concatenate(batches).tolist() == list(range(count))
    for batch in batches:
        if "max_tokens" in limits:
            assert len(batch) * sizes[batch].max() <= limits["max_tokens"]
        else:
            assert len(batch) <= limits["max_sentences"]


def test_what_is_summed_over_processes_is_as_large_as_what_is_trained():
    model = torch.nn.Sequential(torch.nn.Linear(40, 50), torch.nn.Linear(50, 3))
    model[0].requires_grad_(False)
    assert LegacyDistributedDataParallel(model, None).buffer_size == 50 * 3 + 3


def test_an_epoch_is_shuffled_if_it_shall_be():
    """As with --curriculum 1, whose first epoch is not."""
    data, single = ListDataset(list(range(99))), [[i] for i in range(99)]
    batches = EpochBatchIterator(data, torch.tensor, single, reuse_dataloader=True)
    epochs = [[int(item) for item in batches.next_epoch_itr(shuffle=shuffle)] for shuffle in (False, True, False)]
    assert epochs[0] == epochs[2] == list(range(99)) != epochs[1] and sorted(epochs[1]) == epochs[0]


def test_a_checkpoint_is_copied_as_a_whole_or_not_at_all(tmp_path):
    new, last = tmp_path / "checkpoint_1_4.pt", tmp_path / "checkpoint_last.pt"
    new.write_text("new")
    last.write_text("old")

    def killed_half_way(source, destination, overwrite):
        Path(destination).write_text("ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compat.copy_at_once(killed_half_way)(str(new), str(last), overwrite=True)
    assert last.read_text() == "old"
    assert PathManager.copy(str(new), str(last), overwrite=True)
    assert last.read_text() == "new"
    assert {path.name for path in tmp_path.iterdir()} == {new.name, last.name}


def test_no_thread_reads_ahead_when_python_ends():
    batches = BufferedIterator(2, [torch.zeros(1)] * 1000)
    next(batches)
    assert batches._consumer.is_alive()
    compat.end_readers()
    assert not batches._consumer.is_alive()


def test_applying_twice_changes_nothing():
    before = data_utils.batch_by_size, PathManager.copy
    compat.apply()
    assert (data_utils.batch_by_size, PathManager.copy) == before


@pytest.mark.parametrize(
    "text",
    ["0.1", "-1", "1e-4", "[1, 2]", "0.1,0.2", "{'a': None}", "'b'", "True", "[(512, 3)] * 2 + [(768, 3)]", " 3 "],
)
def test_plain_values_are_what_eval_makes_of_them(text):
    assert utils.eval_str_dict(text) == eval(text.strip()) == compat.plain_value(text)


@pytest.mark.parametrize("text", ["print(1)", "[].__class__", "2 - x", "(", "[i for i in 'ab']", "1 +", "f'{1}'"])
def test_anything_else_is_not_run(text):
    for read in (utils.eval_str_dict, utils.eval_str_list, utils.eval_bool):
        with pytest.raises(SystemExit, match="is not run"):
            read(text)
    assert utils.eval_bool(None) is False and utils.eval_bool(7, default=True) is True


def test_no_layer_norm_is_that_of_apex(monkeypatch):
    monkeypatch.setattr(layer_norm, "has_fused_layernorm", True)
    monkeypatch.setattr(layer_norm, "FusedLayerNorm", torch.nn.Identity, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    compat.apply()
    assert type(layer_norm.LayerNorm(4)) is torch.nn.LayerNorm


def test_token_blocks_work_on_numpy_2():
    lines = [np.array([5, 6, 2]), np.array([7, 2])]
    blocks = TokenBlockDataset([torch.from_numpy(line) for line in lines], [3, 2], None, 1, 2, break_mode="eos")
    assert [block.tolist() for block in blocks] == [[5, 6, 2], [7, 2]]


@pytest.mark.parametrize(
    "pieces, text",
    [
        ("▁the ▁ <0x40> cat", "the @cat"),
        ("▁ <0xE2> <0x82> <0xAC> ▁5", "€ 5"),
        ("▁ <0xC2> <0xA3> <0xC2> <0xA3> 5", "££5"),
        ("▁ <0xE2> ▁gol ti", "\ufffd golti"),
    ],
)
def test_bytes_of_sentencepiece_become_their_characters(pieces, text):
    assert SentencepieceBPE.decode(None, pieces) == text == data_utils.post_process(pieces, "sentencepiece")
    assert data_utils.post_process("<0xC2> <0xA3>", "none") == "<0xC2> <0xA3>"


def test_processes_that_end_with_a_message_end_fairseq_without_a_traceback():
    def ends(**how):
        def call_main():
            raise ProcessExitedException("process 0 terminated", error_index=0, error_pid=9, **how)

        return compat.exits_as_its_processes(call_main)

    with pytest.raises(SystemExit) as ended:
        ends(exit_code=1)()
    assert ended.value.code == 1
    for how in ({"exit_code": 3}, {"exit_code": -9, "signal_name": "SIGKILL"}):
        with pytest.raises(ProcessExitedException):
            ends(**how)()
    assert compat.exits_as_its_processes(lambda cfg: cfg)("done") == "done"
    assert hasattr(distributed_utils.call_main, "__wrapped__")


def test_amp_divides_gradients_by_the_scale_once():
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = object.__new__(AMPOptimizer)
    optimizer.fp32_optimizer = FairseqSGD(Namespace(lr=[1.0], momentum=0.0, weight_decay=0.0), [weight])
    optimizer._grad_scaler = torch.amp.GradScaler("cpu", init_scale=128.0)  # that of a GPU is off without one
    optimizer.backward((weight * torch.tensor([0.5, 0.25])).sum())
    optimizer.clip_grad_norm(0)
    optimizer.step()
    assert weight.tolist() == [0.5, -2.25]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_repeated_ngrams_are_banned(size):
    block = NGramRepeatBlock(size)
    for step in range(12):
        tokens, lprobs = torch.randint(5, (6, step + 1)), torch.randn(6, 9)
        expected = lprobs.clone()
        grams = [[tuple(row[i : i + size]) for i in range(len(row) - size + 1)] for row in tokens.tolist()]
        for n, row in enumerate(tokens.tolist()):
            for token in range(9):
                if size > 1 and step + 2 > size and (*row[1 - size :], token) in grams[n]:
                    expected[n, token] = -torch.inf
        padded = torch.cat([tokens, torch.ones(6, 12 - step, dtype=torch.long)], dim=1)  # as the generator has them
        assert torch.equal(block(padded, lprobs, 2, 3, step), expected)
