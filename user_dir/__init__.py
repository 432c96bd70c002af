"""SparseAdapter for fairseq: adapters pruned at initialisation, as a ``--user-dir`` plugin.

He et al. (2022), SparseAdapter: An Easy Approach for Improving the Parameter-Efficiency of Adapters.
"""

import logging

# At every import, fairseq otherwise asks for a package that only its speech tasks want.
logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)

from . import compat  # noqa: E402

compat.apply()

# fairseq imports tasks/ and models/ of a --user-dir only where it imports the package itself; registering
# them here also serves ``import sparse_adapter``.
from . import models, tasks  # noqa: E402, F401

__version__ = "0.1.0"
