"""`__main__.py check`: one verdict a module, whatever the module does when it is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.workers.worker_bench import ENTRY

GOOD = """
    from .base import BaseWorker
    class Good(BaseWorker):
        def process_message(self, ch, method, properties, body): pass
"""

MODULES = {
    "good": GOOD,
    "imported": "from .good import Good\n" + dedent(GOOD).replace("Good", "Mine"),
    "leaf": dedent(GOOD).replace("Good", "Common") + "class Leaf(Common): pass\nAlias = Leaf\n",
    "noisy": "print('{\"ok\": false}')\nimport os; os.write(1, b'noise')\n" + dedent(GOOD),
    "dash-ed": GOOD,
    "static": """
        from workers.base import BaseWorker
        class Work(BaseWorker):
            @staticmethod
            def process_message(ch, method, properties, body): pass
    """,
    "reads_env": "import os; os.environ['NEEDED']; assert os.environ['WORKER_NAME'] == 'reads_env'\n" + dedent(GOOD),
    "thread": "import threading, time; threading.Thread(target=time.sleep, args=[60]).start()\n" + dedent(GOOD),
    "syntax": "x = 1\ndef (:\n",
    "tabs": "if 1:\n\tx = 1\n        y = 2\n",
    "needs": "import os\nimport no_such_thing\n",
    "raises": "x = 1\n\nraise ValueError('two\\nlines')\n",
    "deep": "from .helper import f\nf()\n",
    "helper": "def f():\n    1 / 0\n",
    "none": "from .base import BaseWorker\n",
    "only_imported": "from .good import Good\n",
    "two": dedent(GOOD) + dedent(GOOD).replace("Good", "Other"),
    "abstract": "from .base import BaseWorker\nclass Work(BaseWorker): pass\n",
    "asynchronous": dedent(GOOD).replace("def process", "async def process"),
    "few": dedent(GOOD).replace("properties, body", "body"),
    "init": dedent(GOOD) + "    def __init__(self): pass\n",
    "exits": "import sys; sys.exit(3)\n",
    "dies": "import os, sys; print('last words', flush=True); os._exit(3)\n",
    "crashes": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)\n",
    "interrupts": "raise KeyboardInterrupt\n",
    "hangs": "import os, time; os.fork(); time.sleep(3600)\n",
    "closes": "import os; os.closerange(0, 100); import time; time.sleep(3600)\n",
}
GOOD_ONES = ["good", "imported", "leaf", "noisy", "dash-ed", "static", "reads_env", "thread", "echo"]
FAULTS = {
    "missing_one": "handlers/missing_one.py does not exist (make it, with one subclass of BaseWorker)",
    "goood": "handlers/goood.py does not exist (did you mean good?)",
    "base": "base is the runtime's own module (give the worker another name)",
    "runtime": "runtime is the runtime's own module (give the worker another name)",
    "../etc": "'../etc' is no module name (the file's name, without folder and .py)",
    "": "'' is no module name (the file's name, without folder and .py)",
    "syntax": "handlers/syntax.py:2: SyntaxError: invalid syntax (correct that line)",
    "tabs": "handlers/tabs.py:3: ",
    "needs": "handlers/needs.py:2: No module named 'no_such_thing' (install it where the daemon runs, or put it into ",
    "raises": "handlers/raises.py:3: ValueError: two lines (a worker module must import without errors)",
    "deep": "handlers/helper.py:2: ZeroDivisionError: division by zero (a worker module must import without errors)",
    "none": "handlers/none.py: no subclass of BaseWorker is defined here (class None(BaseWorker): …",
    "only_imported": "handlers/only_imported.py: no subclass of BaseWorker is defined here (class OnlyImported",
    "two": "handlers/two.py: 2 workers, Good, Other (one in each module)",
    "abstract": "Work has no process_message (write process_message(self, ch, method, properties, body))",
    "asynchronous": "Good.process_message is async or yields (a plain def; asyncio.run() inside it)",
    "few": "Good.process_message has other parameters (self, ch, method, properties, body)",
    "init": "Good.__init__ has other parameters (self, channel, queue_name)",
    "exits": "handlers/exits.py:1: it ends the process at import (no exit at module level)",
    "dies": "dies: importing it ends the process (no exit at module level)",
    "crashes": "crashes: importing it ends the process with SIGSEGV (see the traceback)",
    "interrupts": "handlers/interrupts.py:1: KeyboardInterrupt:  (a worker module must import without errors)",
    "hangs": "hangs: importing it took longer than 1.5 s (no slow work at module level)",
    "closes": "closes: importing it ends the process",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "handlers"
    made.mkdir()
    for name, source in MODULES.items():
        (made / f"{name}.py").write_text(dedent(source))
    return made


def check(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", str(ENTRY), "check"],
        input=text,
        env={"WORKERS_FOLDER": str(folder), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=110,
    )


def verdicts(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def item(name: str) -> dict[str, Any]:
    env = {"NEEDED": "1"} if name == "reads_env" else {}
    return {"module": name, "env": env, "timeout": 1.5} if name == "hangs" else {"module": name, "env": env}


def test_every_module_gets_its_own_verdict_in_order(folder: Path) -> None:
    names = [*GOOD_ONES, *FAULTS]
    answers = verdicts(check(folder, json.dumps([item(name) for name in names])))
    assert [answer["module"] for answer in answers] == names
    for answer in answers:
        expected = FAULTS.get(answer["module"])
        assert answer["ok"] is (expected is None), answer
        assert (answer["error"] or "").startswith(expected or ""), answer
        assert "\n" not in (answer["error"] or "")
    tails = {answer["module"]: answer["traceback_tail"] for answer in answers}
    assert tails["deep"].splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert "importlib" not in tails["deep"]
    assert "loader.py" not in tails["deep"]
    assert "last words" in tails["dies"]
    assert tails["good"] == tails["abstract"] == ""


def test_lines_instead_of_an_array_and_nothing_at_all(folder: Path) -> None:
    answers = verdicts(check(folder, '{"module": "good"}\n\n{"module": "two", "env": null}\n'))
    assert [answer["ok"] for answer in answers] == [True, False]
    assert verdicts(check(folder, "")) == []


@pytest.mark.parametrize("text", ["nonsense", "[1]", '[{"env": {}}]', '{"module": "good", "timeout": "long"}'])
def test_bad_input_is_one_line_on_stderr(folder: Path, text: str) -> None:
    done = check(folder, text)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def test_a_hundred_modules_cost_little(folder: Path) -> None:
    """In seconds of a core: how long it takes depends on who else is there."""
    check(folder, "")
    before = os.times()
    assert all(answer["ok"] for answer in verdicts(check(folder, json.dumps([{"module": "good"}] * 100))))
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert 0 < spent < 15
