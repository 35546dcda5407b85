"""An SDK that is already on the machine: does its Python import it?"""

from __future__ import annotations

import os
import subprocess

from accel.errors import AccelError
from accel.toolchain.spec import Environment

_SECONDS = 120


def prove_import(env: Environment, code: str, what: str, hint: str) -> None:
    """Run ``code`` on the SDK's interpreter with the SDK's variables.

    Args:
        env: Where the SDK was found.
        code: Its imports, and perhaps a call that loads its libraries.
        what: What cannot be imported, for the message.
        hint: What to look at then.

    Raises:
        AccelError: ``toolchain.broken`` with the interpreter's last words.
    """
    try:
        done = subprocess.run(
            [str(env.python), "-c", code],
            env={**os.environ, **env.variables},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        cause = (done.stderr.strip().splitlines() or ["no message"])[-1] if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        cause = str(error)
    if cause:
        raise AccelError(f"{what} cannot be imported", code="toolchain.broken", cause=cause, hints=[hint])
