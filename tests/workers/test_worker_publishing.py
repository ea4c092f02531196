"""Publishing from a handler: confirmed, never at the cost of the message in hand."""

from __future__ import annotations

from tests.workers.worker_bench import VERBS, Bench, Proxy, until

PUBLISH = "ch.basic_publish('', 'out', b'{}')"


def test_it_returns_once_the_broker_has_it(bench: Bench) -> None:
    bench.queue()
    bench.queue("out")
    one = "import pika; ch.basic_publish('', 'out', 'text', pika.BasicProperties(type='t'), mandatory=True)"
    bench.publish(one, *[PUBLISH.format(n) for n in range(50)])
    worker = bench.start("work", VERBS)
    worker.says("ends ", 51)
    assert bench.count("out") == 51
    assert worker.stop() == 0
    assert bench.take("out") == ["text", *(str(n) for n in range(50))]


def test_what_cannot_be_published_raises_as_in_pika(bench: Bench) -> None:
    bench.queue()
    bench.queue("out")
    bench.queue("full", max_length=0, overflow="reject-publish")
    catch = "import pika.exceptions as e\ntry:\n {}\nexcept {} as error: print('caught', {})"
    bench.publish(
        catch.format(
            "ch.basic_publish('', 'none', b'x', mandatory=True)", "e.UnroutableError", "error.messages[0].body"
        ),
        catch.format("ch.basic_publish('', 'full', b'x')", "e.NackError", "1"),
        catch.format("ch.basic_publish('nowhere', 'x', b'x')", "e.ChannelClosedByBroker", "error.reply_code"),
        catch.format("ch.basic_publish('', 'out', object())", "Exception", "2"),
        catch.format("ch.basic_publish('', 'x' * 300, b'x')", "Exception", "3"),
        PUBLISH.format("after"),
    )
    worker = bench.start("work", VERBS)
    assert worker.says("(?m)^caught (.*)", 5) == ["b'x'", "1", "404", "2", "3"]
    worker.says("ends ", 6)
    assert worker.stop() == 0
    assert bench.take("out") == ["after"]
    assert bench.count() == 0


def test_it_waits_while_the_broker_is_away(bench: Bench, proxy: Proxy) -> None:
    bench.queue("dead")
    bench.queue(dead_letter_exchange="", dead_letter_routing_key="dead")
    bench.queue("out")
    wait = "Path('here').touch(); [time.sleep(0.02) for _ in iter(Path('go').exists, True)]; "
    bench.publish(wait + PUBLISH.format("late"))
    worker = bench.start("work", VERBS, AMQP_URL=proxy.url)
    until((bench.root / "here").exists)
    proxy.down()
    (bench.root / "go").touch()
    worker.says("publishing waits: cannot connect")
    proxy.up()
    until(lambda: bench.count("out"))
    worker.says("ends ", 2)  # its own ack came too late, so it was delivered again
    assert worker.stop() == 0
    assert set(bench.take("out")) == {"late"}
    assert bench.count() == bench.count("dead") == 0


def test_a_stop_ends_the_waiting_and_loses_nothing(bench: Bench, proxy: Proxy) -> None:
    bench.queue("dead")
    bench.queue(dead_letter_exchange="", dead_letter_routing_key="dead")
    wait = "Path('here').touch(); [time.sleep(0.02) for _ in iter(Path('go').exists, True)]; "
    bench.publish(wait + PUBLISH.format("never"))
    worker = bench.start("work", VERBS, AMQP_URL=proxy.url)
    until((bench.root / "here").exists)
    proxy.down()
    (bench.root / "go").touch()
    worker.says("publishing waits")
    assert worker.stop() == 0
    assert "and this worker is told to stop" in worker.log
    until(lambda: bench.count() == 1)
    assert bench.count("dead") == 0


def test_anything_else_is_refused_with_the_way_out(bench: Bench) -> None:
    bench.queue()
    bench.publish("ch.queue_declare('x')", "ch.basic_qos(prefetch_count=1)", "ch.nonsense")
    worker = bench.start("work", VERBS)
    worker.says("channel has no queue_declare: workers do not declare: list it in queues.yaml")
    worker.says("channel has no basic_qos: set `prefetch` of the worker in queues.yaml")
    worker.says("channel has no nonsense: it has basic_ack, basic_nack, basic_reject, basic_publish and is_open")
