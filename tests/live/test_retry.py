"""The whole system: what fails comes back after its delays, ends with the dead letters, and goes back when asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from tests.live.sites import Site, end, site_on
from tests.nodes import TestNode
from tests.waiting import eventually

RETRY = "retry: {attempts: 3, delays: [300ms, 900ms]}"

# Notes each try in $OUT/tries, and does what the message says.
MOODY = """\
import os
import time
from pathlib import Path

from .base import BaseWorker


class Moody(BaseWorker):
    def process_message(self, ch, method, properties, body):
        kind, name = body.decode().split()
        attempt = (properties.headers or {}).get("x-reconciler-attempt", 0)
        came = (properties.headers or {}).get("x-death") or [{"queue": "-"}]
        with open(Path(os.environ["OUT"]) / "tries", "a") as file:
            file.write(f"{name} {attempt} {time.time()} {came[0]['queue']}\\n")
        if kind == "bad" or (kind == "shaky" and attempt < 2):
            raise LookupError(f"no {name}")
        return True
"""

# Another program's consumer: it rejects everything, and knows nothing of retries.
REJECTING = """\
import os, pika
channel = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"])).channel()
channel.basic_qos(prefetch_count=1)
def reject(ch, method, properties, body):
    attempt = (properties.headers or {}).get("x-reconciler-attempt", 0)
    with open(os.environ["OUT"] + "/tries", "a") as file:
        file.write(f"{body.decode()} {attempt} 0 {method.routing_key}\\n")
    ch.basic_reject(method.delivery_tag, requeue=False)
