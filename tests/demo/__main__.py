"""`make demo`, of the scene that the variable DEMO names: a policy first plans and then prunes.

In the scene `space` it is undone, too, and pruned again, until the registry's garbage collection frees the space.

With `--readme` the session at the command line goes into README.md, too.

Ends with 0 only if the registry holds exactly what the plan left. With KEEP=1 all stays up until Ctrl-C.
"""

import os
import sys

from tests.demo.distribution import distribution_scene
from tests.demo.openshift import openshift_scene
from tests.demo.session import README
from tests.demo.space import perform_space
from tests.demo.stage import OpenScene, perform

_SCENES: dict[str, OpenScene] = {"distribution": distribution_scene, "openshift": openshift_scene}

_SPACE = "space"


def main() -> int:
    """Perform the scene; return the exit code."""
    name = os.environ.get("DEMO") or "distribution"
    if name == _SPACE:
        return perform_space()
    if name not in _SCENES:
        sys.stderr.write(f"There is no demo {name!r}; write DEMO={' or DEMO='.join([*_SCENES, _SPACE])}\n")
        return 2
    return perform(_SCENES[name], README if sys.argv[1:] == ["--readme"] else None)


if __name__ == "__main__":
    sys.exit(main())
