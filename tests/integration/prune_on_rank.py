"""Run fairseq-train up to and including the prune-at-init hook, then save this rank's masks.

python prune_on_rank.py OUT <arguments of fairseq-train>  writes OUT.rank<N>.pt
"""

import sys

import torch
from fairseq import options, tasks, utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.distributed import utils as distributed_utils


def main(cfg) -> None:
    utils.import_user_module(cfg.common)
    utils.set_torch_seed(cfg.common.seed)
    task = tasks.setup_task(cfg.task)
    model = task.build_model(cfg.model)
    task.build_criterion(cfg.criterion)
    masks = {name: buffer for name, buffer in model.named_buffers() if ".mask_version" in name}
    assert masks
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    torch.save(masks, f"{out}.rank{rank}.pt")


if __name__ == "__main__":
    out = sys.argv.pop(1)
    args = options.parse_args_and_arch(options.get_training_parser())
    distributed_utils.call_main(convert_namespace_to_omegaconf(args), main)