channel.basic_consume(os.environ["QUEUE_NAME"], reject)
print("ready", flush=True)
import socket
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"].replace("@", "\\0", 1))
channel.start_consuming()
"""


@pytest.fixture
def site(broker: TestNode, tmp_path: Path) -> Iterator[Site]:
    with site_on(broker, tmp_path) as made:
        made.worker("moody", MOODY)
        yield made


def noted(site: Site) -> list[list[str]]:
    """The words of each line that is whole."""
    path = site.out / "tries"
    return [line.split() for line in path.read_text().rpartition("\n")[0].splitlines()] if path.exists() else []


def tries(site: Site) -> list[tuple[str, int, float]]:
    """Each try: of which message, how often it had failed before, and when."""
    return [(name, int(attempt), float(at)) for name, attempt, at, _ in noted(site)]


def looked(site: Site, queue: str = "orders", count: int | None = None) -> dict[str, Any]:
    """The dead letters, once there are so many."""

    def look() -> dict[str, Any]:
        answer = site.get(f"/queue/dead-letters/{queue}")
        assert answer.status_code == 200, answer.text
        assert count is None or answer.json()["count"] == count, answer.json()
        return dict(answer.json())

    return eventually(look, within=60)


def counts(site: Site, *queues: str) -> list[int]:
    with pika.BlockingConnection(pika.URLParameters(site.vhost.amqp_url)) as connection:
        channel = connection.channel()
        return [channel.queue_declare(queue, passive=True).method.message_count for queue in queues]


def bodies(site: Site, queue: str) -> list[str]:
    """Takes what is ready, until the broker says that there is no more."""
    found = []
    with pika.BlockingConnection(pika.URLParameters(site.vhost.amqp_url)) as connection:
        channel = connection.channel()
        while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
            found.append(got[2].decode())
    return found


def lay(site: Site, ids: list[str], source: str = "orders", to: str = "orders.dead") -> None:
    """Dead letters, as the runtime lays them aside."""
    connection = pika.BlockingConnection(pika.URLParameters(site.vhost.amqp_url))
    channel = connection.channel()
    channel.tx_select()
    for name in ids:
        headers = {"x-reconciler-queue": source, "x-reconciler-reason": "rejected", "x-reconciler-attempt": 3}
        properties = pika.BasicProperties(message_id=name, delivery_mode=2, headers=headers)
        channel.basic_publish("", to, name.encode(), properties)
    channel.tx_commit()
    connection.close()


def test_from_the_first_failure_to_the_way_back(site: Site) -> None:
    site.write(f"version: 1\nqueues:\n  orders: {{type: quorum, {RETRY}, workers: {{moody: 2}}}}\n")
    site.start()
    site.settled()
    site.send("orders", ["bad a", "shaky b", "good c", "bad d"])
    found = looked(site, count=2)
    (group,) = found["groups"]
    assert (group["reason"], group["exception"], group["worker_name"]) == ("rejected", "LookupError", "moody")
    sample = group["sample"]
    assert sample["body"].startswith("bad ")
    assert sample["exception_message"] == "no " + sample["body"].split()[1]
    assert sample["traceback"].startswith("Traceback")
    assert sample["attempt"] == 3

    def all_tried() -> bool:
        """Also the last try of the one that succeeds in the end."""
        found = [[n for which, n, _ in tries(site) if which == name] for name in "abcd"]
        assert found == [[0, 1, 2], [0, 1, 2], [0], [0, 1, 2]], found
        return True

    eventually(all_tried)
    assert [came for name, *_, came in noted(site) if name == "a"] == ["-", "orders.retry.300ms", "orders.retry.900ms"]
    first, second, third = (at for name, _, at in tries(site) if name == "a")
    assert second - first >= 0.3
    assert third - second >= 0.9
    # What was only looked at comes back to the queue a moment later.
    eventually(lambda: "LookupError: no " in site.cli("dead-letters", "orders").stdout)

    assert site.cli("redrive", "orders").returncode == 1  # neither ids nor --all

    def rehearsed() -> bool:
        found = site.post("/queue/redrive/orders", {"all": True, "dry_run": True}, wait=60).json()
        return (found["moved"], found["left"]) == (2, 0)

    eventually(rehearsed)
    eventually(lambda: counts(site, "orders.dead") == [2])
    text = site.text
    moved = site.cli("redrive", "orders", "--all")
    assert (moved.returncode, moved.stdout) == (0, "2 moved (2 to orders)\n")
    assert site.text == text
    eventually(lambda: len(tries(site)) == 10 + 6)  # they fail again, with all their attempts
    assert looked(site, count=2)["groups"][0]["sample"]["redriven"] == 1


def test_what_another_program_rejects_is_retried_as_often(site: Site) -> None:
    script = site.folder / "rejecting.py"
    script.write_text(REJECTING)
    command = json.dumps([sys.executable, str(script)])
    site.write(
        f"version: 1\nqueues:\n  orders:\n    {RETRY}\n    dead_letter: lost\n"
        f"    workers: {{foreign: {{command: {command}}}}}\n"
    )
    site.start()
    site.settled()
    site.send("orders", ["a", "b"])
    (group,) = looked(site, count=2)["groups"]
    assert (group["reason"], group["exception"], group["sample"]["attempt"]) == ("rejected", None, 3)
    assert sorted((name, n) for name, n, _ in tries(site)) == [(name, n) for name in "ab" for n in (0, 1, 2)]
    eventually(lambda: counts(site, "orders", "orders.rejected", "lost") == [0, 0, 2])


def test_killed_workers_and_a_killed_daemon_lose_no_failure(site: Site) -> None:
    site.write(f"version: 1\nqueues:\n  orders: {{{RETRY}, workers: {{moody: 3}}}}\n")
    site.start()
    site.settled()
    names = [f"m{n}" for n in range(60)]
    site.send("orders", [f"bad {name}" for name in names])
    for least in (10, 60, 100):
        eventually(lambda least=least: len(tries(site)) >= least)
        end([next(iter(eventually(site.pids)))])
        if least == 60:
            site.kill()
            site.start()
    eventually(lambda: counts(site, "orders.dead")[0] >= 60, within=60)
    found = looked(site)
    assert all(group["sample"]["attempt"] == 3 for group in found["groups"])
    dead: set[str] = set()

    def all_are_dead() -> bool:
        """One that was with a worker that was killed may be there twice before another is there once."""
        dead.update(body.split()[1] for body in bodies(site, "orders.dead"))
        assert dead == set(names), set(names) - dead
        return True

    eventually(all_are_dead, within=60)


def test_a_redrive_with_the_daemon_killed_midway(site: Site) -> None:
    site.write(f"version: 1\nqueues:\n  orders: {{{RETRY}}}\n")
    site.start()
    site.settled()
    names = [f"m{n:04}" for n in range(2000)]
    lay(site, names)
    answer = site.post("/queue/redrive/orders", {"all": True, "rate": 50}, wait=0)  # so slow that it is found midway
    assert (answer.status_code, answer.json()["converged"]) == (202, False)
    assert site.post("/queue/redrive/orders", {"all": True}).status_code == 409
    eventually(lambda: site.status()["redrives"]["orders.dead"]["moved"] > 100)
    site.kill()
    eventually(lambda: sum(counts(site, "orders", "orders.dead")) >= 2000)
    assert counts(site, "orders.dead")[0] > 0
    site.start()
    answer = site.post("/queue/redrive/orders", {"all": True}, wait=60)
    assert (answer.status_code, answer.json()["left"], answer.json()["converged"]) == (200, 0, True)
    assert counts(site, "orders.dead") == [0]
    assert set(bodies(site, "orders")) == set(names)


def test_delays_change_in_place_and_old_ones_go_when_they_are_empty(site: Site) -> None:
    site.write("version: 1\nqueues:\n  orders: {retry: {attempts: 2, delays: [10s]}, workers: {moody: 1}}\n")
    site.start()
    site.settled()
    site.send("orders", ["bad a"])
    eventually(lambda: len(tries(site)) == 1)  # the other delays are in force long before the next
    site.write("version: 1\nqueues:\n  orders: {retry: {attempts: 3, delays: [200ms]}, workers: {moody: 1}}\n")
    looked(site, count=1)
    assert [n for _, n, _ in tries(site)] == [0, 1, 2]
    eventually(lambda: site.queues() == {"orders", "orders.dead", "orders.rejected", "orders.retry.200ms"})
    site.settled()


def test_a_queue_goes_after_what_comes_back_to_it(site: Site) -> None:
    site.write("version: 1\nqueues:\n  orders: {retry: {attempts: 2, delays: [12s]}, workers: {moody: 1}}\n")
    site.start()
    site.settled()
    site.send("orders", ["bad a"])
    eventually(lambda: counts(site, "orders.retry.12s") == [1])
    site.write("version: 1\nqueues: {}\n")
    eventually(lambda: "come back to it" in json.dumps(site.status()["held"]))
    eventually(lambda: counts(site, "orders") == [1], within=60)  # nothing is lost: it is back
    assert "orders" in site.queues()
    assert bodies(site, "orders") == ["bad a"]
    eventually(lambda: site.queues() == set(), within=60)


def test_what_was_rejected_comes_back_when_the_retry_is_taken_out(site: Site) -> None:
    site.write("version: 1\nqueues:\n  orders: {retry: {attempts: 5, delays: [1s]}}\n  other: {}\n")
    site.start()
    site.settled()
    site.stop()
    site.send("orders.rejected", ["a", "b"])
    site.write("version: 1\nqueues:\n  other: {}\n")
    site.start()
    eventually(lambda: counts(site, "orders", "orders.rejected") == [2, 0], within=60)
    assert sorted(bodies(site, "orders")) == ["a", "b"]
    eventually(lambda: site.queues() == {"other"}, within=60)


def test_bad_questions_are_answered(site: Site) -> None:
    site.write(f"version: 1\nqueues:\n  orders: {{{RETRY}}}\n  plain: {{}}\n")
    site.start()
    site.settled()
    assert site.get("/queue/dead-letters/nobody").status_code == 404
    assert "no dead-letter queue" in site.get("/queue/dead-letters/plain").json()["error"]
    assert site.get("/queue/redrive/orders").status_code == 404
    assert site.get("/queue/dead-letters/orders", limit="x").status_code == 400
    for body in (
        {},
        {"all": False},
        {"all": True, "message_ids": ["x"]},
        {"all": 1},
        {"message_ids": []},
        {"message_ids": [7]},
        {"all": True, "rate": 0},
        {"all": True, "rate": "fast"},
        {"all": True, "speed": 1},
    ):
        assert site.post("/queue/redrive/orders", body).status_code == 422, body
    for implied in ("orders.dead", "orders.rejected", "orders.retry.300ms"):
        assert "of orders" in site.delete(implied).json()["error"]
    done = site.post("/queue/redrive/orders", {"message_ids": ["x"]}, wait=60).json()
    assert (done["moved"], done["left"]) == (0, 1)
    assert done["why"][0]["message_ids"] == ["x"]


def test_queues_that_are_only_called_so_keep_their_messages(site: Site) -> None:
    """Of the user's own, and where others are dead-lettered: what is in them is nobody's to send back."""
    own = "  pay: {}\n  pay.rejected: {}\n"
    site.write(f"version: 1\nqueues:\n{own}  own: {{dead_letter: own.rejected}}\n  other: {{}}\n")
    site.start()
    site.settled()
    site.send("pay.rejected", ["a", "b"])
    site.send("own.rejected", ["c"])
    site.write("version: 1\nqueues:\n  pay: {}\n  own: {}\n  other: {}\n")
    eventually(lambda: {"pay.rejected", "own.rejected"} <= {held["queue"] for held in holds(site)}, within=60)
    number = site.status()["last_reconcile"]["at"]
    eventually(lambda: site.post("/sync", wait=1) and site.status()["last_reconcile"]["at"] != number)
    assert counts(site, "pay", "pay.rejected", "own", "own.rejected") == [0, 2, 0, 1]


def holds(site: Site) -> list[dict[str, Any]]:
    return list((site.status()["held"] or {"actions": []})["actions"])


@pytest.mark.parametrize("taken", ["q.rejected", "q.retry.100ms"])
def test_dead_letters_go_nowhere_where_they_would_be_tried_again(site: Site, taken: str) -> None:
    site.write(f"version: 1\nqueues:\n  q: {{retry: {{attempts: 2, delays: [100ms]}}, dead_letter: {taken}}}\n")
    answer = site.cli("validate")
    assert answer.returncode == 1
    assert "messages that are to be tried again go there (name another)" in answer.stdout + answer.stderr


def test_publish_refuses_headers_over_which_rabbitmq_would_close(site: Site) -> None:
    site.write("version: 1\nqueues:\n  q: {}\n")
    site.start()
    site.settled()
    for headers in ({"CC": "x"}, {"BCC": 5}, {"CC": None}, {"a": [1] * 33_000}):
        answer = site.post("/queue/publish/q", {"message": 1, "headers": headers})
        assert answer.status_code == 422, answer.text
    assert site.post("/queue/publish/q", {"message": 1, "headers": {"CC": ["q"]}}).status_code == 200
