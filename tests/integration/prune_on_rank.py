"""Run fairseq-train up to and including the prune-at-init hook, then save this rank's masks; for several pruners.

python prune_on_rank.py OUT snip,grasp <arguments of fairseq-train>  writes OUT.snip.rank<N>.pt and so on
"""

import sys

import torch
from fairseq import options, tasks, utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.distributed import utils as distributed_utils


def main(cfg) -> None:
    utils.import_user_module(cfg.common)
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    for cfg.task.pruner in pruners.split(","):
        utils.set_torch_seed(cfg.common.seed)
        task = tasks.setup_task(cfg.task)
        model = task.build_model(cfg.model)
        task.build_criterion(cfg.criterion)
        masks = {name: buffer for name, buffer in model.named_buffers() if ".mask_version" in name}
        assert masks
        torch.save(masks, f"{out}.{cfg.task.pruner}.rank{rank}.pt")


if __name__ == "__main__":
    out, pruners = sys.argv.pop(1), sys.argv.pop(1)
    args = options.parse_args_and_arch(options.get_training_parser())
    distributed_utils.call_main(convert_namespace_to_omegaconf(args), main)
