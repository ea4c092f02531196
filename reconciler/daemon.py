"""The daemon: puts the parts together, keeps them running in one asyncio loop, and takes them down in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from loguru import logger as log

from reconciler import renewal
from reconciler.broker.broker import Broker
from reconciler.broker.embedded import EmbeddedBroker
from reconciler.broker.keeper import keep
from reconciler.broker.listener import Listener
from reconciler.deadletters import Desk
from reconciler.events import Events
from reconciler.intake import Intake
from reconciler.loop import Loop
from reconciler.migration import Migrations
from reconciler.modules import Modules
from reconciler.pauses import Pauses
from reconciler.plan import Result
from reconciler.presence import CannotStart, announce, only_one, withdraw
from reconciler.privacy import kept_private
from reconciler.recorder import Recorder
from reconciler.scout import Scout
from reconciler.settings import Runtime, Settings
from reconciler.source import source_of
from reconciler.stopping import Stop
from reconciler.supervisor import Event, Supervisor
from reconciler.turn import Turn
from reconciler.watch import Watch
from reconciler.web.app import create_app
from reconciler.web.context import Context
from reconciler.web.server import Server, listen, url_of
from state.file import DesiredFile, sweep_atomic
from state.history import History
from state.ledger import Ledger, shape_of

# Changes of a worker that a turn has to see at once; the others only change what the next turn sees.
NEWS = ("ready", "unready", "exited", "backoff", "fatal", "stopped", "adopted")


@dataclass(frozen=True)
class BrokerAt:
    """Where the broker is: given by the user, or embedded."""

    amqp_url: str
    management_url: str | None
    node: EmbeddedBroker | None = None


def run(settings: Settings) -> None:
    """Runs until SIGINT or SIGTERM, then drains and stops everything that it started. Raises CannotStart.

    On SIGHUP it lets go of everything and executes itself anew, in the same process.
    """
    inherited = renewal.inherited_listener()
    with only_one(settings), contextlib.closing(inherited or listen(settings)) as listener:
        renewed = inherited is not None
        while (stop := run_once(settings, listener, renewed)).renew:
            if stop.after_all:  # this thread holds it back: it is for the new program, which has the workers
                signal.pthread_kill(threading.get_ident(), stop.after_all)
            try:
                renewal.execute(listener)
            except OSError as error:
                log.error("it goes on as it is, because the program on disk does not start: {}", error)
                renewed = True


def run_once(settings: Settings, listener: socket.socket, renewed: bool) -> Stop:
    with kept_private():
        return asyncio.run(_run(settings, listener, renewed))


async def _run(settings: Settings, listener: socket.socket, renewed: bool) -> Stop:
    stop = Stop(leave=settings.on_exit == "leave", renewed=renewed)
    async with contextlib.AsyncExitStack() as stack:
        at = await stack.enter_async_context(broker_at(settings, stop))
        if stop.takes_over or not stop.asked.is_set():
            await serve(settings, at, listener, stop)
    return stop


@contextlib.asynccontextmanager
async def broker_at(settings: Settings, stop: Stop) -> AsyncIterator[BrokerAt]:
    """The user's broker, or the embedded one, which is started here and stopped at the end."""
    if settings.amqp_url is not None:
        yield BrokerAt(settings.amqp_url, settings.management_url)
        return
    node = EmbeddedBroker(settings.broker_folder)
    starting = asyncio.create_task(node.start(log.info))
    asked = asyncio.create_task(stop.asked.wait())
    try:
        await asyncio.wait({starting} if stop.takes_over else {starting, asked}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
        yield BrokerAt(node.amqp_url, node.management_url, node) if starting.done() else BrokerAt("", None)
    finally:
        asked.cancel()
        starting.cancel()
        await asyncio.wait({starting})
        if not stop.leave:
            log.info("stopping the embedded broker")
            await node.stop()


async def serve(settings: Settings, at: BrokerAt, listener: socket.socket, stop: Stop) -> None:
    """Everything between the broker being there and the last worker being gone."""
    context, supervisor, watch = assemble(settings, at)
    loop = context.loop
    await supervisor.start()
    renewal.look_after(stop.left, supervisor.children, asyncio.get_running_loop())
    server = Server(create_app(context))
    running = [
        asyncio.create_task(loop.run(), name="the loop"),
        asyncio.create_task(watch.run(), name="the watch on the file"),
        asyncio.create_task(context.source.run(), name="the file's source"),
        asyncio.create_task(context.recorder.run(), name="the history"),
        asyncio.create_task(Listener(at.amqp_url, loop.hear).run(), name="the listener to the broker's events"),
        asyncio.create_task(Scout(loop, context.events).run(), name="the watch on autoscaled queues"),
        asyncio.create_task(server.serve(sockets=[listener.dup()]), name="the web server"),
    ]
    if at.node is not None:
        told = partial(tell_broker, context)
        running.insert(0, asyncio.create_task(keep(at.node, told), name="the watch on the embedded broker"))
    url = url_of(listener)
    announcing = asyncio.create_task(announce(settings, url, at.amqp_url, at.management_url), name="the announcement")
    log.info("{} → {}", settings.file, url)
    try:
        await until_stopped(stop, running)
    finally:
        announcing.cancel()
        if not stop.renew:
            withdraw(settings)
        context.stopping.set()
        server.leave()
        for task in running[:-1]:
            task.cancel()
        if stop.leave:
            supervisor.leave()
        else:
            await drain(supervisor, stop)
        await asyncio.wait(running, timeout=5)
        await context.recorder.settle()
        await context.modules.close()
        await context.desk.close()
        if loop.migrations is not None:
            await loop.migrations.close()
        await loop.broker.close()


def assemble(settings: Settings, at: BrokerAt) -> tuple[Context, Supervisor, Watch]:
    events = Events()
    runtime = Runtime(settings.workers, at.amqp_url)
    file = DesiredFile(settings.file)
    sweep(file, settings)

    def on_worker(event: Event) -> None:
        where = f"{event.pool}[{event.slot}]"
        text = f"{where} {event.kind}" + (f": {event.text}" if event.text else "")
        events.tell("worker", text, queue=event.pool.queue, worker=event.pool.worker, slot=event.slot, pid=event.pid)
        log.log("WARNING" if event.kind in ("backoff", "fatal") else "DEBUG", "{}", text)
        if event.kind == "exited" and event.pid is not None:
            context.metrics.ended(supervisor.find(event.pid))
        if event.kind in NEWS:
            loop.wake("exit")

    try:
        broker = Broker(at.amqp_url, at.management_url, on_lost=lambda: loop.wake("resync"))
    except ValueError as error:
        raise CannotStart(f"AMQP_URL or MANAGEMENT_URL is not usable: {error}") from None
    supervisor = Supervisor(settings.state, on_worker)
    modules = Modules(runtime, on_verdict=lambda: loop.wake("file"))
    ledger = Ledger.load(settings.state / "ledger.json")
    if ledger.broken:
        log.error("{}", ledger.broken)
    recorder = Recorder(History(settings.state / "history"))
    source = source_of(settings, file, recorder.note, recorder.history, events, on_news=lambda: loop.wake("file"))
    recorder.source = source
    watch = Watch(settings.file, settings.workers, lambda: context.file_changed(), lambda: modules.folders)
    intake = Intake(file, modules, settings.state / "last-good.yaml", source.admits, watch.look)
    pauses = Pauses(settings.state / "pauses.json")
    migrations = Migrations(
        settings.state / "migrations",
        broker,
        workers=lambda queue: sum(worker.pool.queue == queue for worker in supervisor.observe()),
        told=lambda queue, text: tell_migration(events, queue, text),
        wake=lambda: loop.wake("resync"),
        replaced=lambda record: ledger.reshape(
            record.broker, record.name, shape_of(record.wanted.type, record.wanted.durable, record.wanted.arguments)
        ),
    )
    loop = Loop(intake, broker, supervisor, ledger, runtime, events, settings.resync, pauses, migrations)
    context = Context(settings, file, loop, modules, events, source, recorder, Desk(at.amqp_url, events))

    def on_turn(turn: Turn, results: list[Result]) -> None:
        context.metrics.turned(turn, results)
        recorder.turned(turn, results)
        desired = turn.reading.in_force.desired
        owned = ledger.owned(turn.broker.identity) if turn.broker else {}
        going = {name for name, ours in owned.items() if ours.counts} - desired.all_queues().keys()
        context.desk.follow(desired, {name: turn.queues[name].messages for name in going & turn.queues.keys()})

    loop.observer = on_turn
    return context, supervisor, watch


def sweep(file: DesiredFile, settings: Settings) -> None:
    """What a process that was killed while it wrote has left behind."""
    try:
        file.sweep()
        sweep_atomic(settings.state)
    except FileNotFoundError:  # a folder that is not there yet
        pass
    except OSError as error:
        log.warning("temporary files that a killed process left behind stay: {}", error)


def tell_migration(events: Events, queue: str, text: str) -> None:
    log.info("queue {}: {}", queue, text)
    events.tell("migration", f"queue {queue}: {text}", queue=queue)


def tell_broker(context: Context, text: str, *, well: bool = False) -> None:
    (log.info if well else log.error)("{}", text)
    context.events.tell("broker", text)
    if well:
        context.loop.wake("resync")


async def until_stopped(stop: Stop, running: list[asyncio.Task[None]]) -> None:
    """Returns when asked to stop. Raises if a part ends by itself: half a daemon must not go on."""
    asked = asyncio.create_task(stop.asked.wait())
    try:
        done, _ = await asyncio.wait({asked, *running}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        asked.cancel()
    for task in done - {asked}:
        raise CannotStart(f"{task.get_name()} ended by itself: {task.exception() or 'no reason given'}")


async def drain(supervisor: Supervisor, stop: Stop) -> None:
    closing = asyncio.create_task(supervisor.close())
    hurry = asyncio.create_task(stop.hurry.wait())
    await asyncio.wait({closing, hurry}, return_when=asyncio.FIRST_COMPLETED)
    hurry.cancel()
    if not closing.done():
        await supervisor.close(0)
    await closing
