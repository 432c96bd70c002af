"""--eval-bleu, for which fairseq makes a generator before training."""

import torch
from fairseq.sequence_generator import SequenceGenerator
from sparse_adapter.tasks.prune_at_init import PruneAtInitMixin

from ..conftest import randomize


def test_a_generator_leaves_the_training_as_it_is(build_bart, dictionary, batch):
    """In fairseq's BART it makes every forward pass one of beams, where a sentence has the source of another."""

    class Stock:
        def build_model(self, cfg, from_checkpoint=False):
            model = randomize(build_bart())
            self.generator = SequenceGenerator([model], dictionary, beam_size=2, max_len_b=10)
            return model

    class Task(PruneAtInitMixin, Stock):
        pass

    plain, task, stock = randomize(build_bart()), Task(), Stock()
    model, spoilt = task.build_model(None), stock.build_model(None)
    outputs = [each(**batch["net_input"])[0] for each in (plain, model, spoilt)]
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])  # fairseq 0.12.3
    fast = SequenceGenerator([randomize(build_bart())], dictionary, beam_size=2, max_len_b=10)
    for mine, theirs in zip(*(g.generate(None, batch) for g in (task.generator, fast)), strict=True):
        assert torch.equal(mine[0]["tokens"], theirs[0]["tokens"])
