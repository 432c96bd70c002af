"""Start a job without the plugin's ``__init__``, which imports torch and fairseq: seconds, and memory held for hours,
that a process which only starts scripts and reads their files can do without.
"""

import importlib
import sys
import types
from pathlib import Path

package = types.ModuleType("sparse_adapter")
package.__path__ = [str(Path(__file__).parents[1])]
sys.modules["sparse_adapter"] = package
importlib.import_module("sparse_adapter.study.job").main()
