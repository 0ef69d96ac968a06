"""Studies from Python: `from study import api`, then `api.run("smoke", trials=2)`.

`run` and `open` are functions of this package and not of `study`: `study.run` is already the
module of the command.
"""

from study.api.handle import Study, open, run

__all__ = ["Study", "open", "run"]
