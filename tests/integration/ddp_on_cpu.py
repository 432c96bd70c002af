"""Run fairseq-train with ``--ddp-backend pytorch_ddp`` on CPUs, for which fairseq 0.12.3 names no devices but GPUs."""

from fairseq.models import distributed_fairseq_model
from fairseq_cli.train import cli_main
from torch.nn.parallel import DistributedDataParallel


def on_cpu(**arguments) -> DistributedDataParallel:
    return DistributedDataParallel(**arguments | {"device_ids": None, "output_device": None})


if __name__ == "__main__":
    distributed_fairseq_model.DistributedDataParallel = on_cpu
    cli_main()
