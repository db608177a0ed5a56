"""What the contenders of ctr.py and topk.py share: read a command a line, answer a line of JSON; sleep in
between."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from typing import Any


def serve(contender: type) -> None:
    """sys.argv[1] is JSON: what the contender takes. Commands: {"steps": N}, {"evaluate": true}, and {"call":
    METHOD, ...} with its arguments; a method may know its seconds itself.

    Whatever the contender prints goes to standard error; answers go to the real standard output.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    asked = json.loads(sys.argv[1])
    if asked.pop("matmul", None):
        import torch

        torch.set_float32_matmul_precision("medium")
    runner = contender(**asked)
    say(answers, {"facts": getattr(runner, "facts", {})})
    for line in sys.stdin:
        command = json.loads(line)
        since, used = time.perf_counter(), time.process_time()
        if "call" in command:
            found = getattr(runner, command.pop("call"))(**command)
            took = {"seconds": time.perf_counter() - since, "cpu_s": time.process_time() - used}
            say(answers, {**took, "peak_mib": peak_mib(), **found})
        elif "steps" in command:
            parts = runner.steps(command["steps"])
            say(answers, {"seconds": time.perf_counter() - since, **parts})
        else:
            from sklearn.metrics import roc_auc_score

            scores, labels = runner.scores()
            seconds = time.perf_counter() - since
            auc = float(roc_auc_score(labels, scores))
            say(answers, {"seconds": seconds, "auc": auc, "peak_mib": peak_mib()})


def peak_mib() -> float:
    """Most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def say(answers: Any, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
