"""A cluster of three nodes loses the one that leads: no message is lost, and everybody comes back by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster import Balancer, Cluster
from tests.live.sites import Site, end, processes_of
from tests.live.test_outages import Load, all_processed, grew
from tests.waiting import eventually

VHOST = "live/cluster"
WORK = "version: 1\nqueues:\n  work:\n    type: quorum\n    delivery_limit: -1\n    workers: {record: 3}\n"


@dataclass(frozen=True)
class Address:
    """Of a virtual host, as a site wants to know it."""

    amqp_url: str
    management_url: str


@pytest.fixture
def site(cluster: Cluster, tmp_path: Path) -> Iterator[Site]:
    """A site, not running yet, behind a balancer."""
    cluster.make_vhost(VHOST)
    with Balancer(cluster.amqp_ports) as amqp, Balancer(cluster.management_ports) as management:
        login = cluster.credentials
        address = Address(
            f"amqp://{login}@127.0.0.1:{amqp.port}/live%2Fcluster", f"http://{login}@127.0.0.1:{management.port}"
        )
        made = Site(tmp_path / "site", address)  # type: ignore[arg-type]
        yield made
        made.stop()
        end(processes_of(made))


@pytest.mark.timeout(900)
def test_the_leader_of_a_queue_is_killed_under_load_and_no_message_is_lost(cluster: Cluster, site: Site) -> None:
    site.write(WORK)
    site.start()
    site.settled(within=60)
    before = site.pids()
    with Load(site.vhost.amqp_url) as load:
        grew(load.confirmed, by=100)
        for _ in range(2):
            leader = cluster.leader_of("work", VHOST)
            cluster.kill(leader)
            grew(load.confirmed, by=100)
            eventually(lambda: site.pids() == before, within=60)
            site.settled(within=60)
            cluster.start_node(leader)
            site.settled(within=60)
        grew(load.confirmed, by=100)
    all_processed(site, load)
    eventually(lambda: site.pids() == before)
    eventually(lambda: site.cli("plan").returncode == 0)
