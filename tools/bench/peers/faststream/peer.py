"""Two hops with faststream and faststream-outbox; see ../README.md. The library has no inbox: it is a table written in the consumer's transaction."""

import asyncio
import json
import logging
import os
import time
import uuid

from faststream.rabbit import Channel, RabbitBroker, RabbitQueue
from faststream_outbox import OutboxBroker, make_outbox_table
from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import create_async_engine

EVENTS = int(os.environ["EVENTS"])
AT_ONCE = 16
RELAY = {"max_workers": 16, "fetch_batch_size": 200, "min_fetch_interval": 0.01, "max_fetch_interval": 0.05, "terminal_flush_batch_size": 100}

engine = create_async_engine("postgresql+asyncpg://" + os.environ["DATABASE_URL"].split("://", 1)[1], pool_size=72)
metadata = MetaData()
outbox = OutboxBroker(engine, outbox_table=make_outbox_table(metadata), logger=None)
rabbit = RabbitBroker(os.environ["AMQP_URL"], default_channel=Channel(prefetch_count=64), logger=None)


@rabbit.publisher("one", persist=True)
@outbox.subscriber("to_one", **RELAY)
async def relay_one(body: dict) -> dict:
    return body


@rabbit.publisher("two", persist=True)
@outbox.subscriber("to_two", **RELAY)
async def relay_two(body: dict) -> dict:
    return body


async def is_new(conn, body: dict, hop: str) -> bool:
    noted = await conn.execute(text("insert into inbox values (:id) on conflict do nothing"), {"id": f"{hop} {body['id']}"})
    return noted.rowcount == 1


@rabbit.subscriber(RabbitQueue("one", declare=False))
async def first(body: dict) -> None:
    async with engine.begin() as conn:
        if await is_new(conn, body, "one"):
            await conn.execute(text("insert into first values (:id)"), {"id": body["id"]})
            await outbox.publish(body, queue="to_two", session=conn)


@rabbit.subscriber(RabbitQueue("two", declare=False))
async def second(body: dict) -> None:
    async with engine.begin() as conn:
        if await is_new(conn, body, "two"):
            await conn.execute(text("insert into second values (:id)"), {"id": body["id"]})


async def place(numbers) -> None:
    for _ in numbers:
        async with engine.begin() as conn:
            order = str(uuid.uuid4())
            await conn.execute(text("insert into placed values (:id)"), {"id": order})
            await outbox.publish({"id": order}, queue="to_one", session=conn)


async def main() -> None:
    async with engine.begin() as conn:
        await conn.run_sync(metadata.create_all)
        await conn.execute(text("create table inbox (id text primary key)"))
    await rabbit.start()
    await outbox.start()
    begin = time.monotonic()
    numbers = iter(range(EVENTS))
    await asyncio.gather(*(place(numbers) for _ in range(AT_ONCE)))
    async with engine.connect() as conn:
        while (await conn.execute(text("select count(*) from second"))).scalar() < EVENTS:
            await conn.rollback()
            await asyncio.sleep(0.02)
    print(json.dumps({"per_second": EVENTS / (time.monotonic() - begin)}), flush=True)
    await outbox.stop()
    await rabbit.stop()


logging.disable(logging.INFO)
asyncio.run(main())
